"""The model's own majority (self-consistency, 2203.11171; as a reward: TTRL, 2504.16084)."""

from __future__ import annotations

from collections import Counter

from antaeus.answers import classes
from antaeus.types import Group, Source, Verdict


def majority(group: Group, agreement: float = 0.0) -> list[Verdict]:
    """1 for attempts in the group's most frequent answer class, 0 for others; abstains where that class has less than `agreement` of
    all attempts.

    Votes and rewards use the same equivalence classes. An attempt without an answer never votes and never wins; ties go to the
    class seen first; where nobody has an answer, all verdicts are 0. `parts` tells the majority's share of all attempts.
    """
    label = classes([attempt.answer for attempt in group.attempts])
    count = Counter(c for c in label if c is not None)
    if not count:
        return [Verdict(0.0, Source.SELF, "nobody has an answer", {"majority": 0.0}) for _ in label]
    winner, n = count.most_common(1)[0]  # insertion order breaks ties: first seen first
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
    label = classes([attempt.answer for attempt in group.attempts])
    count = Counter(c for c in label if c is not None)
    if not count:
        return None, 0.0
    winner, n = count.most_common(1)[0]
    return group.attempts[label.index(winner)].answer, n / len(label)


def fixed(group: Group, answer: str | None) -> list[Verdict]:
    """1 for attempts that give `answer`, a majority of some earlier version (SRT's offline labels, 2505.21444), 0 for others; abstains
    where that version had none."""
    if answer is None:
        return [Verdict(None, Source.SELF, "no label") for _ in group.attempts]
    label = classes([answer, *(attempt.answer for attempt in group.attempts)])
    return [Verdict(float(c == label[0]), Source.SELF, "compared with a fixed label") for c in label[1:]]
