"""Weights laid out for small products: what decoding multiplies again and again, a few rows at a time.

A product of few rows by a large matrix is as fast as the matrix can be read, and oneDNN reads its own blocked layout faster than
rows. In bfloat16 on two cores with AVX512-BF16: 1.6 times at 16 rows, 1.2 at 64, 1.1 at 128, nothing from 256 on. In float32 on two
with AVX2, against the product that PyTorch takes there: at 8 rows 1.2 to 1.7 times by layer and 4.7 for the head, at 64 rows 1.0 to 1.3
and 2.0, at 512 still 1.0 to 1.3 and 1.5.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from antaeus.engine.memory import free_bytes

STEPS = 16  # tokens from which on it pays in decoding: laying out all weights takes about a step of 64 rows, and saves a seventh of each
TAUGHT = 2  # steps from which on it pays in training: of hundreds of tokens each


@contextmanager
def packed(model: torch.nn.Module, steps: int, *, taught: bool = False) -> Iterator[None]:
    """Inside, linear layers on the CPU compute from packed copies of their weights, where `steps` products of each are worth it and a
    quarter of the free memory holds the copies. The weights must not change meanwhile.

    `taught`: gradients are wanted of what the layers read, though not of their weights. Then float32 weights have another copy, turned.
    """
    layers = [m for m in model.modules() if type(m) is torch.nn.Linear and _fits(m.weight, taught)]
    size = sum(layer.weight.nbytes for layer in layers) * (1 + taught)
    if steps < (TAUGHT if taught else STEPS) or size > free_bytes(torch.device("cpu")) // 4:
        layers = []
    pack = torch.ops.mkldnn._reorder_linear_weight
    try:
        for layer in layers:
            weight = layer.weight.detach()
            turned = (pack(weight.T.contiguous()),) if taught else ()
            layer.forward = partial(_taught if taught else _linear, pack(weight), layer.bias, *turned)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)  # the class's own again


def _fits(weight: Tensor, taught: bool) -> bool:
    """Whether this processor has oneDNN's products for it, and they pay; on other processors they have not been measured."""
    if weight.device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported() and not taught  # in training rows are many
    return weight.dtype == torch.float32


def _linear(weight: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")


def _taught(weight: Tensor, bias: Tensor | None, turned: Tensor, input: Tensor) -> Tensor:
    return _Frozen.apply(input, weight, bias, turned)  # type: ignore[return-value]


class _Frozen(torch.autograd.Function):
    """x W^T + b, whose gradient by x is g W."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, turned: Tensor) -> Tensor:
        ctx.turned = turned
        out = _linear(weight, bias, input.flatten(0, -2))
        return torch.ops.aten._unsafe_view(out, [*input.shape[:-1], -1])  # a plain view could not be added to in place

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        return _linear(ctx.turned, None, slopes[0]), None, None, None
