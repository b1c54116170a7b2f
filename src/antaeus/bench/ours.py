"""Our side of the comparisons: the stages of a `ttrl` round, as the loop calls them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from antaeus.bench.floor import Shape, floor, matmul_rates, read_rates
from antaeus.bench.work import Turn, Work
from antaeus.recipes.round import Round
from antaeus.recipes.ttrl import TTRL
from antaeus.types import Lesson, Practice, TaskSet

if TYPE_CHECKING:
    import torch

    from antaeus.engine.local import LocalEngine

FAINT = 1e-3  # the advantage of an attempt that would teach nothing: the peer computes it too, so we do


def step(turn: Turn, work: Work) -> None:
    """Rounds of TTRL, each with its parts timed: sample, vote (answers, verdicts, lessons), update."""
    engine, recipe, tasks = _open(turn, work), work.recipe(), work.tasks()
    for round_ in range(1, work.steps + 1):
        turn.begin()
        turn.end(**one_round(engine, recipe, tasks, round_))


def decode(turn: Turn, work: Work) -> None:
    """The first stage of such rounds."""
    engine, recipe, tasks = _open(turn, work), work.recipe(), work.tasks()
    for round_ in range(1, work.steps + 1):
        turn.begin()
        round = Round(round_, 0, engine, tasks)
        recipe.solve(round, recipe.propose(round))
        turn.end()


def update(turn: Turn, work: Work) -> None:
    """Updates on given completions."""
    engine, tasks = _open(turn, work), work.tasks()
    how = work.recipe().update(Round(1, 0, engine, tasks))
    for rows in work.completions(engine.tokenizer):
        lessons = [Lesson(Practice(str(i), ""), *row, 1.0) for i, row in enumerate(rows)]
        turn.begin()
        engine.train(lessons, how)
        turn.end()


def _open(turn: Turn, work: Work) -> LocalEngine:
    """The engine, once it is ready to be measured."""
    import torch

    from antaeus.engine.local import LocalEngine

    engine = LocalEngine(work.model)
    engine._eos = frozenset()  # an end token does not end these completions: all have the same length
    sizes, dtype, device = shape(engine, work), str(engine.model.dtype).removeprefix("torch."), engine.model.device
    rates, memory = matmul_rates(sizes, device), read_rates(sizes, device, dtype)
    turn.ready(
        dtype=dtype, device=str(device), threads=torch.get_num_threads(), prompt_tokens=sizes.prompt_tokens / work.prompts,
        matmul=rates, memory=memory, floor=floor(sizes, rates, memory),
    )  # fmt: skip
    return engine


def one_round(engine: LocalEngine, recipe: TTRL, tasks: TaskSet, round_: int) -> dict[str, float]:
    """Sample, vote, update. Returns the seconds of each."""
    times, round = [time.perf_counter()], Round(round_, 0, engine, tasks)
    groups = recipe.solve(round, recipe.propose(round))
    times.append(time.perf_counter())
    lessons = recipe.learn(round, groups, recipe.verify(round, groups))
    times.append(time.perf_counter())
    trained = engine.train([replace(x, advantage=x.advantage or FAINT) for x in lessons], recipe.update(round))
    times.append(time.perf_counter())
    assert trained.tokens == recipe.prompts * recipe.samples * tasks.max_tokens
    return dict(zip(("sample", "vote", "update"), (b - a for a, b in pairwise(times)), strict=True))


def shape(engine: LocalEngine, work: Work) -> Shape:
    """The sizes of a step, with the first step's prompts."""
    import torch

    config = engine.model.config.get_text_config()
    table, body = engine.model.get_input_embeddings(), engine.model.base_model
    ids = [engine.tokenizer.encode(text) for text in work.texts()[: work.prompts]]
    with torch.inference_mode():
        layers: Any = engine.net.prefill([ids[0]]).cache.layers
    return Shape(
        rows=work.prompts * work.samples, tokens=work.tokens,
        prompt_tokens=sum(map(len, ids)), distinct_prompt_tokens=distinct(ids),
        hidden=config.hidden_size, inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        body=_weights(body) - _weights(table), head=config.vocab_size * config.hidden_size,
        column=sum(t[0, :, 0].numel() for layer in layers for t in (layer.keys, layer.values)),
    )  # fmt: skip


def _weights(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def distinct(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens to read if every common beginning is read once: the nodes of the prompts' prefix tree."""
    return len({tuple(p[: i + 1]) for p in prompts for i in range(len(p))})
