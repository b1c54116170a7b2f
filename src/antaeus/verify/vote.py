"""The model's own majority (self-consistency, 2203.11171; as a reward: TTRL, 2504.16084)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from antaeus.answers import classes, plurality
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


def steady(group: Group, parts: int, agreement: float = 0.0) -> list[Verdict]:
    """As `majority`, of attempts that come in `parts` equal lots, one after another; abstains, too, where the lots have not all the same
    majority as the whole."""
    label, winner, _ = _count(group)
    size = len(label) // parts
    lots = [Counter(c for c in label[i * size : (i + 1) * size] if c is not None) for i in range(parts)]
    if winner is not None and any(not lot or lot.most_common(1)[0][0] != winner for lot in lots):
        return [Verdict(None, Source.SELF, "the majority changed from one adaptation to the next") for _ in label]
    return majority(group, agreement)


def _verdict(own: int | None, winner: int, share: dict[str, float]) -> Verdict:
    if own is None:
        return Verdict(0.0, Source.SELF, "no answer", share)
    agrees = own == winner
    return Verdict(float(agrees), Source.SELF, "agrees with the majority" if agrees else "differs from the majority", share)


def believed(group: Group, agreement: float = 0.0, *, soft: bool = False) -> list[Verdict]:
    """As `majority`, but the share is of the attempts that have an answer, and where nobody has one it abstains (SRT, 2505.21444).
    With `soft` an attempt's score is the share of its own answer among these. `parts` tells the majority's."""
    label, winner, n = _count(group)
    answered = sum(c is not None for c in label)
    if winner is None or n < agreement * answered:
        why = "nobody has an answer" if winner is None else "the majority is too small to be believed"
        return [Verdict(None, Source.SELF, why, {"majority": n / max(1, answered)}) for _ in label]
    share = {"majority": n / answered}
    if not soft:
        return [_verdict(c, winner, share) for c in label]
    count = Counter(label)
    return [Verdict(0.0 if c is None else count[c] / answered, Source.SELF, "share of its answer", share) for c in label]


def foremost(rows: Sequence[Sequence[Verdict]], keep: float) -> list[list[Verdict]]:
    """The verdicts of the share `keep` of a round's prompts; those of the others abstain. Prompts with ground truth's verdicts come
    first, then those with the largest majority, those without any verdict last; ties in the round's order."""

    def rank(i: int) -> tuple[bool, bool, float]:
        silent = all(v.score is None for v in rows[i])
        return silent, rows[i][0].source is not Source.GROUND, -rows[i][0].parts.get("majority", 0.0)

    chosen = set(sorted(range(len(rows)), key=rank)[: math.ceil(keep * len(rows))])
    why = "other prompts of the round agree more"
    return [list(row) if i in chosen else [replace(v, score=None, why=why) for v in row] for i, row in enumerate(rows)]


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
    return plurality([attempt.answer for attempt in group.attempts])
