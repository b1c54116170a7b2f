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
