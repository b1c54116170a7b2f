"""What the loop writes down: the state between rounds, versions, attempts, events."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from antaeus.engine.base import Engine, Trained
from antaeus.guard import descent
from antaeus.guard.fingerprint import BASE, Registry, short
from antaeus.store.run import RunDir
from antaeus.types import Group, Verdict, Version

CHECKPOINT = "checkpoint"  # the name of its fingerprint
Watch = Callable[[str, Mapping[str, Any]], None]
"""Told what happens: ("start" | "round" | "exam" | "end", what there is to say)."""


@dataclass
class State:
    """What the next round depends on, beside the learner's own state. All of it is JSON."""

    round: int = 0
    best: str = BASE
    best_correct: int = -1
    tokens_sampled: int = 0
    tokens_trained: int = 0
    learn_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)  # the meters of the rounds that led to the policy
    policy: str = BASE  # the version at work: the last round's, or the one that was rolled back to
    parent: str = BASE  # the version that learning set out from, or was last rolled back to
    rollbacks: int = 0
    stopped: str = ""  # why learning ended before its last round: an alarm, or no progress
    known: dict[str, float] = field(default_factory=dict)  # how well anchors were answered, where that is not to be lost
    known_best: dict[str, float] = field(default_factory=dict)  # the same when the best version was looked at
    refused: list[str] = field(default_factory=list)  # versions that were undone, where others may come after them
    survey: dict[str, tuple[str | None, float]] = field(default_factory=dict)  # majority and its share by practice task
    registry: Registry = field(default_factory=Registry)
    hashes: dict[str, str] = field(default_factory=dict)  # of the versions' files, when they were saved

    @property
    def best_round(self) -> int:
        """The round that made the best version."""
        return round_of(self.best)


def version_id(round: int) -> str:
    return f"r{round:03d}" if round else BASE


def round_of(version: str) -> int:
    """The round that made a version."""
    return 0 if version == BASE else int(version[1:])


def keep(engine: Engine, run: RunDir, state: State, base: Path) -> None:
    """Save the policy as a version, with its fingerprint and the hash of its files; the base lies in its own folder."""
    name = state.policy
    state.registry.enter(engine, name)
    parent, path = (None, None) if name == BASE else (state.parent, f"versions/{name}")
    run.add_version(Version(name, parent, engine.kind, round_of(name), path, short(state.registry.versions[name])), engine.save)
    state.hashes[name] = descent.weights_hash(base if name == BASE else run.version(name))
    run.append("versions/sha256.jsonl", {"id": name, "sha256": state.hashes[name]})


def record(
    run: RunDir, round: int, which: str, version: str, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]]
) -> None:
    for group, row in zip(groups, verdicts, strict=True):
        attempts = [
            {"index": a.index, "text": a.text, "answer": a.answer, "stop": a.stop, "tokens": a.cost + v.spent, "verdict": v}
            for a, v in zip(group.attempts, row, strict=True)
        ]
        run.append("attempts.jsonl", {"round": round, "set": which, "version": version, "task": group.task, "attempts": attempts})


def log(
    run: RunDir, watch: Watch, state: State, measured: Mapping[str, float] | None = None, trained: Sequence[Trained] = (),
    anchor: Mapping[str, Any] | None = None, lr: float | None = 0.0, alarms: Sequence[str] = (),
) -> None:  # fmt: skip
    """One line of events.jsonl. Of several updates in a round, the last one's norm and the means of the rest. A loss or norm that
    is not finite, after which the engine leaves the step out, is None and an alarm. `lr` None: of no step on the weights themselves."""
    mean = {k: sum(getattr(t, k) for t in trained) / len(trained) for k in ("loss", "clip_fraction", "kl")} if trained else None
    update = (
        {**mean, "grad_norm": trained[-1].grad_norm, **({} if lr is None else {"lr": lr}), "steps": len(trained)} if mean else {}
    )
    finite = {k: v if math.isfinite(v) else None for k, v in update.items()}
    lost = ["a gradient was not finite: its step was left out"] if None in finite.values() else []
    event = {
        "round": state.round,
        "time_s": round_s(state.learn_s),
        "meters": measured,
        "train": finite or None,
        "anchor": anchor,
        "tokens_sampled": state.tokens_sampled,
        "tokens_trained": state.tokens_trained,
        "alarms": [*alarms, *lost],
    }
    run.append("events.jsonl", event)
    watch("round", event)


def restore(engine: Engine, run: RunDir) -> State:
    found = run.restore()
    if found is None:
        return State()
    saved, folder = found
    state = State(**{**saved, "registry": Registry(**saved["registry"])})
    engine.load(folder, resumable=True)
    state.registry.check(engine, CHECKPOINT)
    return state


def save(engine: Engine, run: RunDir, state: State) -> None:
    state.registry.enter(engine, CHECKPOINT)
    run.checkpoint(asdict(state), lambda folder: engine.save(folder, resumable=True), keep=state.best)


def round_s(seconds: float) -> float:
    return round(seconds, 2)
