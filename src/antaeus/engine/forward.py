"""Forward passes in which nothing that prompts share is computed twice, and no padding.

A batch of prompts is read in up to three passes, each continuing the key/value cache of the one before: what all prompts begin
with (the shots), once; what is left of each prompt, once; the completions of a prompt, all of them. That is plain autograd through
ordinary `transformers` caches, so the same functions serve decoding and updates. Where the model lets us choose its attention, rows of
unequal length are packed into one, and the completions of a prompt share its part of the cache; where it does not, rows are padded and
the cache is copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from antaeus.engine.attention import install
from antaeus.engine.checks import reason
from antaeus.engine.context import Context
from antaeus.errors import UserError

MIN_SHARED = 8  # tokens; a shorter common beginning is not worth a pass of its own
Ids = Sequence[int]


class Net:
    """A causal language model as a body (ids to hidden states) and a head (hidden states to logits)."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.body = model.base_model
        self.head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[assignment]
        self.device = model.device
        self.packing = install(model)
        self.packs = self.packing.able
        _check(self)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V], with the scaling and soft cap some architectures put behind their head."""
        config, logits = self.model.config.get_text_config(), self.head(hidden)
        scale = getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
        if scale != 1.0:  # a pass over the whole vocabulary
            logits = logits * scale
        cap = getattr(config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def extend(self, context: Context, ids: Tensor, real: Tensor) -> Tensor:
        """Read `ids` [R, S] after `context` (changed in place), `real` [R, S] marking what is not padding. Returns the hidden
        states of the real tokens, row after row, [N, D]."""
        steps = real.long().cumsum(1)
        positions = context.position[:, None] + (steps - 1).clamp(min=0)
        before, context.mask = context.mask, torch.cat([context.mask, real], 1)
        context.position = context.position + steps[:, -1]
        if not self.packs:
            return self._read(context, ids, positions, context.mask.long())[real]
        width = ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=self.device).tril() & real[:, None]
        context.room = max(0, context.room - width)
        empty = before.new_zeros(len(ids), width, context.room)
        visible = torch.cat([before[:, None].expand(-1, width, -1), causal, empty], 2) & real[..., None]
        if width == 1 or len(ids) == 1:
            return self._read(context, ids, positions, visible[:, None])[real]
        return self._read(context, ids[real][None], positions[real][None], visible[:, None], real)[0]

    def _read(self, context: Context, ids: Tensor, positions: Tensor, mask: Tensor, real: Tensor | None = None) -> Tensor:
        """The hidden states of `ids`, rows or all tokens that are `real` in one."""
        self.packing.begin(context.trunk, real)
        try:
            out = self.body(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=context.cache, use_cache=True
            )
        finally:
            self.packing.end()
        return out.last_hidden_state

    def prefill(self, prompts: Sequence[Ids]) -> Context:
        """Read distinct prompts, their common beginning once. Rows of the result are the prompts, `hidden` their last states.

        Where the model does not pack, prompts are read whole and padded on the left: windows and biases count columns, so no
        padding may stand between two tokens.
        """
        shared = common_beginning(prompts) if self.packs else 0
        context = self.nothing(1 if shared else len(prompts))
        if shared:
            self.extend(context, *pad([prompts[0][:shared]], self.device))
            context.select(torch.zeros(len(prompts), dtype=torch.long, device=self.device))
        ids, real = pad([p[shared:] for p in prompts], self.device, left=not self.packs)
        context.hidden = self.extend(context, ids, real)[real.sum(1).cumsum(0) - 1]
        return context

    def nothing(self, rows: int) -> Context:
        """Rows that have read nothing yet."""
        mask = torch.zeros(rows, 0, dtype=torch.bool, device=self.device)
        position, hidden = torch.zeros(rows, dtype=torch.long, device=self.device), torch.zeros(rows, 0, device=self.device)
        return Context(mask, position, hidden, self.packing)


def pad(rows: Sequence[Ids], device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids [R, S] padded with 0 and the mask of what is real, [R, S] bool."""
    width = max(map(len, rows))
    blank = [[0] * (width - len(r)) for r in rows]
    ids = [[*b, *r] if left else [*r, *b] for r, b in zip(rows, blank, strict=True)]
    lengths = torch.tensor([len(r) for r in rows], device=device)[:, None]
    column = torch.arange(width, device=device)
    real = column >= width - lengths if left else column < lengths
    return torch.tensor(ids, dtype=torch.long, device=device).view(len(rows), width), real


def common_beginning(prompts: Sequence[Ids]) -> int:
    """How many tokens all prompts begin with, leaving each at least one of its own; 0 where sharing does not pay."""
    if len(prompts) < 2:
        return 0
    texts = [tuple(prompt) for prompt in prompts]
    low, high = min(texts), max(texts)  # in lexical order the two extremes differ first
    limit = min(map(len, prompts)) - 1
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), limit)
    shared = min(shared, limit)
    return shared if shared >= MIN_SHARED else 0


@torch.inference_mode()
def _check(net: Net) -> None:
    """Refuse a model whose logits or caches do not behave as the rest of this file takes for granted."""
    kind = net.model.config.model_type
    try:
        right, alike = _probe(net)
    except Exception as err:  # an architecture's own code raises anything over a cache or a mask it does not expect
        raise UserError(f"model type {kind!r} does not read on from a shared cache ({reason(err)}); use another model") from err
    if not right:
        raise UserError(f"model type {kind!r} computes its logits in a way this engine does not know; use another model")
    if alike < (0.999 if net.model.dtype == torch.float32 else 0.9):  # bfloat16 rounds much on so meaningless a text
        raise UserError(f"model type {kind!r} does not read a prompt in parts as it reads it whole; use another model")


def _probe(net: Net) -> tuple[bool, float]:
    """Whether the logits are the head's, and the least cosine between states of unequal rows read in parts and read whole."""
    ids = [i % net.model.config.get_text_config().vocab_size for i in range(20, 60)]
    prompts = [ids[:12] + ids[12:13], ids[:12] + ids[20:25], ids[:12] + ids[30:33]]
    ends = [ids[13:15], ids[25:26], ids[33:35]]
    texts = [torch.tensor([p + e], device=net.device) for p, e in zip(prompts, ends, strict=True)]
    whole = [net.body(input_ids=text, use_cache=False).last_hidden_state[0] for text in texts]
    context = net.prefill(prompts)
    states = context.hidden
    context.branch(torch.tensor([0, 1, 2, 2], device=net.device))
    parts = torch.cat([states, net.extend(context, *pad([*ends, ends[2]], net.device))[: sum(map(len, ends))]])
    after = [state[-len(e) :] for state, e in zip(whole, ends, strict=True)]
    states = torch.cat([*(state[len(p) - 1 : len(p)] for state, p in zip(whole, prompts, strict=True)), *after])
    logits, own = net.model(input_ids=texts[0], use_cache=False).logits[0], net.logits(whole[0])
    right = (logits - own).abs().max() <= 1e-2 * logits.abs().max()
    return bool(right), torch.cosine_similarity(states.float(), parts.float()).min().item()
