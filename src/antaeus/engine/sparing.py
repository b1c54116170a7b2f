"""Which directions of a layer's input adapters leave alone, so that what the policy does with certain texts stays what it is.

A layer adds B A x to its output. Where A is blind to the span U of what the layer reads in some texts (A U = 0), these texts are answered
as before. U holds the leading eigenvectors of the sum of x x^T over their tokens, as many as carry a share of its trace: gradient
projection memory (Saha et al. 2021, arXiv 2103.09762, section 4), here for low-rank adapters as in null-space edits (AlphaEdit, arXiv
2410.02355). Exact for the first layer; further up inputs move a little with what other tokens have become.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from antaeus.engine.forward import Net, pad
from antaeus.engine.update import micro_batches
from antaeus.types import Lesson


@torch.no_grad()
def directions(
    net: Net, layers: Mapping[str, nn.Module], lessons: Sequence[Lesson], share: float, max_tokens: int
) -> list[Tensor]:
    """For each layer U [in, k], orthonormal, with `share` (0 to 1) of the energy of its inputs over the lessons' tokens."""
    seen: dict[str, Tensor] = {}
    hooks = [layer.register_forward_hook(partial(_add, seen, name)) for name, layer in layers.items()]
    try:
        for batch in micro_batches(lessons, max_tokens):
            net.extend(net.nothing(len(batch)), *pad([(*lessons[i].prompt_ids, *lessons[i].ids) for i in batch], net.device))
    finally:
        for hook in hooks:
            hook.remove()
    return [leading(seen[name], share) for name in layers]


def leading(energy: Tensor, share: float) -> Tensor:
    """Of a symmetric matrix [d, d] the fewest leading eigenvectors that carry `share` of its trace, [d, k]."""
    values, vectors = torch.linalg.eigh(energy)
    carried = values.flip(0).clamp(min=0).cumsum(0)
    return vectors.flip(1)[:, : int((carried < share * carried[-1]).sum()) + 1]


def spare(a: Tensor, u: Tensor) -> Tensor:
    """A [..., in] without its part in the span of u [in, k]."""
    return a - (a @ u) @ u.T


def _add(seen: dict[str, Tensor], name: str, layer: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
    x = args[0].reshape(-1, args[0].shape[-1]).float()
    seen[name] = seen.get(name, x.new_zeros(x.shape[1], x.shape[1])) + x.T @ x
