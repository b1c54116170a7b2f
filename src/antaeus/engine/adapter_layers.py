"""The layers of a model that carry adapters, found and measured as PEFT does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn
from transformers.pytorch_utils import Conv1D

from antaeus.engine.checks import reason
from antaeus.errors import UserError

if TYPE_CHECKING:
    from antaeus.engine.local import LocalEngine

Layer = nn.Linear | Conv1D


def sizes(layer: Layer) -> tuple[int, int]:
    """How wide the input of a layer is, and its output. A `Conv1D` holds its weight the other way round."""
    layer = getattr(layer, "base_layer", layer)
    written, read = layer.weight.T.shape if isinstance(layer, Conv1D) else layer.weight.shape
    return read, written


def targeted(engine: LocalEngine, targets: str | Sequence[str]) -> tuple[dict[str, Layer], list[str]]:
    """The layers that carry adapters, in the model's order, and the names PEFT finds them by. A layer that has an adapter already, which
    the engine trains, is carried with it."""
    named = dict(engine.model.named_modules())
    wrapped = tuple(f"{n}." for n, m in named.items() if hasattr(m, "base_layer"))
    found = {
        n: cast(Layer, m) for n, m in named.items()
        if (isinstance(m, Layer) or hasattr(m, "base_layer")) and m is not engine.net.head and not n.startswith(wrapped)
    }  # fmt: skip
    last = sorted({name.rpartition(".")[2] for name in found})
    wanted = last if targets == "all-linear" else sorted({targets} if isinstance(targets, str) else set(targets))
    if strays := [w for w in wanted if not any(f".{name}".endswith(f".{w}") for name in found)] or not wanted:
        raise UserError(f"no linear layer is called {strays}; this model has {', '.join(last) or 'none'}")
    return {n: m for n, m in found.items() if any(f".{n}".endswith(f".{w}") for w in wanted)}, wanted


def stored_scale(folder: Path) -> float:
    """The scale of a stored adapter; NaN where it is not that of plain LoRA."""
    config = _stored(folder)
    plain = not (config.use_rslora or config.use_dora or config.alpha_pattern)
    return config.lora_alpha / config.r if plain else math.nan


def stored_shape(folder: Path) -> dict[str, Any]:
    """Rank, alpha and targets of a stored adapter."""
    config = _stored(folder)
    return {"rank": config.r, "alpha": config.lora_alpha, "targets": sorted(config.target_modules)}


def _stored(folder: Path) -> Any:
    from peft import PeftConfig

    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
        _ = config.r, config.lora_alpha, config.use_rslora, config.use_dora, config.alpha_pattern, config.target_modules
        return config
    except Exception as err:  # peft raises ValueError, TypeError, KeyError... by what is wrong in adapter_config.json
        raise UserError(f"{folder}: its adapter_config.json cannot be read ({reason(err)})") from err
