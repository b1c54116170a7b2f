"""Attention for the shapes that groups of completions make: many rows of unequal length, few beginnings, few key/value heads.

Three things differ from `scaled_dot_product_attention` as `transformers` calls it. Query heads that share a key/value head are
stacked as rows of one matrix product, so that keys and values are not repeated (on the CPU, many times faster for short queries,
above all backwards); long queries still go to PyTorch's kernel, which does not hold the scores in memory. What rows began with in
common is one product for all of them: its keys and values are kept and read once. And the queries may come packed: all real tokens
of the batch in one row, so that everything outside attention computes no padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import count
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from antaeus.engine.blocks import Blocks

FEW = 64  # queries a row up to which the scores are held in memory
FEW_TAUGHT = (
    256  # the same where gradients are wanted: PyTorch's backward pass is slow on the CPU (90 queries: a sixth of a step)
)
NAME, NUMBERS = "antaeus", count()
KNOWN: WeakKeyDictionary[PreTrainedModel, tuple[str, Packing]] = WeakKeyDictionary()  # each model attends in a name of its own


class Trunk:
    """What rows began with in common: which of its columns are real, [P, T], and which of the P beginnings each row goes on from, [R]."""

    def __init__(self, mask: Tensor, owner: Tensor) -> None:
        self.mask, self.owner = mask, owner
        self.blocks = Blocks(owner, len(mask), split=False)  # in each layer, keys would have to be copied to a second block
        self.hidden = None if mask.all() else ~self.blocks.of(mask)[:, None, None]

    def join(self, other: Trunk) -> Trunk:
        """Both, the other's behind."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        masks = [torch.nn.functional.pad(t.mask, (0, width - t.mask.shape[1])) for t in (self, other)]
        return Trunk(torch.cat(masks), torch.cat([self.owner, other.owner + len(self.mask)]))

    def scores(self, stacked: Tensor, keys: Tensor) -> Tensor:
        """Of queries [R, K, Q, D] to the keys of their beginnings [P, K, T, D]: [R, K, Q, T]."""
        queries = self.blocks.lay(stacked).transpose(1, 2).flatten(2, 3)
        scores = queries @ self.blocks.of(keys).transpose(2, 3)
        return self._back(scores if self.hidden is None else _hide(scores, self.hidden), stacked.shape[2])

    def read(self, weights: Tensor, values: Tensor) -> Tensor:
        """The values of their beginnings [P, K, T, D], weighted by [R, K, Q, T]: [R, K, Q, D]."""
        laid = self.blocks.lay(weights).transpose(1, 2).flatten(2, 3)
        return self._back(laid @ self.blocks.of(values), weights.shape[2])

    def _back(self, laid: Tensor, queries: int) -> Tensor:
        """[B, K, size x Q, ...] -> [R, K, Q, ...]."""
        return self.blocks.back(laid.unflatten(2, (-1, queries)).transpose(1, 2))


@dataclass
class Packing:
    """Whether a model is able to attend this way, and what its attention has to know of the pass under way."""

    able: bool
    real: Tensor | None = None  # where packed tokens belong, [R, S]; None while they come as rows
    where: Tensor | None = None  # the same as places in R x S; None where that is all of them
    trunk: Trunk | None = None
    beginnings: tuple[Tensor, Tensor] | None = None  # the trunk's keys and values in the layer under way, [P, K, T, D]

    def begin(self, trunk: Trunk | None, real: Tensor | None) -> None:
        self.trunk, self.real = trunk, real
        self.where = None if real is None or real.all() else real.flatten().nonzero().squeeze(1)

    def end(self) -> None:
        self.trunk = self.real = self.where = self.beginnings = None


def spread(packed: Tensor, packing: Packing) -> Tensor:
    """[1, H, N, D], the real tokens of all rows one after another -> [R, H, S, D], zeros where nothing is real."""
    assert packing.real is not None
    tokens = packed[0].transpose(0, 1)
    if packing.where is not None:
        tokens = tokens.new_zeros(packing.real.numel(), *tokens.shape[1:]).index_copy_(0, packing.where, tokens)
    return tokens.unflatten(0, tuple(packing.real.shape)).transpose(1, 2)


def attend(
    packing: Packing, module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs
) -> tuple[Tensor, None]:
    """The interface of `transformers`: query [R, H, S, D], key and value [R, K, T, D], mask bool [R, 1, S, T] -> [R, S, H, D].

    A packed query is [1, H, N, D], and so is its result, [1, N, H, D].
    """
    if packing.real is None:
        return _attend(packing, module, query, key, value, mask, **kwargs), None
    out = _attend(packing, module, spread(query, packing), key, value, mask, **kwargs).flatten(0, 1)
    return (out if packing.where is None else out.index_select(0, packing.where))[None], None


def _attend(
    packing: Packing, module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs
) -> Tensor:
    rows, heads, queries, size = query.shape
    many = queries > (FEW_TAUGHT if query.requires_grad else FEW)
    if many or mask is None or mask.dtype != torch.bool or mask.shape[1] != 1 or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, *_whole(packing, key, value, mask), **kwargs)[0]
    scaled = query * (kwargs.get("scaling") or size**-0.5)
    stacked, trunk, columns = scaled.reshape(rows, key.shape[1], -1, size), packing.trunk, key.shape[2]
    scores = (stacked @ key.transpose(2, 3)).unflatten(2, (-1, queries))
    scores = _hide(scores, ~mask[:, :, None]).flatten(2, 3)
    if trunk is None or packing.beginnings is None:
        out = _weights(scores, value) @ value
    else:
        weights = _weights(torch.cat([trunk.scores(stacked, packing.beginnings[0]), scores], -1), value)
        begun, own = weights.split([weights.shape[-1] - columns, columns], -1)
        out = own @ value + trunk.read(begun, packing.beginnings[1])
    return out.view(rows, heads, queries, -1).transpose(1, 2)


def _hide(scores: Tensor, hidden: Tensor) -> Tensor:
    return scores.masked_fill(hidden, torch.finfo(scores.dtype).min)


def _weights(scores: Tensor, value: Tensor) -> Tensor:
    return scores.softmax(-1, dtype=torch.float32).to(value.dtype)


def _whole(packing: Packing, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys, values and mask with each row's own copy of what it began with."""
    if packing.trunk is None or packing.beginnings is None:
        return key, value, mask
    assert mask is not None
    owner = packing.trunk.owner
    begun = packing.trunk.mask[owner][:, None, None].expand(-1, *mask.shape[1:3], -1)
    if mask.dtype != torch.bool:
        begun = torch.zeros_like(begun, dtype=mask.dtype).masked_fill_(~begun, torch.finfo(mask.dtype).min)
    keys, values = (torch.cat([b[owner], own], 2) for b, own in zip(packing.beginnings, (key, value), strict=True))
    return keys, values, torch.cat([begun, mask], -1)


def install(model: PreTrainedModel) -> Packing:
    """Make `model` attend this way, as the packing returned tells it: always the same one for a model. It is not able to if its attention
    is its own, or sees a window or through a soft cap."""
    if model not in KNOWN:
        config = model.config.get_text_config()
        windowed = any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ())
        windowed |= (
            getattr(config, "sliding_window", None) is not None or getattr(config, "attn_logit_softcapping", None) is not None
        )
        if windowed or config._attn_implementation != "sdpa" or not model._supports_attention_backend:
            return Packing(able=False)
        name, packing = f"{NAME}-{next(NUMBERS)}", Packing(able=True)
        AttentionInterface.register(name, partial(attend, packing))
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
        KNOWN[model] = name, packing
    name, packing = KNOWN[model]
    model.set_attn_implementation(name)
    return packing
