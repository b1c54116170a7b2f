"""How seconds and memory of ours grow with the work; nobody else's side is measured.

* `completions`: sampling and update of a `ttrl` round as each prompt gets 1, 2, 4 and 8 times `samples` completions;
* `adapters`: 4 to 32 of them trained together, two steps of one sequence each;
* `logits`: an update of a random model with next to no body, as vocabulary and completions grow. What it holds beyond the weights is
  mostly logits, and must stay about constant while all of them would not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Any

from antaeus.bench import adapters as many
from antaeus.bench import ours
from antaeus.bench.work import Turn, Work
from antaeus.bench.worker import Worker
from antaeus.recipes.round import Round
from antaeus.types import Lesson, Practice

if TYPE_CHECKING:
    from antaeus.engine.local import LocalEngine

SIZES = {"prompts": 8, "samples": 4, "tokens": 32}
TIMES = (1, 2, 4, 8)  # as many samples
ADAPTERS, STEPS = (4, 8, 16, 32), 2
VOCABULARIES, LENGTHS, ROWS = (8_192, 32_768, 131_072), (32, 128, 512), 4
Step = Callable[[], Mapping[str, float]]
"""What is timed. Returns the seconds of its parts."""


def planned(work: Work) -> list[tuple[str, dict[str, int]]]:
    """What is measured, in order: a part and its size."""
    return [
        *(("completions", {"samples": work.samples * n}) for n in TIMES),
        *(("adapters", {"adapters": n}) for n in ADAPTERS),
        *(("logits", {"vocabulary": v, "length": n}) for v in VOCABULARIES for n in LENGTHS),
    ]


def growth(work: Work, say: Callable[[str], None]) -> dict[str, Any]:
    """Plain records, a list for each part. `median`, `min` and `max` seconds (all but a warm-up of each size), `each` per completion or
    adapter; `base_mb` held before and `peak_mb` at most, on the GPU if there is one, else of the resident set; `held_mb` between them.
    """
    found: dict[str, list[dict[str, Any]]] = {"completions": [], "adapters": [], "logits": []}
    with closing(Worker("antaeus", grow, work)) as worker:
        for part, size in planned(work):
            for _ in range(work.steps):
                worker.step()
            found[part].append(_row(work, part, size, worker.reports[-work.steps :]))
            say(f"{part} {', '.join(map(str, size.values()))}: {found[part][-1]['median']:.2f} s")
        about = worker.about
    return {"prompts": work.prompts, "samples": work.samples, "tokens": work.tokens, "repeats": work.steps - 1, **about, **found}


def _row(work: Work, part: str, size: Mapping[str, int], reports: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [report["seconds"] for report in reports[1:]]
    base, most = reports[0]["base_mb"], max(report["peak_mb"] for report in reports)
    parts = {name: median(report["parts"][name] for report in reports[1:]) for name in reports[0]["parts"]}
    if part == "completions":
        n = work.prompts * size["samples"]
        own = {"count": n, "parts": parts, "each": median(seconds) / n}
    elif part == "adapters":
        own = {"count": size["adapters"], "steps": STEPS, "rank": many.RANK, "each": median(seconds) / size["adapters"]}
    else:
        own = {"completions": ROWS, "logits_mb": ROWS * size["length"] * size["vocabulary"] * 4 // 10**6}
    times = {"median": median(seconds), "min": min(seconds), "max": max(seconds)}
    return {**size, **own, **times, "base_mb": base, "peak_mb": most, "held_mb": most - base}


def grow(turn: Turn, work: Work) -> None:
    """The worker: each size is made ready, then taken `work.steps` times."""
    import torch

    from antaeus.engine.local import LocalEngine

    engine = LocalEngine(work.model)
    engine._eos = frozenset()  # all completions have the same length
    dtype, device = str(engine.model.dtype).removeprefix("torch."), str(engine.model.device)
    turn.ready(dtype=dtype, device=device, threads=torch.get_num_threads())
    for part, size in planned(work):
        engine.load(None)  # without the optimiser's state of the size before
        step = PARTS[part](engine, work, **size)
        turn.settle()
        for _ in range(work.steps):
            turn.begin()
            turn.end(**step())


def _completions(engine: LocalEngine, work: Work, samples: int) -> Step:
    more, rounds = replace(work, samples=samples), count(1)
    recipe, tasks = more.recipe(), more.tasks()
    return lambda: ours.one_round(engine, recipe, tasks, next(rounds))


def _adapters(engine: LocalEngine, work: Work, adapters: int) -> Step:
    from antaeus.engine.adapters import Adapters

    texts = many.texts(replace(work, prompts=adapters, steps=1), engine.tokenizer)[0]
    together = Adapters(engine, adapters, rank=many.RANK, alpha=2 * many.RANK, targets=many.TARGETS)
    plans = many.plans(texts, STEPS)
    return _whole(lambda: together.train(plans))


def _logits(engine: LocalEngine, work: Work, vocabulary: int, length: int) -> Step:
    """One layer of 16: all but the logits is small. The optimiser's moments are there before it is measured."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from antaeus.engine.forward import Net
    from antaeus.engine.local import MAX_TOKENS
    from antaeus.engine.update import Learner

    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
            num_key_value_heads=1, tie_word_embeddings=True,
        )
    )  # fmt: skip
    learner = Learner(Net(model.to(engine.model.device, engine.model.dtype).eval()), list(model.parameters()))
    ids = torch.randint(vocabulary, (ROWS, length), generator=torch.Generator().manual_seed(0)).tolist()
    lessons = [Lesson(Practice(str(i), ""), (1, 2), tuple(row), 1.0) for i, row in enumerate(ids)]
    how = work.recipe().update(Round(1, 0, engine, work.tasks()))
    learner.step([replace(lessons[0], ids=lessons[0].ids[:2])], how, MAX_TOKENS)
    return _whole(lambda: learner.step(lessons, how, MAX_TOKENS))


def _whole(act: Callable[[], object]) -> Step:
    """A step that has no parts."""

    def step() -> dict[str, float]:
        act()
        return {}

    return step


PARTS = {"completions": _completions, "adapters": _adapters, "logits": _logits}
