"""From recorded runs to error rates: how early the alarms ring, how often for nothing, how often the gate promotes what is no better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from antaeus import stats
from antaeus.calibrate.runs import Record, rounds
from antaeus.guard.alarms import RULES, Rule, ringing

LOSS = 0.05  # of accuracy on the anchors, below the base: what an alarm must come before
Rules = Mapping[str, Rule]


def first_alarm(record: Record, rules: Rules = RULES) -> tuple[int, list[str]] | None:
    """The round in which an alarm rings first, and which; None where none does."""
    history, prompts = rounds(record), record["settings"]["prompts"]
    for n in range(1, len(history) + 1):
        if names := list(ringing(history[:n], prompts, rules)):
            return n, names
    return None


def ruined(record: Record, loss: float = LOSS) -> int | None:
    """Of a run that ends with `loss` or more below the base on the anchors, the first round after which it was; None of any other."""
    below = [(round, correct / n <= record["anchors"][0][1] / n - loss) for round, correct, n in record["anchors"]]
    return next(round for round, lost in below if lost) if below[-1][1] else None


def halves(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Runs with even seeds, on which limits are chosen, and with odd seeds, on which they are judged."""
    return [r for r in records if r["seed"] % 2 == 0], [r for r in records if r["seed"] % 2]


def alarm_rates(records: Sequence[Record], rules: Rules = RULES) -> dict[str, Any]:
    """How the alarms do on runs: of those that were ruined, how many were warned of in time; of those that were not driven anywhere,
    how many were stopped for nothing."""
    driven = [r for r in records if r["kind"] == "collapse"]
    bad = [(r, at, first_alarm(r, rules)) for r in driven if (at := ruined(r)) is not None]
    good = [first_alarm(r, rules) for r in records if r["kind"] == "healthy" and ruined(r) is None]
    in_time = [bell is not None and bell[0] <= at for _, at, bell in bad]
    ahead = [at - bell[0] for _, at, bell in bad if bell]
    kinds = sorted({r["drive"] for r, _, _ in bad})
    return {
        "ruined": len(bad),
        "in_time": sum(in_time),
        "in_time_ci": stats.proportion_interval(sum(in_time), len(bad)),
        "rounds_ahead": median(ahead) if ahead else None,
        "never": sum(bell is None for _, _, bell in bad),
        "healthy": len(good),
        "false": sum(bell is not None for bell in good),
        "false_ci": stats.proportion_interval(sum(bell is not None for bell in good), len(good)),
        "driven_and_not_ruined": len(driven) - len(bad),
        "kinds": {k: [sum(ok for (r, _, _), ok in zip(bad, in_time, strict=True) if r["drive"] == k),
                      sum(r["drive"] == k for r, _, _ in bad)] for k in kinds},
    }  # fmt: skip


def seeds_apart(records: Sequence[Record]) -> list[list[float]]:
    """Paired exam differences between the last versions of two runs that differ in their seed alone, healthy ones: an improvement
    that is booked here is a seed change."""
    alike = [list(r["exam"].values())[-1] for r in records if r["kind"] == "healthy"]
    return [[(y == "1") - (x == "1") for x, y in zip(a, b, strict=True) if "-" not in (x, y)] for a, b in pairwise(alike)]
