"""From verdicts to policy-gradient lessons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from antaeus.engine.base import Scores
from antaeus.types import Group, Lesson, Practice, SealBroken, Verdict

Advantage = Callable[[Sequence[float]], list[float]]


def lessons(
    groups: Sequence[Group],
    verdicts: Sequence[Sequence[Verdict]],
    advantage: Advantage,
    *,
    reference: Sequence[Sequence[Scores]] | None = None,
    kl_in_reward: float = 0.0,
    off_policy: bool = False,
) -> list[Lesson]:
    """One lesson for each attempt with a score; an attempt whose verifier abstained neither teaches nor counts in the mean.

    `reference` holds the reference's statistics of every attempt, where the loss or the reward has a KL term. `kl_in_reward`
    takes beta times the attempt's summed k3 off its reward. `off_policy` keeps the sampler's log-probabilities for the ratio.
    Raises `SealBroken` for a group whose task is not practice.
    """
    references = reference or [None] * len(groups)
    parts = zip(groups, verdicts, references, strict=True)
    return [lesson for group, row, refs in parts for lesson in _of_group(group, row, advantage, refs, kl_in_reward, off_policy)]


def _of_group(
    group: Group, row: Sequence[Verdict], advantage: Advantage, refs: Sequence[Scores] | None, beta: float, off_policy: bool
) -> list[Lesson]:
    if not isinstance(group.task, Practice):
        raise SealBroken(f"{type(group.task).__name__} {group.task.id!r} reached learning")
    scored = [(a, v.score, refs[a.index].logprobs if refs else None) for a, v in zip(group.attempts, row, strict=True)]
    scored = [(attempt, score, ref) for attempt, score, ref in scored if score is not None]
    rewards = [score - (beta * k3(a.logprobs, ref) if beta and ref else 0.0) for a, score, ref in scored]
    return [
        Lesson(group.task, a.prompt_ids, a.ids, value, a.logprobs if off_policy else None, ref)
        for (a, _, ref), value in zip(scored, advantage(rewards), strict=True)
    ]


def k3(logprobs: Sequence[float], reference: Sequence[float]) -> float:
    """Sum over tokens of e^d - d - 1, d = reference - policy: an estimate of the sequence's KL to the reference, never negative."""
    return sum(math.exp(min(d, 10.0)) - d - 1 for d in (r - p for p, r in zip(logprobs, reference, strict=True)))
