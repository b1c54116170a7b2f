"""What only sealed practice answers can tell of a round: whether the labels are right, and the rewards (TTRL, 2504.16084; URLVR,
2603.08660). For the log and the eye alone: neither learning nor an alarm may see them, or a recipe without answers would have some."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import StatisticsError, correlation, fmean

from antaeus.answers import plurality
from antaeus.types import Group, Verdict

DEFINITIONS = {
    "practice_accuracy": "Share of practice attempts that give the sealed answer. Learning does not see it.",
    "label_accuracy": "Share of prompts whose majority answer is the sealed one; a prompt without any answer counts as wrong.",
    "reward_accuracy": "Share of rewards of 0 or 1 that are what the sealed answer would have given. It can be high where labels are "
    "wrong: a wrong majority still refuses most wrong answers.",
    "reward_truth": "Correlation of rewards with right and wrong within prompts (both less their prompt's mean): what group advantages go "
    "by. At 0 or below, learning cannot help; 0 also where either does not vary.",
}


def measure(
    groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], truth: Sequence[Sequence[Verdict] | None]
) -> dict[str, float]:
    """The meters of a round. `truth` holds ground truth's verdicts on each group, None for one without sealed answer; nothing is
    measured where there is none at all."""
    known = [(g, own, real) for g, own, real in zip(groups, verdicts, truth, strict=True) if real is not None]
    if not known:
        return {}
    rows = [[(v.score, t.score) for v, t in zip(own, real, strict=True)] for _, own, real in known]
    pairs = [[(given, due) for given, due in row if given is not None and due is not None] for row in rows]
    binary = [(given, due) for row in pairs for given, due in row if given in (0.0, 1.0)]
    return {
        "practice_accuracy": fmean(t.score or 0.0 for _, _, real in known for t in real),
        "label_accuracy": fmean(_label_is_right(group, real) for group, _, real in known),
        "reward_truth": _correlation(pairs),
    } | ({"reward_accuracy": fmean(given == due for given, due in binary)} if binary else {})


def _label_is_right(group: Group, real: Sequence[Verdict]) -> bool:
    labels, winner, _ = plurality([attempt.answer for attempt in group.attempts])
    return winner is not None and real[labels.index(winner)].score == 1.0


def _correlation(rows: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Of the pairs' two members, each less its mean in its row."""
    flat = [pair for row in rows if row for pair in zip(*map(_centred, zip(*row, strict=True)), strict=True)]
    try:
        return correlation(*zip(*flat, strict=True))
    except (StatisticsError, TypeError):  # a constant, or fewer than two
        return 0.0


def _centred(values: Sequence[float]) -> list[float]:
    """Less their mean; 0 where they are all the same, which rounding must not blur."""
    mean = fmean(values)
    return [value - mean if len(set(values)) > 1 else 0.0 for value in values]
