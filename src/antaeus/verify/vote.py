"""The model's own majority (self-consistency, 2203.11171; as a reward: TTRL, 2504.16084)."""

from __future__ import annotations

from collections import Counter

from antaeus.answers import classes
from antaeus.types import Attempt, Group, Source, Verdict


def majority(group: Group, agreement: float = 0.0) -> list[Verdict]:
    """1 for attempts in the group's most frequent answer class, 0 for others; abstains where that class has less than `agreement` of
    all attempts.

    Votes and rewards use the same equivalence classes. An attempt without an answer never votes and never wins; ties go to the
    class seen first; where nobody has an answer, all verdicts are 0. `parts` tells the majority's share of all attempts.
    """
    label, winner, n = _count(group)
    if winner is None:
        return [Verdict(0.0, Source.SELF, "nobody has an answer", {"majority": 0.0}) for _ in label]
    share = {"majority": n / len(label)}
    if n < agreement * len(label):
        return [Verdict(None, Source.SELF, "the majority is too small to be believed", share) for _ in label]
    return [_verdict(c, winner, share) for c in label]


def _verdict(own: int | None, winner: int, share: dict[str, float]) -> Verdict:
    if own is None:
        return Verdict(0.0, Source.SELF, "no answer", share)
    agrees = own == winner
    return Verdict(float(agrees), Source.SELF, "agrees with the majority" if agrees else "differs from the majority", share)


def leading(group: Group) -> tuple[str | None, float]:
    """The first answer of the most frequent class and the share of all attempts that gave it; (None, 0) where nobody has an answer."""
    label, winner, n = _count(group)
    return (None, 0.0) if winner is None else (group.attempts[label.index(winner)].answer, n / len(label))


def chosen(group: Group) -> Attempt:
    """The first attempt that gave the most frequent answer; where nobody has an answer, the first."""
    label, winner, _ = _count(group)
    return group.attempts[0 if winner is None else label.index(winner)]


def fixed(group: Group, answer: str | None) -> list[Verdict]:
    """1 for attempts that give `answer`, a majority of some earlier version (SRT's offline labels, 2505.21444), 0 for others; abstains
    where that version had none."""
    if answer is None:
        return [Verdict(None, Source.SELF, "no label") for _ in group.attempts]
    label = classes([answer, *(attempt.answer for attempt in group.attempts)])
    return [Verdict(float(c == label[0]), Source.SELF, "compared with a fixed label") for c in label[1:]]


def _count(group: Group) -> tuple[list[int | None], int | None, int]:
    """The answer class of each attempt, the most frequent class (None where nobody has an answer), and how many gave it."""
    label = classes([attempt.answer for attempt in group.attempts])
    count = Counter(c for c in label if c is not None)
    winner, n = count.most_common(1)[0] if count else (None, 0)  # insertion order breaks ties: first seen first
    return label, winner, n
