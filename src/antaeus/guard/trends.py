"""Meters of how a run moves: what one round cannot show. Like all meters they need no label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, linear_regression

WINDOW = 3  # rounds that are averaged: one round of few prompts is noise
History = Sequence[Mapping[str, float]]

DEFINITIONS = {
    "length_slope": "By how many tokens a round the mean length of attempts changes, a line fitted to the last six rounds. Falling length "
    "is how a gamed probability ends, rising length how a gamed judge does.",
    "entropy_slope": "By how many nats a round token entropy changes, a line fitted to the last six rounds. Quickly down: the policy "
    "narrows; quickly up: it falls apart.",
    "surge": "The jump of the reward times that of the KL to the base, three rounds against the three before (0 where either fell). "
    "Both at once are SRT's sign of collapse (2505.21444, fig. 7).",
}


def trends(history: History) -> dict[str, float]:
    """The trends after the last round of `history`."""
    return {
        "length_slope": slope(history, "length"),
        "entropy_slope": slope(history, "token_entropy"),
        "surge": surge(history),
    }


def slope(history: History, meter: str) -> float:
    """Change a round of a meter: the least-squares line through its last 2 x WINDOW rounds; 0 where there is one round only."""
    values = [m[meter] for m in history[-2 * WINDOW :]]
    return linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0


def surge(history: History) -> float:
    """The jump of the reward over the last 2 x WINDOW rounds, times that of the KL."""
    before, now = history[-2 * WINDOW : -WINDOW] or history[:1], history[-WINDOW:]
    jumps = (fmean(m[k] for m in now) - fmean(m[k] for m in before) for k in ("proxy_reward", "kl_to_base"))
    return math.prod(max(0.0, jump) for jump in jumps)
