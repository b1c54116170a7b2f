"""The peer's side of self-edits: one PEFT adapter after another, then its questions by `generate` in one batch.

`official` is the authors' way (Continual-Intelligence/SEAL, general-knowledge/src/inner/TTT_server.py): every document is filled up to
2048 tokens with end tokens, which are labels too and which nobody attends to. There the loop is `transformers.Trainer`; here it is a plain
one, whose own work is next to nothing, so that this peer is a little faster and thus fairer. There vLLM answers, to which each adapter goes
by way of the disk; here `generate` does. Both sides draw, shuffle, clip and fall alike, and give the same adapters
(tests/test_bench_edits.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from antaeus.bench.edit_work import HOW, MAX_TOKENS, Edit, edits_of, prompts_of
from antaeus.bench.transformers_peer import load
from antaeus.bench.work import Turn, Work
from antaeus.engine.base import Tuning
from antaeus.engine.models import context_length

if TYPE_CHECKING:
    import torch

PADDED = 2048  # `max_seq_length` there; a model of a shorter context has documents of that


def official(turn: Turn, work: Work) -> None:
    """Documents filled up to `PADDED` tokens. A turn takes a single step, which is long."""
    _one_by_one(turn, work, PADDED, 1)


def unpadded(turn: Turn, work: Work) -> None:
    """Documents as they are. A turn takes eight steps."""
    _one_by_one(turn, work, 0, 8)


def _one_by_one(turn: Turn, work: Work, width: int, taken: int) -> None:
    import peft
    import torch

    model, tokenizer = load(work)
    edits, width = edits_of(work, tokenizer), min(width, context_length(model))
    turn.ready(version=peft.__version__, threads=torch.get_num_threads(), edits=1, taken=taken, padded=width)
    for i in range(work.steps):
        edit, how = edits[i % len(edits)], replace(HOW, seed=i)
        turn.begin()
        own = fresh(model, how)
        with turn.part("train") as trained:
            learn(own, rows(edit, tokenizer, width, model.device), how, taken)
        answer(own, tokenizer, edit)
        model = own.unload()
        turn.end(**trained)


def fresh(model: Any, how: Tuning) -> Any:
    """The model with a new adapter."""
    import peft
    import torch

    torch.manual_seed(how.seed)
    config = peft.LoraConfig(r=how.rank, lora_alpha=how.alpha, target_modules=list(how.targets), task_type="CAUSAL_LM")
    return peft.get_peft_model(model, config, autocast_adapter_dtype=False)


def rows(edit: Edit, tokenizer: Any, width: int, device: Any) -> list[dict[str, torch.Tensor]]:
    """Each document with an end token behind it, as a batch of one [1, T]; with a `width`, filled up to it. All tokens are labels."""
    import torch

    out = []
    for ids in map(tokenizer.encode, edit.documents):
        filled = torch.tensor([[*ids, *[tokenizer.eos_token_id] * max(1, width - len(ids))]], device=device)
        seen = torch.arange(filled.shape[1], device=device) < (len(ids) if width else len(ids) + 1)
        out.append({"input_ids": filled, "attention_mask": seen[None].long(), "labels": filled})
    return out


def learn(model: Any, documents: Sequence[dict[str, torch.Tensor]], how: Tuning, taken: int | None = None) -> list[float]:
    """The first `taken` steps (None: all) of an adapter's training. Returns the loss of each."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    params, losses = [p for p in model.parameters() if p.requires_grad], []
    adam = torch.optim.AdamW(params, lr=how.lr, weight_decay=0.0, fused=True)
    schedule = get_linear_schedule_with_warmup(adam, 0, how.epochs * len(documents))
    for i in islice(_order(len(documents), how), taken):
        loss = model(**documents[i]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        schedule.step()
        adam.zero_grad()
        losses.append(loss.item())
    return losses


def _order(n: int, how: Tuning) -> Iterator[int]:
    import torch

    dice = torch.Generator().manual_seed(how.seed)
    for _ in range(how.epochs):
        yield from torch.randperm(n, generator=dice).tolist()


def answer(model: Any, tokenizer: Any, edit: Edit) -> list[list[int]]:
    """Greedy answers of exactly `MAX_TOKENS` token ids."""
    import torch

    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.pad_token or tokenizer.eos_token
    read = tokenizer(prompts_of(edit), return_tensors="pt", padding=True).to(model.device)
    model.generation_config.eos_token_id = None  # nothing ends an answer, and no token is ruled out either
    with torch.inference_mode():
        out = model.generate(
            input_ids=read.input_ids, attention_mask=read.attention_mask, do_sample=False, max_new_tokens=MAX_TOKENS,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    return out[:, read.input_ids.shape[1] :].tolist()
