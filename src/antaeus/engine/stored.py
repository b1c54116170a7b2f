"""Weights that are kept: out of the folders that an engine wrote, all that is wanted of a version, or one line that says what is wrong with
it; and in memory, in half the room where that loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from antaeus.errors import UserError


def weights(folder: Path, trainable: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The trainable weights in a version's folder by parameter name; of `kind` "weights" or "adapter"."""
    if kind == "weights":
        values = {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in read(file).items()}
        names = {n: n for n in trainable}
    else:
        values = read(folder / "adapter_model.safetensors")
        names = {n: "base_model.model." + n.replace(".default.", ".") for n in trainable}
    expect(folder, values, {k: trainable[n] for n, k in names.items()})
    return {n: values[k] for n, k in names.items()}


def expect(where: Path, values: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`values`, if they have all that is `wanted`, in the same shapes."""
    if strays := [name for name, t in wanted.items() if name not in values or values[name].shape != t.shape]:
        lacks = f"{len(strays)} of {len(wanted)} weights are missing or have another shape (first: {strays[0]})"
        raise UserError(f"{where}: not a version of this model, {lacks}")
    return values


def read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except Exception as err:  # safetensors raises its own errors, OSError and ValueError for damaged files
        raise UserError(f"{file}: cannot be read as safetensors ({err}); the file is missing or damaged") from err


def thrifty(weights: Tensor) -> Tensor:
    """A copy, in bfloat16 where that holds the same numbers: most models are stored in it, whatever they are computed in."""
    half = weights.to(torch.bfloat16, copy=True)
    return half if torch.equal(half.to(weights.dtype), weights) else weights.clone()
