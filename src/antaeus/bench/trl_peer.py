"""The peer's side: `GRPOTrainer` of huggingface/trl, set up to be as fast as it can be without a generation server.

Weights and optimiser in the data type that ours computes in (ours has float32 masters on top), no reference model, no gradient
checkpointing, all completions generated in one batch, micro-batches of at most `MICRO` rows in the update.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from antaeus.answers import extract
from antaeus.bench.trainer_peer import halt
from antaeus.bench.work import Turn, Work
from antaeus.engine.quiet import quiet

MICRO = 32  # 16 and 64 took the same CPU time within 15 % (smollm2, 4 x 16 x 8), and 64 nearly twice the memory


def trl(turn: Turn, work: Work) -> None:
    """`work.steps` optimiser steps of the trainer's own loop, halted before each and reported after it."""
    import torch
    import trl as package
    from datasets import Dataset
    from transformers import PrinterCallback

    with quiet(), tempfile.TemporaryDirectory() as folder:
        settings = _settings(work, folder)
        prompts, config = Dataset.from_dict({"prompt": work.texts()}), package.GRPOConfig(**settings)
        trainer = package.GRPOTrainer(work.model, _vote(work), config, prompts, callbacks=[halt(turn)])
        trainer.remove_callback(PrinterCallback)
        rows = settings["per_device_train_batch_size"]
        turn.ready(version=package.__version__, micro_rows=rows, threads=torch.get_num_threads())
        trainer.train()


def _settings(work: Work, folder: str) -> dict[str, Any]:
    together = max(n for n in range(1, work.prompts + 1) if work.prompts % n == 0 and (n == 1 or n * work.samples <= MICRO))
    return {
        "output_dir": folder, "max_steps": work.steps, "learning_rate": 5e-6, "lr_scheduler_type": "constant", "seed": 0,
        "per_device_train_batch_size": together * work.samples, "gradient_accumulation_steps": work.prompts // together,
        "num_generations": work.samples,
        "max_completion_length": work.tokens, "generation_kwargs": {"min_new_tokens": work.tokens},
        "beta": 0.0, "num_iterations": 1, "use_vllm": False, "gradient_checkpointing": False, "shuffle_dataset": False,
        "model_init_kwargs": {"dtype": work.dtype}, "bf16": False, "use_cpu": work.device == "cpu",  # bf16=True would be autocast
        "report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip


def _vote(work: Work) -> Callable[..., list[float | None]]:
    """A reward function: 1 for the most frequent answer of each prompt's completions."""

    def vote(completions: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float | None]:
        assert {len(ids) for ids in completion_ids} == {work.tokens}
        answers = [extract(text, "number") for text in completions]
        groups = [answers[i : i + work.samples] for i in range(0, len(answers), work.samples)]
        best = [Counter(a for a in group if a is not None).most_common(1) for group in groups]
        return [float(bool(top) and a == top[0][0]) for group, top in zip(groups, best, strict=True) for a in group]

    return vote
