"""Rewards that teach nothing true. A method's gain counts only beyond what these give (Spurious Rewards, 2506.10947)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from antaeus.noise import uniforms
from antaeus.types import Group, Source, Verdict

CONTROLS = {
    "none": "the recipe's own verdicts",
    "random": "a fair coin for each attempt",
    "format": "1 for every attempt with an answer, whatever it is",
    "shuffled-labels": "the recipe's own verdicts, dealt anew to each prompt's attempts",
    "no-op": "everything runs, nothing is learned",
}


def random(group: Group, seed: str) -> list[Verdict]:
    """A fair coin for each attempt, the same in a replay."""
    flips = uniforms(seed, group.task.id, -1, len(group.attempts))
    return [Verdict(float(flip < 0.5), Source.SELF, "control: a coin") for flip in flips]


def format(group: Group) -> list[Verdict]:
    """1 for every attempt from which an answer can be read."""
    return [Verdict(float(a.answer is not None), Source.SELF, "control: has an answer") for a in group.attempts]


def shuffled(verdicts: Sequence[Verdict], group: Group, seed: str) -> list[Verdict]:
    """The same scores as often as in `verdicts`, but handed to the attempts by lot: all that a reward is, but for what it says."""
    order = np.argsort(uniforms(seed, group.task.id, -2, len(verdicts)), kind="stable")
    return [Verdict(verdicts[i].score, Source.SELF, "control: another attempt's verdict") for i in order]
