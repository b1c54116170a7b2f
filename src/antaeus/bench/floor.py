"""What a step must cost on this machine: its floating point operations at the measured rate of matrix products of its shapes.

A lower bound by counting, in the manner of 6ND (Kaplan et al. 2020, arXiv 2001.08361): 2 operations a weight and token forward,
4 more backward; logits only where a token is drawn or learned; what prompts begin with in common is read once. Attention scores,
softmax, drawing, the optimiser, all memory traffic and any recomputation are left out. For dense models: of a mixture of experts,
all weights would count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MANY = 2048  # rows of a large product, such as those of an update
SECONDS = 0.3  # for each measured product


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a step: rows sampled at once, tokens of each, prompt tokens (all, and with common beginnings once), and the
    model's hidden and feed-forward widths, weights of its layers (`body`) and of its output layer (`head`)."""

    rows: int
    tokens: int
    prompt_tokens: int
    distinct_prompt_tokens: int
    hidden: int
    inner: int
    body: int
    head: int


def floor(shape: Shape, rates: list[dict[str, Any]], dtype: str) -> dict[str, float]:
    """Giga-operations and seconds of sampling (products of `rows` rows) and of the update (products of many rows)."""
    read = shape.distinct_prompt_tokens + shape.rows * (shape.tokens - 1)  # the last token of a completion is never read
    once = (shape.body * read + shape.head * shape.rows * shape.tokens) / 1e9
    small, large = (rate["gflops"] for rate in rates if rate["dtype"] == dtype)
    return {
        "sample_gflop": round(2 * once, 1), "update_gflop": round(6 * once, 1),
        "sample_s": 2 * once / small, "update_s": 6 * once / large,
    }  # fmt: skip


def matmul_rates(shape: Shape, device: torch.device) -> list[dict[str, Any]]:
    """Giga-operations a second of rows x hidden by hidden x inner, for sampling's rows and an update's, in either data type."""
    out = []
    for dtype in ("bfloat16", "float32"):
        for rows in (shape.rows, MANY):
            gflops = _rate(rows, shape.hidden, shape.inner, dtype, device)
            out.append({"dtype": dtype, "rows": rows, "inner": shape.hidden, "columns": shape.inner, "gflops": gflops})
    return out


def _rate(rows: int, inner: int, columns: int, dtype: str, device: torch.device) -> float:
    """The best of as many products as fit into `SECONDS`, of the same weights over and over: more than a step can reach, which
    reads new ones for each product."""
    import torch

    x, w = (torch.randn(n, inner, device=device).to(getattr(torch, dtype)) for n in (rows, columns))
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        torch.nn.functional.linear(x, w)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * rows * inner * columns / best / 1e9
