"""The peer's side: `Trainer` of transformers with bf16=True. Float32 weights, gradients and moments under bfloat16 autocast, rows
padded to the longest, logits of all tokens. As in ours, and not in bfloat16 alone, steps of 1e-6 change the weights."""

from __future__ import annotations

import tempfile
from typing import Any

from antaeus.bench.transformers_peer import MICRO, batch, load
from antaeus.bench.work import Turn, Work
from antaeus.engine.quiet import quiet


def trainer(turn: Turn, work: Work) -> None:
    """`work.steps` optimiser steps of the trainer's own loop on given completions."""
    import torch
    import transformers

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> None:
            return None

    model, tokenizer = load(work, "float32")
    rows = [row for step in work.completions(tokenizer) for row in step]
    with quiet(), tempfile.TemporaryDirectory() as folder:
        settings = _settings(work, folder)
        args = transformers.TrainingArguments(**settings)
        looped = InOrder(model, args, lambda some: batch(some, "cpu"), rows, callbacks=[halt(turn)])  # type: ignore[arg-type]
        looped.remove_callback(transformers.PrinterCallback)
        micro = settings["per_device_train_batch_size"]
        turn.ready(version=transformers.__version__, micro_rows=micro, threads=torch.get_num_threads())
        looped.train()


def _settings(work: Work, folder: str) -> dict[str, Any]:
    """As many rows a micro-batch as fit into `MICRO`; a Trainer's are all of one size."""
    rows = work.prompts * work.samples
    micro = max(n for n in range(1, MICRO + 1) if rows % n == 0)
    return {
        "output_dir": folder, "max_steps": work.steps, "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": rows // micro, "learning_rate": 8e-6, "lr_scheduler_type": "constant", "weight_decay": 0.0,
        "max_grad_norm": 1.0, "optim": "adamw_torch_fused", "bf16": work.dtype == "bfloat16", "use_cpu": work.device == "cpu",
        "remove_unused_columns": False, "dataloader_pin_memory": False,
        "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip


def halt(turn: Turn) -> Any:
    """A callback that halts a trainer before each optimiser step and reports after it."""
    from transformers import TrainerCallback

    class Halt(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            turn.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            turn.end()

    return Halt()
