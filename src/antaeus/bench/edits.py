"""How many self-edits are evaluated a minute: our side, and the reckoning of either side.

All edits go through `recipes.study`, as the recipe evaluates them. A turn of either side takes a few steps and, once, all the rest. The
steps of a side are all of one size (one document an adapter), so that an edit's take so many times as long as those that were measured:
80 padded steps would be half an hour for a single edit on two CPU cores. `step_s` and `once_s` are measured, `edit_s` and `per_minute`
multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from antaeus.bench.edit_work import HOW, MAX_TOKENS, QUESTIONS, Edit, edits_of, prompts_of
from antaeus.bench.floor import matmul_rates
from antaeus.bench.ours import distinct, shape
from antaeus.bench.work import Turn, Work
from antaeus.bench.worker import Worker, spread
from antaeus.engine.base import Sampling
from antaeus.errors import UserError
from antaeus.recipes.study import Studied, Study, study

if TYPE_CHECKING:
    from antaeus.engine.local import LocalEngine

TAKEN = 2  # steps of a turn


def together(turn: Turn, work: Work) -> None:
    """All edits at once. Making the adapters counts as training, and so is multiplied."""
    from antaeus.engine.local import LocalEngine

    engine = LocalEngine(work.model)
    edits, taken = edits_of(work, engine.tokenizer), min(TAKEN, work.samples)
    few = [Study(e.documents[:taken], e.questions, replace(HOW, epochs=1, seed=i)) for i, e in enumerate(edits)]
    watched: Any = Watched(unending(engine), turn)
    turn.ready(**_about(engine, work, edits), edits=len(edits), taken=taken)
    for _ in range(work.steps):
        turn.begin()
        require_whole(study(watched, few, Sampling(1, MAX_TOKENS, 0.0), seed="answers"))
        turn.end(**watched.trained())


class Watched:
    """An engine whose adapters' training is timed: of a study, the rest is answering."""

    def __init__(self, engine: LocalEngine, turn: Turn) -> None:
        self._engine, self._turn, self._parts = engine, turn, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def adapters(self, *args: Any, **more: Any) -> Any:
        with self._turn.part("train") as trained:
            made = self._engine.adapters(*args, **more)
        self._parts.append(trained)
        return made

    def trained(self) -> dict[str, float]:
        """Seconds since it was last asked, by the clock and of all threads. A study of more adapters than are held at once has parts."""
        parts, self._parts = self._parts, []
        return {name: sum(part[name] for part in parts) for name in parts[0]}


def require_whole(done: Sequence[Studied]) -> None:
    """Raises `UserError` where an edit was not learned: its questions would have been answered all the same."""
    for each in done:
        if each.failed:
            raise UserError(each.failed)


def unending(engine: LocalEngine) -> LocalEngine:
    """End tokens do not end its answers; they still end documents."""
    from antaeus.engine.decode import Stops

    engine._stops[()] = Stops(engine.tokenizer, frozenset(), ())
    return engine


def _about(engine: LocalEngine, work: Work, edits: Sequence[Edit]) -> dict[str, Any]:
    """What it is, and an edit's giga-operations: forward, and backward to activations alone, of its documents' tokens but the last, which
    is only predicted; forward of its questions, what they begin with in common once, and of the answers."""
    import torch

    sizes, dtype = shape(engine, work), str(engine.model.dtype).removeprefix("torch.")
    documents = [engine.tokenizer.encode(text) for e in edits for text in e.documents]
    prompts = [[engine.tokenizer.encode(text) for text in prompts_of(e)] for e in edits]
    learned = HOW.epochs * sum(map(len, documents)) / len(edits)
    read = sum(map(distinct, prompts)) / len(edits) + QUESTIONS * (MAX_TOKENS - 1)
    return {
        "dtype": dtype, "device": str(engine.model.device), "threads": torch.get_num_threads(),
        "document_tokens": sum(map(len, documents)) / len(documents) + 1,
        "prompt_tokens": sum(len(ids) for row in prompts for ids in row) / len(edits) / QUESTIONS,
        "matmul": matmul_rates(replace(sizes, rows=len(edits) * work.tokens), engine.model.device),
        "floor": {
            "train_gflop": 4 * (sizes.body + sizes.head) * learned / 1e9,
            "answer_gflop": 2 * (sizes.body * read + sizes.head * QUESTIONS * MAX_TOKENS) / 1e9,
        },
    }  # fmt: skip


def reckoned(work: Work, own: Worker, *peers: Worker) -> dict[str, Any]:
    """Plain records: sizes; `ours` and a list of `peers`; the machine's rates (`matmul`), and the `floor`: seconds of an edit's products at
    the best of them, and their `share` of ours. Of a side:
    * measured: `step_s`, seconds of a training step of its `edits` adapters, the mean of `taken` steps; `once_s`, of all else for these;
    * multiplied: `edit_s`, seconds of an edit, (`steps` x `step_s` + `once_s`) / `edits`; `per_minute`; `edit_cpu_s`, by what all threads
      took, which other programs on the machine change less;
    * of a peer `speedup`, its seconds an edit / ours, turn by turn, and `cpu_speedup`, the ratio of `edit_cpu_s`.
    """
    about, steps = dict(own.about), HOW.epochs * work.samples
    matmul, floor = about.pop("matmul"), about.pop("floor")
    mine = _side(own, steps)
    seconds = sum(floor.values()) / max(rate["gflops"] for rate in matmul if rate["dtype"] == about["dtype"])
    return {
        "prompts": work.prompts, "samples": work.samples, "tokens": work.tokens, "repeats": work.steps - 1,
        "epochs": HOW.epochs, "steps": steps, "questions": QUESTIONS, "answer_tokens": MAX_TOKENS,
        **{name: about[name] for name in ("dtype", "device", "threads", "document_tokens", "prompt_tokens")},
        "ours": mine, "peers": [_beside(mine, peer, steps) for peer in peers],
        "matmul": matmul, "floor": {**floor, "edit_s": seconds, "share": seconds / mine["edit_s"]["median"]},
    }  # fmt: skip


def _side(worker: Worker, steps: int) -> dict[str, Any]:
    """All turns but the warm-up."""
    taken, edits, turns = worker.about["taken"], worker.about["edits"], worker.reports[1:]

    def of_an_edit(turn: dict[str, Any], clock: str, train: str) -> float:
        trained = turn["parts"][train]
        return (steps * trained / taken + turn[clock] - trained) / edits

    seconds = [of_an_edit(turn, "seconds", "train") for turn in turns]
    return {
        "edits": edits, "taken": taken,
        "step_s": spread([turn["parts"]["train"] / taken for turn in turns]),
        "once_s": spread([turn["seconds"] - turn["parts"]["train"] for turn in turns]),
        "edit_s": {"each": seconds, **spread(seconds)}, "per_minute": spread([60 / s for s in seconds]),
        "edit_cpu_s": median(of_an_edit(turn, "cpu_seconds", "train_cpu") for turn in turns),
        "peak_rss_mb": worker.reports[-1]["peak_rss_mb"],
    }  # fmt: skip


def _beside(mine: dict[str, Any], peer: Worker, steps: int) -> dict[str, Any]:
    side = _side(peer, steps)
    pairs = zip(mine["edit_s"]["each"], side["edit_s"]["each"], strict=True)
    return {"name": peer.name, **peer.about, **side, "speedup": spread([b / a for a, b in pairs]),
            "cpu_speedup": side["edit_cpu_s"] / mine["edit_cpu_s"]}  # fmt: skip
