"""Many LoRA adapters trained together, and the same ones trained one after another with PEFT: `prompts` adapters of rank 32 on the
query and value layers, `samples` steps each, every step on one sequence of `tokens` tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from antaeus.bench.floor import matmul_rates, read_rates
from antaeus.bench.ours import shape
from antaeus.bench.transformers_peer import load
from antaeus.bench.work import Turn, Work

if TYPE_CHECKING:
    from antaeus.engine.adapter_plans import Plan

RANK, TARGETS, LR = 32, ("q_proj", "v_proj"), 1e-4


def together(turn: Turn, work: Work) -> None:
    """Ours: one batch a step."""
    import torch

    from antaeus.engine.adapters import Adapters
    from antaeus.engine.local import LocalEngine

    engine = LocalEngine(work.model)
    adapters = Adapters(engine, work.prompts, rank=RANK, alpha=2 * RANK, targets=TARGETS)
    sizes, dtype = shape(engine, work), str(engine.model.dtype).removeprefix("torch.")
    rates = matmul_rates(replace(sizes, rows=work.prompts * work.tokens), engine.model.device)
    # forward, and backward to the activations alone: the base's weights learn nothing
    work_done = 4 * (sizes.body + sizes.head) * work.prompts * (work.tokens - 1) * work.samples / 1e9
    rate = next(r["gflops"] for r in rates if r["dtype"] == dtype)
    floor = {"adapters_gflop": round(work_done, 1), "adapters_s": work_done / rate}
    turn.ready(
        dtype=dtype, device=str(engine.model.device), threads=torch.get_num_threads(),
        matmul=rates, memory=read_rates(sizes, engine.model.device, dtype), floor=floor,
    )  # fmt: skip
    for each in texts(work, engine.tokenizer):
        todo = plans(each, work.samples)
        turn.begin()
        adapters.train(todo)
        turn.end()


def alone(turn: Turn, work: Work) -> None:
    """The peer: adapter after adapter, sequences as they are, without padding."""
    import peft
    import torch

    model, tokenizer = load(work)
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    turn.ready(version=peft.__version__, threads=torch.get_num_threads())
    for each in texts(work, tokenizer):
        turn.begin()
        for ids in each:
            own: Any = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
            _train(own, torch.tensor([ids], device=model.device), work.samples)
            model = own.unload()
        turn.end()


def _train(model: Any, ids: Any, steps: int) -> None:
    import torch

    params = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(params, lr=LR, weight_decay=0.0, fused=True)
    for _ in range(steps):
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        adam.zero_grad()


def plans(each: list[tuple[int, ...]], steps: int) -> list[Plan]:
    """An adapter for each sequence, trained on it for `steps` steps."""
    from antaeus.engine.adapter_plans import Example, Plan

    return [Plan((Example(ids),), lr=LR, steps=steps, seed=i) for i, ids in enumerate(each)]


def texts(work: Work, tokenizer: Any) -> list[list[tuple[int, ...]]]:
    """For each measured step, the sequence of every adapter."""
    return [[ids for _, ids in rows[: work.prompts]] for rows in work.completions(tokenizer)]
