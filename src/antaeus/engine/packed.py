"""Weights laid out for small products: what decoding multiplies again and again, a few rows at a time.

A product of few rows by a large matrix is as fast as the matrix can be read, and oneDNN reads its own blocked layout faster than
rows. On two cores with AVX512-BF16: 1.6 times at 16 rows, 1.2 at 64, 1.1 at 128, nothing from 256 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from antaeus.engine.memory import free_bytes

STEPS = 16  # tokens from which on it pays: laying out all weights takes about as long as one step of 64 rows, and saves a seventh of each


@contextmanager
def packed(model: torch.nn.Module, steps: int) -> Iterator[None]:
    """Inside, linear layers in bfloat16 on the CPU compute from packed copies of their weights, where `steps` tokens are worth it
    and a quarter of the free memory holds the copies. The weights must not change meanwhile."""
    layers = [m for m in model.modules() if type(m) is torch.nn.Linear and _fits(m)]
    size = sum(layer.weight.nbytes for layer in layers)
    if steps < STEPS or not torch.ops.mkldnn._is_mkldnn_bf16_supported() or size > free_bytes(torch.device("cpu")) // 4:
        layers = []
    for layer in layers:
        layer.forward = partial(_linear, torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach()), layer.bias)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own again


def _fits(layer: torch.nn.Linear) -> bool:
    return layer.weight.device.type == "cpu" and layer.weight.dtype == torch.bfloat16


def _linear(weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
