"""Alarms: rules over the meters of the rounds so far. They see no label, and ring before a policy is ruined, not after.

Each signal compares the last rounds with the first ones of the same run (or since it was rolled back), so that a limit means the
same for any model and task. How often they are right, how early, and how often wrong is measured: docs/guard.md. The limits were
fixed on one half of the runs recorded there and judged on the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from antaeus.engine.base import Metrics

WINDOW = 3  # rounds that are averaged: one round of few prompts is noise
History = Sequence[Metrics]


@dataclass(frozen=True, slots=True)
class Rule:
    """An alarm: it rings where `signal` of the meters so far is above `limit`. `text` is what the user reads."""

    signal: Callable[[History], float]
    limit: float
    text: str


def late(history: History, meter: str) -> float:
    """Mean of a meter over the last rounds."""
    return fmean(m[meter] for m in history[-WINDOW:])


def early(history: History, meter: str) -> float:
    """Mean of a meter over the first rounds."""
    return fmean(m[meter] for m in history[:WINDOW])


def rise(meter: str) -> Callable[[History], float]:
    """By how much a meter is above its start."""
    return lambda history: late(history, meter) - early(history, meter)


def growth(meter: str, sign: int = 1) -> Callable[[History], float]:
    """Natural logarithm of a meter's ratio to its start (falls instead, with `sign` -1)."""
    return lambda history: sign * math.log((late(history, meter) + 1e-3) / (early(history, meter) + 1e-3))


def slope(meter: str) -> Callable[[History], float]:
    """Least-squares slope of a meter over the last 2 x WINDOW rounds, as a share of its start a round."""

    def of(history: History) -> float:
        recent = [m[meter] for m in history[-2 * WINDOW :]]
        middle, mean = (len(recent) - 1) / 2, fmean(recent)
        spread = sum((i - middle) ** 2 for i in range(len(recent)))
        return sum((i - middle) * (y - mean) for i, y in enumerate(recent)) / spread / (abs(early(history, meter)) + 1e-3)

    return of


def level(meter: str) -> Callable[[History], float]:
    return lambda history: late(history, meter)


def surge(history: History) -> float:
    """SRT's sign of collapse (2505.21444, fig. 7): the reward jumps while the KL to the base does. The jump of the reward over the
    last 2 x WINDOW rounds, times that of the KL."""
    before, now = history[-2 * WINDOW : -WINDOW] or history[:1], history[-WINDOW:]
    jumps = (fmean(m[k] for m in now) - fmean(m[k] for m in before) for k in ("proxy_reward", "kl_to_base"))
    return math.prod(max(0.0, jump) for jump in jumps)


RULES: Mapping[str, Rule] = {
    "no_answer": Rule(level("no_answer"), 0.5, "more than half of the attempts have no answer"),
    "same_answer": Rule(
        level("same_answer"),
        0.5,
        "more than half of the prompts have the same majority answer: answers stop depending on the prompt",
    ),
    "truncated": Rule(level("truncated"), 0.5, "more than half of the attempts are cut by max_tokens"),
}


def ringing(history: History, prompts: int, rules: Mapping[str, Rule] = RULES) -> dict[str, str]:
    """The alarms that ring after the last round of `history`, name -> text. Rules on majorities need 4 prompts a round."""
    known = {name: rule for name, rule in rules.items() if prompts >= 4 or not name.endswith("_answer") or name == "no_answer"}
    return {name: rule.text for name, rule in known.items() if rule.signal(history) > rule.limit}
