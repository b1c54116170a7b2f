"""Majority for the sign, novelty for the size: among attempts that agree, those that say it in another way earn more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from antaeus.types import Group, Source, Verdict
from antaeus.verify.vote import majority

Embed = Callable[[str], np.ndarray]


def banded(group: Group, embed: Embed, *, agreement: float = 0.0, mix: float = 0.5) -> list[Verdict]:
    """EVOL-RL's rewards (2509.15194): attempts of the majority in [.5, 1], others in [-1, -.5], without an answer -1.

    Of the n attempts with an answer, e_i = embed(reasoned text), of length 1, s_ij = e_i e_j clipped to [0, 1]:
    u_i = 1 - mix * mean of s_ij over its own side - (1 - mix) * max of s_ij over all, i left out of both;
    reward = low + .5 * (u_i - min u) / (max u - min u) over its own side, low = .5 or -1.
    An only member of its side has 1 or -.5; where all u of a side are the same, .75 or -.75; n < 2: all have -1. Abstains as
    `majority` does. `parts` tells the majority's share and the novelty u.
    """
    votes = majority(group, agreement)
    answered = [i for i, a in enumerate(group.attempts) if a.answer is not None]
    if any(v.score is None for v in votes):
        return votes
    rewards, told = [-1.0] * len(votes), [dict(v.parts) for v in votes]
    if len(answered) > 1:
        agrees = np.array([votes[i].score == 1.0 for i in answered])
        u = novelties(np.stack([embed(reasoned(group.attempts[i].text)) for i in answered]), agrees, mix)
        for i, reward, new in zip(answered, bands(u, agrees), u.tolist(), strict=True):
            rewards[i], told[i] = reward, {**told[i], "novelty": new}
    return [Verdict(r, Source.SELF, v.why, parts) for r, v, parts in zip(rewards, votes, told, strict=True)]


def reasoned(text: str) -> str:
    """What stands behind the last `</think>`, the whole text where there is none."""
    return text.rpartition("</think>")[2]


def novelties(vectors: np.ndarray, agrees: np.ndarray, mix: float = 0.5) -> np.ndarray:
    """u of n > 1 unit vectors [n, D] on two sides (`agrees` [n]), [n]. An only member of its side is compared with all others."""
    likeness = np.clip(vectors @ vectors.T, 0.0, 1.0)
    others = ~np.eye(len(vectors), dtype=bool)
    own = others & (agrees[:, None] == agrees[None, :])
    own = np.where(own.any(1, keepdims=True), own, others)
    mean = (likeness * own).sum(1) / own.sum(1)
    return 1 - (mix * mean + (1 - mix) * np.where(others, likeness, -1.0).max(1))


def bands(u: np.ndarray, agrees: np.ndarray) -> list[float]:
    """The rewards, [n]: any attempt that agrees is at least 1 above any that does not."""
    out = np.zeros(len(u))
    for side, low, alone in ((agrees, 0.5, 1.0), (~agrees, -1.0, -0.5)):
        if side.sum() == 1:
            out[side] = alone
        elif side.any():
            out[side] = low + 0.5 * _spread(u[side])
    return out.tolist()


def _spread(u: Sequence[float] | np.ndarray) -> np.ndarray:
    """Linearly from 0 at the smallest to 1 at the largest; one half for all where they are the same but for rounding."""
    u = np.asarray(u)
    span = u.max() - u.min()
    return (u - u.min()) / span if span > 1e-6 else np.full(len(u), 0.5)
