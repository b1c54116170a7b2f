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
    out: list[Lesson] = []
    for g, (group, row) in enumerate(zip(groups, verdicts, strict=True)):
        if not isinstance(group.task, Practice):
            raise SealBroken(f"{type(group.task).__name__} {group.task.id!r} reached learning")
        scored = [(i, v.score) for i, v in enumerate(row) if v.score is not None]
        refs = reference[g] if reference else None
        rewards = [s - (kl_in_reward * _k3(group, i, refs) if kl_in_reward else 0.0) for i, s in scored]
        for (i, _), a in zip(scored, advantage(rewards), strict=True):
            attempt = group.attempts[i]
            out.append(
                Lesson(
                    group.task,
                    attempt.prompt_ids,
                    attempt.ids,
                    a,
                    logprobs=attempt.logprobs if off_policy else None,
                    ref_logprobs=refs[i].logprobs if refs else None,
                )  # fmt: skip
            )
    return out


def k3(logprobs: Sequence[float], reference: Sequence[float]) -> float:
    """Sum over tokens of e^d - d - 1, d = reference - policy: an estimate of the sequence's KL to the reference, never negative."""
    return sum(math.exp(min(d, 10.0)) - d - 1 for d in (r - p for p, r in zip(logprobs, reference, strict=True)))


def _k3(group: Group, i: int, refs: Sequence[Scores] | None) -> float:
    assert refs is not None, "KL in the reward needs the reference's log-probabilities"
    return k3(group.attempts[i].logprobs, refs[i].logprobs)
