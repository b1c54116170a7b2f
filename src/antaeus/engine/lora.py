"""A frozen model with one LoRA adapter on it, by PEFT, and PEFT's folders of them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from antaeus.engine.quiet import quiet


def with_lora(causal, place: Path | str, rank: int, seed: int):
    """Freeze the model and put LoRA adapters (alpha = 2 x rank) on every linear layer but the head. Returns the PEFT wrapper.

    The adapter will name `place` as its base: left to itself, PEFT would name the base of a base that is an adapter too.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    causal.name_or_path = str(place.absolute() if isinstance(place, Path) else place)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with quiet():
        return get_peft_model(causal, config, autocast_adapter_dtype=False)


def settle(folder: Path) -> None:
    """Give the settings of an adapter one order: PEFT writes its set of layers as it comes, and equal adapters would differ."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
