"""Policy-gradient losses on flat token vectors, [N]: the completion tokens of a batch, row after row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from antaeus.engine.base import Update


def logprobs_of(logits: Tensor, ids: Tensor) -> Tensor:
    """The log-probability of each of `ids` [N] under float32 `logits` [N, V], differentiable once; [N].

    Of [N, V] only the unnormalised probabilities are kept, and they become the gradient in place: with `cross_entropy` three more
    such tensors are made and passed over."""
    return _LogProb.apply(logits, ids)  # type: ignore[return-value]


class _LogProb(torch.autograd.Function):
    """l_y - log sum e^l, and its gradient onehot(y) - softmax(l)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, ids: Tensor) -> Tensor:
        top = logits.amax(-1, keepdim=True)
        weights = (logits - top).exp_()
        total = weights.sum(-1, keepdim=True)
        ctx.kept = weights, total, ids
        return (logits.gather(-1, ids[:, None]) - top - total.log()).squeeze(-1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (weights, total, ids), slope = ctx.kept, slopes[0][:, None]
        del ctx.kept  # a second pass would find the gradient of the first, and fails instead
        return weights.mul_(-slope / total).scatter_add_(-1, ids[:, None], slope), None


def clipped_surrogate(logp: Tensor, old: Tensor, advantage: Tensor, how: Update) -> tuple[Tensor, Tensor]:
    """PPO's clipped loss with asymmetric bounds (DAPO, 2503.14476) and dual clip (1912.09729 eq. 5).

    L = -min(r A, clip(r, 1 - clip_low, 1 + clip_high) A); where A < 0, also L = min(L, -dual_clip * A). `dual_clip` 0 turns
    the second bound off. Returns the loss per token and whether a bound was active, both [N]. Log-ratios are clamped to
    [-20, 20] as verl does, so that nothing overflows.
    """
    ratio = torch.exp((logp - old).clamp(-20, 20))
    free = -ratio * advantage
    bounded = -ratio.clamp(1 - how.clip_low, 1 + how.clip_high) * advantage
    loss = torch.maximum(free, bounded)
    clipped = bounded > free
    if how.dual_clip:
        ceiling = -how.dual_clip * advantage
        over = (advantage < 0) & (loss > ceiling)
        loss, clipped = torch.where(over, ceiling, loss), clipped | over
    return loss, clipped


def k3(logp: Tensor, ref: Tensor) -> Tensor:
    """Schulman's k3 estimate of KL(policy || reference) per token: e^d - d - 1 with d = ref - logp, clamped to [-10, 10] as
    verl does (and d to [-20, 20]: beyond, e^d could overflow and make the gradient 0 x infinity)."""
    d = (ref - logp).clamp(-20, 20)
    return (d.exp() - d - 1).clamp(-10, 10)


def token_weights(lengths: Tensor, how: Update) -> Tensor:
    """The weight of each token, [N], so that the weighted sum over a whole batch is the aggregate of `Update.aggregate`.

    `lengths` [R] holds the completions' lengths. Weights sum over any split of the batch, hence micro-batches do not matter.
    """
    lengths = lengths.float()
    per_row = {
        "token": lambda: torch.ones_like(lengths) / lengths.sum(),
        "sequence": lambda: 1 / (lengths * len(lengths)),
        "constant": lambda: torch.ones_like(lengths) / (len(lengths) * how.max_tokens),
    }[how.aggregate]()
    return per_row.repeat_interleave(lengths.long())
