"""How much of what tells self-edits apart is noise: scores of n passages, K edits of each, S seeds of each edit, [n, K, S].

Seeds are paired: seed s means the same initial weights and order of data for all edits of a passage. So a score is taken as

    x[p, k, s] = passage p + edit k of p + seed s of p + noise,

and only the edit and the noise matter to the choice among edits: a seed that is kind to all of them favours none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antaeus import stats

Scores = NDArray[np.float64]
RELIABLE = 0.8  # share of the variance of an edit's mean that is the edit's, with which one may choose
MOST = 16  # seeds, however noisy


@dataclass(frozen=True, slots=True)
class Components:
    """Variances: between edits of a passage (of their true scores, 0 where noise explains all that is seen), of the noise of one seed, and
    of all that differs between seeds of one edit, what is common to a seed included."""

    edits: float
    noise: float
    seeds: float


def components(x: Scores) -> Components:
    """Two-way analysis of variance within each passage, mean over passages. Raises `ValueError` for fewer than two edits or seeds."""
    _, k, s = x.shape
    if min(k, s) < 2:
        raise ValueError(f"{k} edits with {s} seeds: it takes two of each")
    edits, seeds, all_ = x.mean(2, keepdims=True), x.mean(1, keepdims=True), x.mean((1, 2), keepdims=True)
    noise = float(((x - edits - seeds + all_) ** 2).sum((1, 2)).mean() / ((k - 1) * (s - 1)))
    seen = float(x.mean(2).var(1, ddof=1).mean())
    return Components(max(0.0, seen - noise / s), noise, float(x.var(2, ddof=1).mean()))


def reliability(of: Components, seeds: int) -> float:
    """The share of the variance of an edit's mean over `seeds` that is the edit's own; 0 where edits do not differ."""
    return of.edits / (of.edits + of.noise / seeds) if of.edits else 0.0


def seeds_wanted(of: Components, affordable: int) -> int:
    """The fewest seeds with `RELIABLE` means, at least 2, at most `MOST` and what is affordable: all of that where edits have not been told
    apart yet."""
    most = max(2, min(MOST, affordable))
    return next((s for s in range(2, most) if reliability(of, s) >= RELIABLE), most)


def held_out_gains(x: Scores) -> Scores:
    """[n]: of each passage the edit is chosen on all seeds but one and scored on that one, less the mean of all edits there; the mean over
    all ways to leave one out. Equal edits share the choice. No seed takes part in judging its own choice, so that luck gains nothing."""
    gains = []
    for s in range(x.shape[2]):
        rest = np.delete(x, s, axis=2).mean(2)
        first = rest >= rest.max(1, keepdims=True) - 1e-12
        gains.append((x[:, :, s] * first).sum(1) / first.sum(1) - x[:, :, s].mean(1))
    return np.mean(gains, axis=0)


def apparent_gains(x: Scores) -> Scores:
    """[n]: the best edit's mean over all seeds, less the mean of all edits: what it looks like to whoever chooses and judges by one."""
    means = x.mean(2)
    return means.max(1) - means.mean(1)


def figures(passages: Sequence[Sequence[Sequence[float | None]]]) -> dict[str, float | list[float] | int]:
    """All of it for scores as they were recorded, with the 95 % interval of the true gain. Edits without a score for every seed are left
    out, passages with fewer than two edits, or fewer seeds than the others, too; nothing where too little is left."""
    whole = [[list(map(float, e)) for e in p if e and None not in e] for p in passages]  # type: ignore[arg-type]
    seeds = max((len(e) for p in whole for e in p), default=0)
    whole = [[e for e in p if len(e) == seeds] for p in whole]
    whole = [p for p in whole if len(p) > 1]
    if seeds < 2 or not whole:
        return {}
    edits = min(map(len, whole))
    x = np.array([p[:edits] for p in whole])
    found, true = components(x), held_out_gains(x)
    return {
        "passages": len(whole), "edits": edits, "seeds": seeds,
        "sd_edits": math.sqrt(found.edits), "sd_seeds": math.sqrt(found.seeds), "sd_noise": math.sqrt(found.noise),
        "reliability": reliability(found, seeds), "mean": float(x.mean()),
        "apparent_gain": float(apparent_gains(x).mean()), "true_gain": float(true.mean()),
        "true_gain_ci": list(stats.difference_interval(true.tolist())),
    }  # fmt: skip
