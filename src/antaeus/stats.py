"""Exact tests, intervals and sizes on counts and paired differences. Every number the product shows has its interval from here.

A paired difference is one number in [-1, 1] for each task: the share of right tries after, minus that before. Several tries of one
task are a cluster and give one number, for they are not independent of each other; tasks are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

Array = NDArray[np.float64]
FINEST = 1000  # the grid on which differences without a common denominator are tested
BETS: Array = np.geomspace(0.02, 0.9, 12)  # shares of the wealth that the e-process stakes, from small gains to great ones


# --- shares and counts --------------------------------------------------------------------------------------------------


def proportion_interval(correct: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share; (0, 1) for n = 0. With several tries a task, `correct` is the sum of the tasks' shares, and
    the interval is wider than it need be: a mean of tries varies less than one try."""
    if n == 0:
        return 0.0, 1.0
    z, p = _quantile((1 + level) / 2), correct / n
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z * z / n)), min(1.0, (middle + spread) / (1 + z * z / n))


def unequal(failed: int, of: int, other: int, of_other: int) -> float:
    """Fisher's exact two-sided p-value that two shares are the same: failed / of and other / of_other."""
    return float(fisher_exact([[failed, of - failed], [other, of_other - other]])[1])  # type: ignore[index]


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased chance that at least one of k attempts is right, from `correct` right ones of n >= k (Chen et al. 2021, eq. 1)."""
    if not 0 < k <= n:
        raise ValueError(f"pass@k needs 0 < k <= n, got k={k}, n={n}")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


# --- paired differences, looked at once ---------------------------------------------------------------------------------


def difference_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean paired difference, one a task: Wald's, from n differences and four halves of one: of 1, of -1, and two
    of 0. Where each is -1, 0 or 1, it is that of Agresti and Min (2005), which keeps its coverage where few items change."""
    if not differences:
        return -1.0, 1.0
    n, squares = len(differences) + 2, sum(d * d for d in differences) + 1
    middle = sum(differences) / n
    spread = _quantile((1 + level) / 2) * math.sqrt(max(0.0, squares / n - middle**2) / n)
    return max(-1.0, middle - spread), min(1.0, middle + spread)


def sign_flip(differences: Sequence[float], alternative: str = "greater") -> float:
    """Exact p-value of the sign-flip test: the chance of so large a sum if each difference were as likely to be its negative.

    `alternative`: "greater", "less" or "two-sided". With differences of -1, 0 and 1 it is McNemar's exact test, and right wherever gains
    and losses are equally likely. With finer ones it is exact where before and after can be exchanged within each task; where only
    their means agree it is right in the limit alone: gains of 1/4 on 16 % of 400 tasks and losses of 1 on 4 % pass at p <= 0.001 in
    0.5 % of a million draws. The e-value has no such gap. The sum's distribution is computed on the grid of the differences' common
    denominator. Where that exceeds `FINEST`, differences are rounded to 1 / `FINEST` and the observed sum is lowered by the most
    that all roundings together can make, so that the p-value is never too small.
    """
    if alternative == "two-sided":
        return min(1.0, 2 * min(sign_flip(differences), sign_flip(differences, "less")))
    steps, total = _on_grid([-d for d in differences] if alternative == "less" else differences)
    first = max(0, math.ceil((total + sum(steps)) / 2))  # sums are twice what the positive ones make, less all of them
    return min(1.0, float(_positive_sums(steps)[first:].sum()))


def _on_grid(differences: Sequence[float]) -> tuple[list[int], int]:
    """Sizes of the differences and their sum, in steps of the grid."""
    exact = [Fraction(d).limit_denominator(FINEST) for d in differences]
    grid = math.lcm(*(f.denominator for f in exact))
    if grid <= FINEST and all(abs(f - d) < 1e-9 for f, d in zip(exact, differences, strict=True)):
        return [int(abs(f) * grid) for f in exact], int(sum(exact) * grid)
    return [round(abs(d) * FINEST) for d in differences], math.ceil(math.fsum(differences) * FINEST - len(differences) / 2)


def _positive_sums(steps: Sequence[int]) -> Array:
    """Chance of each sum of the steps that come out positive, where each does with one half."""
    chances, reach = np.zeros(sum(steps) + 1), 1
    chances[0] = 1.0
    for step in steps:
        half = chances[:reach] / 2
        chances[:reach] = half
        chances[step : reach + step] += half
        reach += step
    return chances


def tasks_needed(gain: float, discordance: float, alpha: float, power: float = 0.8) -> int:
    """About how many tasks a one-sided paired test at `alpha` needs to see `gain` with chance `power` (Connor 1987).
    `discordance` is the share of tasks whose score changes (with several tries: the mean squared difference); it is at least the gain."""
    d = max(discordance, gain)
    root = _quantile(1 - alpha) * math.sqrt(d) + _quantile(power) * math.sqrt(d - gain * gain)
    return math.ceil((root / gain) ** 2)


def visible_gain(n: int, discordance: float, alpha: float, power: float = 0.8) -> float:
    """The smallest gain that n tasks show with chance `power`: the inverse of `tasks_needed`. At most 1."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if tasks_needed(middle, discordance, alpha, power) <= n else (middle, high)
    return high


def level_of_e(alpha: float) -> float:
    """The level of a one-sided test about as strict as an e-value of 1 / alpha: log wealth is at most z^2 / 2, and the mean over
    `BETS` takes a factor of some 6."""
    return NormalDist().cdf(-math.sqrt(2 * math.log(6 / alpha)))


def _quantile(p: float) -> float:
    return NormalDist().inv_cdf(p)


# --- paired differences, looked at again and again ----------------------------------------------------------------------


def log_wealth(differences: Sequence[float] | NDArray[Any]) -> Array:
    """Logarithm of the e-process after each paired difference, along the last axis.

    A gambler with one coin stakes the share b of what he has on each difference being positive: his wealth is the product of
    1 + b d. Where no difference has a positive mean given those before it, that is a non-negative supermartingale, and so is the mean over
    `BETS` (Waudby-Smith and Ramdas 2023; Shafer 2021). By Ville's inequality it ever reaches 1 / alpha with chance at most
    alpha: one may look after every task and stop at will. Raises `ValueError` for differences outside [-1, 1].
    """
    d = np.asarray(differences, dtype=float)
    if not (np.abs(d) <= 1).all():
        raise ValueError("a paired difference lies in [-1, 1]")
    total = np.full(d.shape, -np.inf)
    for bet in BETS:
        total = np.logaddexp(total, np.log1p(bet * d).cumsum(-1))
    return total - math.log(len(BETS))


def e_process(differences: Sequence[float]) -> list[float]:
    """The e-process after each difference, see `log_wealth`; numbers above 1e300 are cut to that."""
    return np.exp(np.minimum(log_wealth(differences), 690.0)).tolist()


def e_value(differences: Sequence[float]) -> float:
    """The e-process after the last difference; 1 where there is none."""
    return e_process(differences)[-1] if len(differences) else 1.0
