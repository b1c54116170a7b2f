"""Attention for the shapes that groups of completions make: many rows of unequal length, few key/value heads.

Two things differ from `scaled_dot_product_attention` as `transformers` calls it. Query heads that share a key/value head are
stacked as rows of one matrix product, so that keys and values are not repeated (on the CPU, many times faster for short queries,
above all backwards); long queries still go to PyTorch's kernel, which does not hold the scores in memory. And the queries may
come packed: all real tokens of the batch in one row, so that everything outside attention computes no padding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

FEW = 64  # queries a row up to which the scores are held in memory
FEW_TAUGHT = (
    256  # the same where gradients are wanted: PyTorch's backward pass is slow on the CPU (90 queries: a sixth of a step)
)
NAME = "antaeus"


def spread(packed: Tensor, real: Tensor) -> Tensor:
    """[1, H, N, D], the real tokens of all rows one after another -> [R, H, S, D], zeros where `real` [R, S] is false."""
    out = packed.new_zeros(*real.shape, packed.shape[1], packed.shape[3])
    out[real] = packed[0].transpose(0, 1)
    return out.transpose(1, 2)


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs
) -> tuple[Tensor, None]:
    """The interface of `transformers`: query [R, H, S, D], key and value [R, K, T, D], mask bool [R, 1, S, T] -> [R, S, H, D].

    A packed query [1, H, N, D] is recognised by the mask's having more rows; its result is [1, N, H, D]. A query that may see
    nothing is padding.
    """
    if attention_mask is None or len(attention_mask) == len(query):
        return _attend(module, query, key, value, attention_mask, **kwargs), None
    real = attention_mask[:, 0].any(-1)
    return _attend(module, spread(query, real), key, value, attention_mask, **kwargs)[real][None], None


def _attend(module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs) -> Tensor:
    rows, heads, queries, size = query.shape
    many = queries > (FEW_TAUGHT if query.requires_grad else FEW)
    if many or mask is None or mask.dtype != torch.bool or mask.shape[1] != 1 or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)[0]
    shared = heads // key.shape[1]
    stacked = query.reshape(rows, key.shape[1], shared * queries, size)
    scores = (stacked @ key.transpose(2, 3)).view(rows, key.shape[1], shared, queries, -1) * (kwargs.get("scaling") or size**-0.5)
    weights = scores.masked_fill(~mask[:, :, None], torch.finfo(scores.dtype).min).softmax(-1, dtype=torch.float32)
    out = weights.to(value.dtype).view(*stacked.shape[:3], -1) @ value
    return out.view(rows, heads, queries, -1).transpose(1, 2)


def install(model: PreTrainedModel) -> bool:
    """Make `model` attend this way. False where it cannot: its attention is its own, or sees a window or through a soft cap."""
    config = model.config.get_text_config()
    windowed = any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())
    windowed |= getattr(config, "sliding_window", None) is not None or getattr(config, "attn_logit_softcapping", None) is not None
    if windowed or config._attn_implementation != "sdpa" or not model._supports_attention_backend:
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(NAME)
    return True
