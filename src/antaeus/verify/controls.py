"""Rewards that teach nothing true. A method's gain counts only beyond what these give (Spurious Rewards, 2506.10947)."""

from __future__ import annotations

from antaeus.noise import uniforms
from antaeus.types import Group, Source, Verdict

CONTROLS = {
    "none": "the recipe's own verdicts",
    "random": "a fair coin for each attempt",
    "format": "1 for every attempt with an answer, whatever it is",
    "no-op": "everything runs, nothing is learned",
}


def random(group: Group, seed: str) -> list[Verdict]:
    """A fair coin for each attempt, the same in a replay."""
    flips = uniforms(seed, group.task.id, -1, len(group.attempts))
    return [Verdict(float(flip < 0.5), Source.SELF, "control: a coin") for flip in flips]


def format(group: Group) -> list[Verdict]:
    """1 for every attempt from which an answer can be read."""
    return [Verdict(float(a.answer is not None), Source.SELF, "control: has an answer") for a in group.attempts]
