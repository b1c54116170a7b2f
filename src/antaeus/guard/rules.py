"""Rules by which a new version is accepted: ours, and those that others have published, on arrays of scores of many cases at once.

`published` gives the others' error rates on the data they were made for, `on_real` on real runs of one model, and `simulate` in
simulated lineages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from antaeus.guard.lineage import Budget
from antaeus.stats import proportion_interval

Scores = NDArray[Any]  # booleans or numbers; the last axis is tasks
Rule = Callable[[Scores, Scores], NDArray[np.bool_]]
"""(scores before, scores after), [..., tasks] each, to whether it accepts, [...]."""


def changes(before: Scores, after: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(wins, losses) along the last axis."""
    return (after & ~before).sum(-1), (before & ~after).sum(-1)


def p_gain(wins: NDArray[Any], losses: NDArray[Any]) -> NDArray[np.float64]:
    """McNemar's exact one-sided p-values, as the gate's."""
    moved = wins + losses
    return _tails(int(moved.max()))[moved, wins]


@lru_cache
def _tails(most: int) -> NDArray[np.float64]:
    counts = np.arange(most + 1)
    return binom.sf(counts - 1, counts[:, None], 0.5)


def ours(p: NDArray[np.float64], alpha: float = 0.05) -> NDArray[np.bool_]:
    """Which proposals of lineages on one exam each are promoted, from their p-values [..., proposals], by the lineage's own budget."""
    budget, promoted = Budget(np.full(p.shape[:-1], alpha), p.shape[-1]), np.zeros(p.shape, bool)  # type: ignore[arg-type]
    for i in range(p.shape[-1]):
        promoted[..., i] = p[..., i] <= budget.level
        budget = budget.spent(promoted[..., i])  # type: ignore[arg-type]
    return promoted


def newer_is_better(before: Scores, after: Scores) -> NDArray[np.bool_]:
    """Accept what scores more on the first 200 tasks."""
    return after[..., :200].sum(-1) > before[..., :200].sum(-1)


def significant(before: Scores, after: Scores) -> NDArray[np.bool_]:
    """Accept at p < 0.05, exact and two-sided, each proposal on its own: sound once, not again and again."""
    wins, losses = changes(before.astype(bool), after.astype(bool))
    return p_gain(wins, losses) < 0.025


def sprt(before: Scores, after: Scores, effect: float = 0.5, first: int = 2) -> NDArray[np.bool_]:
    """Wald's sequential test of two arms of normal scores with the variance estimated as one goes, looked at after each pair from
    the `first` on, at most 200, for errors of 5 and 20 %. Accepts what crosses the upper bound before the lower one."""
    k = np.arange(1, min(after.shape[-1], 200) + 1)
    (mean_a, var_a), (mean_b, var_b) = _running(before, k), _running(after, k)
    error, shrink = (var_a + var_b) / k, k / (k + 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (effect * (mean_b - mean_a) * np.sqrt(shrink) - effect**2 / 2 * shrink) / error
    looked = (k >= first) & (error > 1e-12)
    up = looked & (ratio >= math.log(0.8 / 0.05))
    down = looked & (ratio <= math.log(0.2 / 0.95))
    return up.any(-1) & (first_crossing(up) < first_crossing(down))


def rolled_back(before: Scores, after: Scores, drop: float = 0.05, first: int = 30) -> NDArray[np.bool_]:
    """Whether a canary is taken back: at some look, from `first` answers on, it stands more than `drop` below the old version, which
    gives len(before) / len(after) answers for each of its own."""
    n = after.shape[-1]
    each, k = before.shape[-1] // n, np.arange(1, n + 1)
    old = np.asarray(before, float)[..., : each * n].reshape(*before.shape[:-1], n, each).sum(-1).cumsum(-1) / (each * k)
    return ((old - np.asarray(after, float).cumsum(-1) / k > drop) & (k >= first)).any(-1)


def canary(before: Scores, after: Scores) -> NDArray[np.bool_]:
    """Accept what is not taken back, see `rolled_back`."""
    return ~rolled_back(before, after)


RULES: dict[str, Rule] = {
    "new > old on 200": newer_is_better,
    "p < 0.05 each": significant,
    "SPRT, plug-in variance": sprt,
    "canary, 5 points": canary,
}


def _running(scores: Scores, k: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of the first k scores."""
    x = np.asarray(scores[..., : len(k)], float)
    mean = x.cumsum(-1) / k
    return mean, np.maximum((x * x).cumsum(-1) - k * mean**2, 0.0) / np.maximum(k - 1, 1)


def first_crossing(crossed: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(crossed.any(-1), crossed.argmax(-1), crossed.shape[-1])


# --- where nothing differs ----------------------------------------------------------------------------------------------


def published(runs: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Others' rules where nothing differs, each on the data it was made for: a model right half the time sampled twice, in ten
    independent proposals; two arms of normal scores; a canary with 5 % of the traffic for 1,000 answers, by accuracy."""
    rng, found = np.random.default_rng(seed), {}
    for n in (50, 200):
        accepted = newer_is_better(rng.random((runs, 10, n)) < 0.5, rng.random((runs, 10, n)) < 0.5)
        found[f"new > old on {n}"], found[f"new > old on {n}, in ten"] = share(accepted), share(accepted.any(1))
    for effect in (0.1, 0.5, 1.0):
        for first in (2, 30):
            arms = rng.standard_normal((2, 4 * runs, 200))
            found[f"SPRT, effect {effect}, from {first}"] = share(sprt(arms[0], arms[1], effect, first))
    for p in (0.5, 0.8, 0.95):
        batches = [rng.random((50, 20_000), np.float32) < p for _ in range(runs // 50)]
        found[f"canary rolled back, {p}"] = share([rolled_back(x[:, 1000:], x[:, :1000]) for x in batches])
    return found


def on_real(runs: Sequence[Sequence[float]], alpha: float = 0.05) -> dict[str, Any]:
    """Scores (0 or 1) of one and the same model in several runs over the same tasks, one list a run: how often each rule takes one run
    for better than another, over all ordered pairs. `ours` is a lineage of as many proposals as a run has others."""
    scores = np.asarray(runs) == 1
    if scores.ndim != 2 or len(scores) < 2:
        raise ValueError("on_real takes at least two runs over the same tasks")
    others = np.array([[j for j in range(len(scores)) if j != i] for i in range(len(scores))])
    before, after = scores[:, None], scores[others]
    found = {name: rule(before, after) for name, rule in RULES.items()}
    found["ours"] = ours(p_gain(*changes(before, after)), alpha)
    return {"runs": len(scores), "tasks": scores.shape[1], **{name: share(accepted) for name, accepted in found.items()}}


def share(hits: Any) -> dict[str, Any]:
    """The share of simulated cases, with its 95 % interval."""
    n, k = int(np.size(hits)), int(np.sum(hits))
    return {"share": k / n, "n": n, "ci": proportion_interval(k, n)}
