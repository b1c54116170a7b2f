"""How often gates err: simulated lineages of proposals, and others' published rules on the same data. Numbers only, no model.

Everything returned is plain: shares with their 95 % intervals. Two kinds of proposals that are no better, both harder than they look:

* `resampled`: the same model, sampled anew. Each task is answered with a chance of its own, and the incumbent's answers are drawn once,
  so that where it was unlucky all proposals seem to gain;
* `retrained`: other weights of equal ability, greedy. As many answers turn right as turn wrong.

Discordance, the share of tasks whose score changes, is drawn anew for each lineage, from `DISCORDANCE`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from antaeus.guard.lineage import Budget
from antaeus.stats import log_wealth, proportion_interval

Scores = NDArray[Any]  # booleans or numbers; the last axis is tasks
Rule = Callable[[Scores, Scores], NDArray[np.bool_]]
"""(scores before, scores after), [..., tasks] each, to whether it accepts, [...]."""

DISCORDANCE = (0.05, 0.30)
ACCURACY = (0.2, 0.8)
BATCH = 50  # lineages drawn at once, to hold little memory


# --- data ---------------------------------------------------------------------------------------------------------------


def no_effect(kind: str, lineages: int, proposals: int, tasks: int, seed: int = 0) -> Iterator[tuple[Scores, Scores]]:
    """Batches of (before [batch, 1, tasks], after [batch, proposals, tasks]), right or wrong, of proposals that are no better."""
    rng = np.random.default_rng([seed, kind == "resampled"])
    for first in range(0, lineages, BATCH):
        shape = (min(BATCH, lineages - first), 1, 1)
        mean, changed = rng.uniform(*ACCURACY, shape), rng.uniform(*DISCORDANCE, shape)
        if kind == "resampled":  # tasks' chances from a beta distribution with 2 E[p (1 - p)] = the discordance
            spread = changed / (2 * mean * (1 - mean) - changed)
            chance = rng.beta(mean * spread, (1 - mean) * spread, (len(mean), 1, tasks)).astype(np.float32)
            before = rng.random(chance.shape, np.float32) < chance
        else:
            before = rng.random((len(mean), 1, tasks), np.float32) < mean
            chance = np.where(before, 1 - changed / (2 * mean), changed / (2 * (1 - mean))).astype(np.float32)
        yield before, rng.random((len(mean), proposals, tasks), np.float32) < chance


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


# --- rules --------------------------------------------------------------------------------------------------------------


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


def sprt(before: Scores, after: Scores, effect: float = 0.5, first: int = 2, alpha: float = 0.05, beta: float = 0.2):
    """Wald's sequential test of two arms of normal scores with the variance estimated as one goes, looked at after each pair from
    the `first` on, at most 200. Accepts what crosses the upper bound before the lower one."""
    k = np.arange(1, min(after.shape[-1], 200) + 1)
    (mean_a, var_a), (mean_b, var_b) = _running(before, k), _running(after, k)
    error, shrink = (var_a + var_b) / k, k / (k + 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (effect * (mean_b - mean_a) * np.sqrt(shrink) - effect**2 / 2 * shrink) / error
    looked = (k >= first) & (error > 1e-12)
    up = looked & (ratio >= math.log((1 - beta) / alpha))
    down = looked & (ratio <= math.log(beta / (1 - alpha)))
    return up.any(-1) & (_first(up) < _first(down))


def canary(before: Scores, after: Scores, drop: float = 0.05, first: int = 30) -> NDArray[np.bool_]:
    """*Roll back* at the first look, from `first` samples on, at which the new version stands `drop` below the old one; each of them
    answers other requests, the old one as many as `before` has for each of `after`."""
    shown, n = np.asarray(after, float), after.shape[-1]
    each = before.shape[-1] // n
    k = np.arange(1, n + 1)
    old = np.asarray(before, float)[..., : each * n].reshape(*before.shape[:-1], n, each).sum(-1).cumsum(-1) / (each * k)
    return ((old - shown.cumsum(-1) / k > drop) & (k >= first)).any(-1)


RULES: dict[str, Rule] = {"new > old on 200": newer_is_better, "p < 0.05 each": significant, "SPRT, plug-in variance": sprt}


def _running(scores: Scores, k: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of the first k scores."""
    x = np.asarray(scores[..., : len(k)], float)
    mean = x.cumsum(-1) / k
    return mean, np.maximum((x * x).cumsum(-1) - k * mean**2, 0.0) / np.maximum(k - 1, 1)


def _first(crossed: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.where(crossed.any(-1), crossed.argmax(-1), crossed.shape[-1])


# --- figures ------------------------------------------------------------------------------------------------------------


def false_promotions(
    kind: str, lineages: int = 2000, proposals: int = 50, tasks: int = 400, alpha: float = 0.05, seed: int = 0
) -> dict[str, Any]:
    """For each rule, over lineages in which nothing is ever better: how often a proposal is accepted, and how many lineages accept
    one at least once in all proposals, and in the first ten. `best of ten`: the best of ten proposals beats the incumbent."""
    accepted: dict[str, list[NDArray[np.bool_]]] = {"ours": [], **{name: [] for name in RULES}}
    for before, after in no_effect(kind, lineages, proposals, tasks, seed):
        accepted["ours"] += [ours(p_gain(*changes(before, after)), alpha)]
        for name, rule in RULES.items():
            accepted[name] += [rule(before, after)]
    found = {name: np.concatenate(rows) for name, rows in accepted.items()}
    newer = found["new > old on 200"]
    return {
        "kind": kind, "lineages": lineages, "proposals": proposals, "tasks": tasks, "alpha": alpha,
        "rules": {name: {"each": share(a), "in ten": share(a[:, :10].any(1)), "ever": share(a.any(1))} for name, a in found.items()},
        "best of ten": share(newer[:, : proposals // 10 * 10].reshape(-1, 10).any(1)),
    }  # fmt: skip


def power(
    gains: Sequence[float] = tuple(g / 100 for g in range(11)), discordances: Sequence[float] = (0.06, 0.1, 0.15, 0.2, 0.3),
    lineages: int = 2000, proposals: int = 50, tasks: int = 400, alpha: float = 0.05, seed: int = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """A true gain over the incumbent, by discordance: the share of lineages that promote it where it is `alone` (the only proposal
    declared), `one` of `proposals` (at a random place, the others no better), and where `all` proposals have it (at least one is
    promoted; `promotions` is how many, on one exam). Luck is drawn anew for each proposal; were it one and the same for all, `all`
    would be no more than `one`."""
    rng, rows = np.random.default_rng(seed), []
    for gain, changed in ((g, d) for d in discordances for g in gains if g <= d):

        def draw(gains: NDArray[np.float64] | float, size: tuple[int, int], changed: float = changed) -> NDArray[np.float64]:
            moved = rng.binomial(tasks, changed, size)
            wins = rng.binomial(moved, (1 + gains / changed) / 2)
            return p_gain(wins, moved - wins)

        place = rng.integers(proposals, size=lineages)
        where = np.arange(proposals) == place[:, None]
        mixed, every = ours(draw(gain * where, where.shape), alpha)[where], ours(draw(gain, where.shape), alpha)
        alone = draw(gain, (lineages, 1))[:, 0] <= alpha
        row = {"gain": gain, "discordance": changed, "alone": share(alone), "one": share(mixed), "all": share(every.any(1))}
        rows.append({**row, "promotions": float(every.sum(1).mean())})
    return rows


def peeking(
    discordance: float = 0.2, gain: float = 0.0, streams: int = 5000, tasks: int = 400, alpha: float = 0.05, seed: int = 0
):
    """One proposal, looked at after each task: the share of streams ever promoted by the e-process, by repeating the exact test at
    the same alpha, and by that test once at the end; and after how many tasks the e-process promoted (median)."""
    rng = np.random.default_rng(seed)
    low, high = (discordance - gain) / 2, (discordance + gain) / 2
    u = rng.random((streams, tasks))
    wins, losses = u < high, (u >= high) & (u < high + low)
    crossed = log_wealth(wins * 1.0 - losses) >= -math.log(alpha)
    p = p_gain(wins.cumsum(-1), losses.cumsum(-1))
    stopped = _first(crossed)[crossed.any(-1)] + 1
    return {
        "gain": gain, "discordance": discordance, "tasks": tasks, "alpha": alpha,
        "e-process": share(crossed.any(-1)), "repeated test": share((p <= alpha).any(-1)), "test at the end": share(p[:, -1] <= alpha),
        "median tasks": float(np.median(stopped)) if len(stopped) else None,
    }  # fmt: skip


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
    """A share of simulated cases with its 95 % interval."""
    n, k = int(np.size(hits)), int(np.sum(hits))
    return {"share": k / n, "n": n, "ci": proportion_interval(k, n)}
