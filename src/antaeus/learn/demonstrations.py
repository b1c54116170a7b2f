"""Demonstrations: texts to be made likelier as they stand. A lesson without the sampler's log-probabilities and with advantage w has the
gradient of w times the negative log-likelihood, see `types.Lesson`."""

from __future__ import annotations

from collections.abc import Sequence

from antaeus.engine.base import Engine
from antaeus.types import Attempt, Group, Lesson, Practice, Prompt, SealBroken, Task, Verdict


def kept(group: Group, verdicts: Sequence[Verdict], most: int = 0) -> list[Attempt]:
    """The attempts with a score of 1 that came to an end (one that the token limit cut shows no ending), at most the first `most` of
    them (0 = all)."""
    good = [a for a, v in zip(group.attempts, verdicts, strict=True) if v.score == 1.0 and a.stop != "length"]
    return good[:most] if most else good


def best(group: Group, verdicts: Sequence[Verdict], most: int = 1, gain: float = -1.0) -> list[Attempt]:
    """The attempts with the highest scores that came to an end, at most `most` of them (0 = all), the earlier of equals first; those alone
    whose score exceeds the part "base" of their verdict, what is reached without them, by `gain` at least."""
    pairs = [
        (v.score, a)
        for a, v in zip(group.attempts, verdicts, strict=True)
        if v.score is not None and a.stop != "length" and v.score - v.parts.get("base", 0.0) >= gain
    ]
    good = [a for _, a in sorted(pairs, key=lambda pair: -pair[0])]
    return good[:most] if most else good


def imitate(task: Task, attempts: Sequence[Attempt], prompt_ids: Sequence[int] = (), weight: float = 1.0) -> list[Lesson]:
    """A demonstration of each attempt, token for token: as an answer to the prompt that it was written to, or to `prompt_ids`, which are
    another form of `task`. Raises `SealBroken` for a task that is not practice."""
    _practice_only(task)
    return [Lesson(task, tuple(prompt_ids) or a.prompt_ids, a.ids, weight) for a in attempts]


def show(engine: Engine, task: Task, prompt: Prompt, text: str, weight: float = 1.0) -> Lesson:
    """A demonstration of a text that was not sampled here: `prompt`, a form of `task`, answered with `text` and the end token. Raises
    `SealBroken` for a task that is not practice, `UserError` for a prompt that with its answer exceeds the model's context."""
    _practice_only(task)
    return Lesson(task, *engine.encode(prompt, text), weight)


def _practice_only(task: Task) -> None:
    if not isinstance(task, Practice):
        raise SealBroken(f"{type(task).__name__} {task.id!r} reached learning")
