"""How often gates err: simulated lineages of proposals, and others' published rules on the same data. Numbers only, no model.

Everything returned is plain: shares with their 95 % intervals. Two kinds of proposals that are no better, both harder than they look:

* `resampled`: the same model, sampled anew. Each task is answered with a chance of its own, and the incumbent's answers are drawn once,
  so that where it was unlucky all proposals seem to gain;
* `retrained`: other weights of equal ability, greedy. As many answers turn right as turn wrong.

Discordance, the share of tasks whose score changes, is drawn anew for each lineage, from `DISCORDANCE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antaeus.guard.rules import RULES, Scores, changes, first_crossing, ours, p_gain, share
from antaeus.stats import log_wealth

DISCORDANCE = (0.05, 0.30)
ACCURACY = (0.2, 0.8)
BATCH = 50  # lineages drawn at once, to hold little memory


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
) -> dict[str, Any]:
    """One proposal, looked at after each task: the share of streams ever promoted by the e-process, by repeating the exact test at
    the same alpha, and by that test once at the end; and after how many tasks the e-process promoted (median)."""
    rng = np.random.default_rng(seed)
    low, high = (discordance - gain) / 2, (discordance + gain) / 2
    u = rng.random((streams, tasks))
    wins, losses = u < high, (u >= high) & (u < high + low)
    crossed = log_wealth(wins * 1.0 - losses) >= -math.log(alpha)
    p = p_gain(wins.cumsum(-1), losses.cumsum(-1))
    stopped = first_crossing(crossed)[crossed.any(-1)] + 1
    return {
        "gain": gain, "discordance": discordance, "tasks": tasks, "alpha": alpha,
        "e-process": share(crossed.any(-1)), "repeated test": share((p <= alpha).any(-1)), "test at the end": share(p[:, -1] <= alpha),
        "median tasks": float(np.median(stopped)) if len(stopped) else None,
    }  # fmt: skip
