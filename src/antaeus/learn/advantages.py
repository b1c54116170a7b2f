"""Group-relative advantages: a list of rewards in, a list of the same length out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean, stdev


def grpo(rewards: Sequence[float], eps: float = 1e-6) -> list[float]:
    """(r - mean) / (std + eps), std with n - 1 (GRPO, 2402.03300 §4.1.2; eps as in verl)."""
    if len(rewards) < 2:
        return [0.0] * len(rewards)
    mean, std = fmean(rewards), stdev(rewards)
    return [(r - mean) / (std + eps) for r in rewards]


def rloo(rewards: Sequence[float]) -> list[float]:
    """r minus the mean of the others (RLOO, 2402.14740): n / (n - 1) (r - mean)."""
    n = len(rewards)
    if n < 2:
        return [0.0] * n
    mean = fmean(rewards)
    return [n / (n - 1) * (r - mean) for r in rewards]


def dr_grpo(rewards: Sequence[float]) -> list[float]:
    """r - mean (Dr.GRPO, 2503.20783), meant for the "constant" aggregate."""
    mean = fmean(rewards) if rewards else 0.0
    return [r - mean for r in rewards]


ADVANTAGES: dict[str, Callable[[Sequence[float]], list[float]]] = {"grpo": grpo, "rloo": rloo, "dr_grpo": dr_grpo}
