"""Lowering the entropy of what a policy writes: lessons that need no reward, only the tokens' own statistics.

H(pi) = E_y[sum_t H_t], H_t the entropy (nats) of the next-token distribution before y_t. Its gradient has two terms:

    grad H = E[sum_t grad H_t]  +  E[sum_t (sum_{s>t} H_s) grad log pi(y_t | y_<t)]

The direct one changes the distributions along the texts that were drawn; the score-function one, which texts are drawn: a token
after which the model is unsure becomes rarer. `Update.entropy` = 1 is the first; the advantages here are the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from antaeus.engine.base import Scores
from antaeus.types import Attempt, Group, Lesson, Practice, SealBroken, Verdict

Advantages = list[float] | list[tuple[float, ...]]


def lessons(
    groups: Sequence[Group],
    verdicts: Sequence[Sequence[Verdict]],
    advantages: Callable[[Sequence[Attempt]], Advantages],
    *,
    reference: Sequence[Sequence[Scores]] | None = None,
) -> list[Lesson]:
    """One lesson for each attempt whose verdict does not abstain, whatever its score; `advantages` are computed from these attempts of
    a group. On-policy. Raises `SealBroken` for a group whose task is not practice."""
    out: list[Lesson] = []
    for i, (group, row) in enumerate(zip(groups, verdicts, strict=True)):
        if not isinstance(group.task, Practice):
            raise SealBroken(f"{type(group.task).__name__} {group.task.id!r} reached learning")
        kept = [n for n, v in enumerate(row) if v.score is not None]
        attempts = [group.attempts[n] for n in kept]
        for n, a, advantage in zip(kept, attempts, advantages(attempts), strict=True):
            out.append(Lesson(group.task, a.prompt_ids, a.ids, advantage, None, reference[i][n].logprobs if reference else None))
    return out


def none(attempts: Sequence[Attempt]) -> list[float]:
    """No advantage: what moves the policy is the entropy in the loss alone."""
    return [0.0] * len(attempts)


def of_the_sum(attempts: Sequence[Attempt]) -> list[tuple[float, ...]]:
    """Advantages that lower E[sum_t H_t]: A_t = b_t - sum_{s>t} H_s, a tuple an attempt, an entry a token.

    b_t is the mean of sum_{s>t} H_s over the group's other attempts (0 where these have ended): it does not depend on this attempt, so
    that it changes no expectation, and there is none for an only attempt.
    """
    later = [_later(a.entropies) for a in attempts]
    totals = [sum(row[t] for row in later if t < len(row)) for t in range(max(map(len, later), default=0))]
    others = max(1, len(later) - 1)
    alone = len(later) == 1
    return [tuple((0.0 if alone else (totals[t] - x) / others) - x for t, x in enumerate(row)) for row in later]


def of_the_mean(attempts: Sequence[Attempt]) -> list[tuple[float, ...]]:
    """Advantages that lower E[f], f = (1/T) sum_t H_t, T the attempt's length, under the "sequence" aggregate, which divides each
    attempt's sum by T: A_t = T (b - f), b the mean f of the group's others. As T depends on every token, so does the advantage."""
    f = [sum(a.entropies) / len(a.entropies) for a in attempts]
    base = [(sum(f) - x) / (len(f) - 1) if len(f) > 1 else 0.0 for x in f]
    return [(len(a.ids) * (b - x),) * len(a.ids) for a, b, x in zip(attempts, base, f, strict=True)]


def _later(entropies: Sequence[float]) -> list[float]:
    """The sum of the entropies behind each."""
    return [0.0, *accumulate(reversed(entropies[1:]))][::-1]
