"""Exact and interval statistics on counts. Everything the product shows as a number comes with an interval from here."""

from __future__ import annotations

import math

from scipy.stats import binomtest


def proportion_interval(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(correct, n).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p-value of McNemar's test: `wins` items went wrong -> right, `losses` right -> wrong. 1 where none changed."""
    changed = wins + losses
    return float(binomtest(wins, changed).pvalue) if changed else 1.0


def paired_interval(wins: int, losses: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two paired shares, (wins - losses) / n: Wald's with half a count added to each of the four
    cells (Agresti and Min 2005), which keeps its coverage where few items change. n counts all pairs."""
    if n == 0:
        return -1.0, 1.0
    b, c, m = wins + 0.5, losses + 0.5, n + 2
    z = _normal_quantile((1 + level) / 2)
    middle, spread = (b - c) / m, z * math.sqrt(max(0.0, b + c - (b - c) ** 2 / m)) / m
    return max(-1.0, middle - spread), min(1.0, middle + spread)


def _normal_quantile(p: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased chance that at least one of k attempts is right, from `correct` right ones of n >= k (Chen et al. 2021, eq. 1)."""
    if not 0 < k <= n:
        raise ValueError(f"pass@k needs 0 < k <= n, got k={k}, n={n}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)
