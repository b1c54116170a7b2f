"""What a step must cost on this machine: its floating point operations at the measured rate of matrix products of its shapes, and
the weights and the cache that sampling reads at the measured rate of reading memory.

Lower bounds by counting. Of arithmetic, in the manner of 6ND (Kaplan et al. 2020, arXiv 2001.08361): 2 operations a weight and token
forward, 4 more backward; logits only where a token is drawn or learned; what prompts begin with in common is read once. Attention
scores, softmax, drawing, the optimiser, all memory traffic and any recomputation are left out. Of reading: every weight once for each
token of a row, and before each token what the cache holds of all rows. Models and caches small enough for the processor's own caches
can be read faster than that. For dense models: of a mixture of experts, all weights would count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MANY = 2048  # rows of a large product, such as those of an update
BLOCK = 2**29  # bytes that are read: many times what a processor's own cache holds
SECONDS = 0.3  # for each measured product or reading


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a step: rows sampled at once, tokens of each, prompt tokens (all, and with common beginnings once), and the
    model's hidden and feed-forward widths, weights of its layers (`body`) and of its output layer (`head`), numbers cached a token
    (`column`)."""

    rows: int
    tokens: int
    prompt_tokens: int
    distinct_prompt_tokens: int
    hidden: int
    inner: int
    body: int
    head: int
    column: int


def floor(shape: Shape, rates: list[dict[str, Any]], memory: dict[str, Any]) -> dict[str, float]:
    """Giga-operations and seconds of sampling (products of `rows` rows) and of the update (products of many rows); gigabytes and seconds
    of what sampling reads."""
    read = shape.distinct_prompt_tokens + shape.rows * (shape.tokens - 1)  # the last token of a completion is never read
    once = (shape.body * read + shape.head * shape.rows * shape.tokens) / 1e9
    small, large = (rate["gflops"] for rate in rates if rate["dtype"] == memory["dtype"])
    weights, cache = (n * memory["itemsize"] / 1e9 for n in (shape.tokens * (shape.body + shape.head), _cached(shape)))
    return {
        "sample_gflop": round(2 * once, 1), "update_gflop": round(6 * once, 1),
        "sample_s": 2 * once / small, "update_s": 6 * once / large,
        "weights_gb": weights, "cache_gb": cache, "read_s": (weights + cache) / memory["stream_gb_s"],
    }  # fmt: skip


def _cached(shape: Shape) -> int:
    """Numbers of the cache read in a step: before each token but the first, prompts (common beginnings once) and what was drawn."""
    drawn = shape.rows * sum(range(1, shape.tokens))
    return shape.column * (shape.distinct_prompt_tokens * (shape.tokens - 1) + drawn)


def matmul_rates(shape: Shape, device: torch.device) -> list[dict[str, Any]]:
    """Giga-operations a second of rows x hidden by hidden x inner, for sampling's rows and an update's, in either data type."""
    out = []
    for dtype in ("bfloat16", "float32"):
        for rows in (shape.rows, MANY):
            gflops = _rate(rows, shape.hidden, shape.inner, dtype, device)
            out.append({"dtype": dtype, "rows": rows, "inner": shape.hidden, "columns": shape.inner, "gflops": gflops})
    return out


def _rate(rows: int, inner: int, columns: int, dtype: str, device: torch.device) -> float:
    """Of the same weights over and over, as they are or packed, whichever is faster: more than a step can reach, which reads new ones for
    each product."""
    import torch

    from antaeus.engine.packed import STEPS, packed

    kind = getattr(torch, dtype)
    x = torch.randn(rows, inner, device=device).to(kind)
    layer = torch.nn.Linear(inner, columns, bias=False, device=device, dtype=kind)
    with torch.inference_mode():
        seconds = _best(lambda: layer(x), device)
        with packed(layer, STEPS):
            seconds = min(seconds, _best(lambda: layer(x), device))
    return 2 * rows * inner * columns / seconds / 1e9


def read_rates(shape: Shape, device: torch.device, dtype: str) -> dict[str, Any]:
    """Gigabytes a second of `BLOCK` bytes of this data type: read as one stream by all threads (added up as 4-byte words, which costs the
    least), and read as the weights of a product of one row, as decoding reads them, in rows of the model's feed-forward width."""
    import torch

    block = torch.ones(BLOCK // (kind := getattr(torch, dtype)).itemsize, dtype=kind, device=device)
    words, weights = block.view(torch.float32), block[: len(block) // shape.inner * shape.inner].view(-1, shape.inner)
    stream = _best(words.sum, device)
    product = _best(lambda: torch.nn.functional.linear(weights[:1], weights), device)
    rates = {"stream_gb_s": block.nbytes / stream / 1e9, "product_gb_s": weights.nbytes / product / 1e9}
    return {"dtype": dtype, "itemsize": kind.itemsize, "block_mb": BLOCK // 10**6, **rates}


def _best(act: Callable[[], torch.Tensor], device: torch.device) -> float:
    """The fewest seconds of as many times as fit into `SECONDS`."""
    import torch

    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best
