"""Alarms: rules over the meters of the rounds so far. They see no label, and ring before a policy is ruined, not after.

Each signal compares a run with its own start (or with where it was rolled back to), so that a limit means the same for any model
and task. How often they are right, how early, and how often wrong is measured: docs/guard.md, which also says how the limits
were found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean

from antaeus.guard.trends import WINDOW, History, surge

FEW = 4  # attempts or prompts a round with fewer of which a share of them tells nothing
SURER = 1.05  # retention above which nothing is gained: answers that were sure before cannot become much surer


@dataclass(frozen=True, slots=True)
class Rule:
    """An alarm: it rings where `signal` of the meters so far is above `limit`; not where `meter` is not measured. `text` is what the
    user reads."""

    meter: str
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


def falling(history: History) -> float:
    """By how much retention is below its highest value of the two rounds before. Learning lowers it slowly if at all, as doubtful
    answers are corrected; a policy that comes apart loses what it was sure of at once."""
    recent = _retention(history)[-3:]
    return max(recent) - recent[-1]


def lost(history: History) -> float:
    """How much of the base's sureness is gone."""
    return 1.0 - _retention(history)[-1]


def _retention(history: History) -> list[float]:
    """It begins with the base; to fall from much more than the base had is no loss."""
    return [1.0, *(min(SURER, m["retention"]) for m in history)]


RULES: Mapping[str, Rule] = {
    "comes apart": Rule(
        "retention", falling, 0.055, "the policy quickly loses sureness of the answers that it brought along: it comes apart"
    ),
    "forgets": Rule("retention", lost, 0.4, "the policy has lost much of the sureness of the answers that it brought along"),
    "surge": Rule(
        "kl_to_base", surge, 0.4, "the reward jumps while the policy leaves the base: a reward that is gamed looks like this"
    ),
    "no answer": Rule("no_answer", rise("no_answer"), 0.3, "many more attempts than at the start have no answer"),
    "same answer": Rule(
        "same_answer",
        rise("same_answer"),
        0.3,
        "many more prompts have the same majority answer: answers stop depending on the prompt",
    ),
    "truncated": Rule("truncated", rise("truncated"), 0.5, "many more attempts than at the start are cut by max_tokens"),
}


def ringing(history: History, prompts: int, rules: Mapping[str, Rule] = RULES, attempts: int = FEW) -> dict[str, str]:
    """The alarms that ring after the last round of `history`, name -> text. Shares of prompts or attempts mean something from `FEW` a
    round on."""
    mute = {"same_answer": prompts < FEW, "no_answer": attempts < FEW, "truncated": attempts < FEW}
    told = {name: rule for name, rule in rules.items() if rule.meter in history[-1] and not mute.get(rule.meter)}
    return {name: rule.text for name, rule in told.items() if rule.signal(history) > rule.limit}
