"""Drawing tokens: exact inverse-CDF sampling with one uniform number a token, and the statistics of the same pass."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 256  # tokens a block: two short scans (blocks, then inside one) replace one over the whole vocabulary
HALF = 2**-25  # half the step of uniform float32 numbers: without it, u = 0 would draw the first token however improbable it is


def statistics(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of float32 `logits` [R, V]: unnormalised probabilities [R, V], log of their normaliser [R], entropy in nats [R]."""
    top = logits.amax(-1, keepdim=True)
    weights = (logits - top).exp_()
    total = weights.sum(-1)
    mean = torch.linalg.vecdot(weights, logits) / total
    if mean.isnan().any():  # 0 x -inf: a token the model rules out
        mean = torch.linalg.vecdot(weights, logits.clamp(min=torch.finfo(logits.dtype).min)) / total
    lse = total.log() + top.squeeze(-1)
    return weights, lse, lse - mean


def draw(logits: Tensor, u: Tensor, temperature: float, top_k: int, top_p: float) -> tuple[Tensor, Tensor, Tensor]:
    """One token a row: ids [R], their log-probabilities [R], entropies [R].

    `logits` [R, V], `u` [R] in [0, 1). Temperature 0 takes the largest logit (statistics at temperature 1). Log-probability
    and entropy are of the whole distribution; top-k and top-p only restrict what may be drawn.
    """
    scaled = logits.float() if temperature in (0, 1) else logits.float() / temperature
    weights, lse, entropy = statistics(scaled)
    ids = _inverse_cdf(_restrict(weights, top_k, top_p), u) if temperature else scaled.argmax(-1)
    return ids, scaled.gather(-1, ids[:, None]).squeeze(-1) - lse, entropy


def _inverse_cdf(weights: Tensor, u: Tensor) -> Tensor:
    """The smallest token whose cumulated weight exceeds u times the total, found block by block. [R, V], [R] -> [R]."""
    rows, vocabulary = weights.shape
    gap = -vocabulary % BLOCK
    padded = (torch.nn.functional.pad(weights, (0, gap)) if gap else weights).view(rows, -1, BLOCK)
    blocks = padded.sum(-1).double().cumsum(-1)
    target = (u.double()[:, None] + HALF) * blocks[:, -1:]
    block = torch.searchsorted(blocks, target, right=True).clamp(max=blocks.shape[1] - 1)
    before = torch.where(block > 0, blocks.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = padded.gather(1, block[..., None].expand(-1, -1, BLOCK)).squeeze(1).double().cumsum(-1)
    # Never past the block's last positive weight: rounding must not draw a token of probability zero.
    target = torch.minimum(target - before, torch.nextafter(inside[:, -1:], torch.zeros_like(before)))
    return (block * BLOCK + torch.searchsorted(inside, target, right=True)).squeeze(1)


def _restrict(weights: Tensor, top_k: int, top_p: float) -> Tensor:
    """Weights with everything outside the top k, and outside the smallest set of mass `top_p`, set to zero."""
    if top_k and top_k < weights.shape[-1]:
        floor = weights.topk(top_k, -1).values[:, -1:]
        weights = torch.where(weights >= floor, weights, 0.0)
    if top_p < 1:
        ordered, order = weights.sort(-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p * ordered.sum(-1, keepdim=True)
        weights = weights.scatter(-1, order, ordered.masked_fill(outside, 0.0))
    return weights
