"""Does a submitted model descend from the base? Hashes, architecture, tokenizer, and how far each tensor has moved.

Training moves weights a little; another model, or a fresh one, has nothing to do with the base. Of independent tensors of equal
size the distance |c - b| is sqrt(2) times |b|; `FAR` lies between. Measured, largest of all tensors: SmolLM2-135M after 15 to 50
rounds of reinforcement at 5e-6 to 8e-6, 0.003; the two-layer `tiny` after 20 rounds at 1e-3, 0.06, and at 1e-2, 0.55. Matrices of both
with their rows shuffled 1.05 to 1.43, drawn anew 1.39 to 1.44. Every tensor is judged, so that one swapped layer is seen.

A sibling, such as the instruct variant of a base, lies near it too. What tells it apart is how far any single weight can have come:
Adam moves a weight by at most 3.17 times its learning rate a step (Kingma and Ba 2015, section 2.1, betas .9 and .999), so by at
most 3.17 times the sum of all rates, plus rounding to the stored type. In the same runs it
was 1.0 times that sum at most. Give the sum as `rates` where it is known.

Weights are read with numpy from safetensors, one tensor at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from antaeus.errors import UserError
from antaeus.guard.findings import Finding

RULE = "weights"
FAR = 0.8  # relative distance of a tensor
ADAM_REACH = 3.17  # of one step, in learning rates: (1 - beta1) / sqrt(1 - beta2)
ROUNDING = 2.0**-7  # relative, of bfloat16 written twice
_PASSING = {"dtype", "torch_dtype", "transformers_version", "_name_or_path", "use_cache", "_attn_implementation_autoset"}
_KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}
_TIED = "lm_head.weight"

Tensors = dict[str, tuple[Path, int, dict[str, Any]]]
"""Name -> file, where its data begins, what the header says of the tensor."""


def weights_hash(folder: Path) -> str:
    """sha256 over names and contents of a folder's weights (*.safetensors) and config.json or adapter_config.json, and of the adapters on
    its shelf with their keys."""
    kinds = [place + kind for place in ("", "shelf/*/") for kind in ("*.safetensors", "*config.json")]
    files = sorted(path for kind in (*kinds, "shelf/keys.jsonl") for path in folder.glob(kind))
    if not any(path.suffix == ".safetensors" for path in files):
        raise UserError(f"{folder}: holds no *.safetensors to hash")
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as data:
            total.update(f"{path.relative_to(folder)}:{hashlib.file_digest(data, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def descends(folder: Path, base: Path, rates: float | None = None) -> list[Finding]:
    """Fatal findings where the model in `folder` (whole weights, or an adapter) cannot be the one in `base` after training; none where
    it may be. `rates` is the sum of the learning rates of all steps, where all weights were trained by Adam."""
    try:
        if (folder / "adapter_config.json").is_file():
            return _adapter(folder, base)
        return [*_same_settings(folder, base), *_same_words(folder, base), *_same_weights(folder, base, rates)]
    except (OSError, UserError, ValueError, KeyError) as error:
        return [Finding(RULE, "fatal", f"it cannot be read, so nothing shows where it comes from: {error}", str(folder))]


def distances(folder: Path, base: Path) -> dict[str, tuple[float, float]]:
    """Tensor -> (|c - b| / |b|, largest move of one weight beyond rounding) of all tensors that both have."""
    ours, theirs = tensors(folder), tensors(base)
    return {name: _distance(_read(ours[name]), _read(theirs[name])) for name in ours if name in theirs}


def tensors(folder: Path) -> Tensors:
    """What the safetensors files of a folder hold. Raises `UserError` where there are none or one is damaged."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= path.stat().st_size - 8:
                raise UserError(f"{path}: damaged: its header is longer than the file")
            header = json.loads(file.read(size))
        found |= {name: (path, 8 + size, about) for name, about in header.items() if name != "__metadata__"}
    if not found:
        raise UserError(f"{folder}: holds no weights in *.safetensors")
    return found


def _read(where: tuple[Path, int, dict[str, Any]]) -> np.ndarray:
    path, begin, about = where
    if about["dtype"] not in _KINDS:
        raise UserError(f"{path}: tensors of type {about['dtype']} cannot be compared")
    start, end = about["data_offsets"]
    raw = np.fromfile(path, dtype=np.uint8, count=end - start, offset=begin + start).view(_KINDS[about["dtype"]])
    if about["dtype"] == "BF16":  # the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32, copy=False).reshape(about["shape"])


def _distance(c: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    moved = np.abs(c - b)
    beyond = float((moved - ROUNDING * np.maximum(np.abs(b), np.abs(c))).max(initial=0.0))
    return float(np.linalg.norm(moved) / (np.linalg.norm(b) or 1.0)), beyond


def _same_weights(folder: Path, base: Path, rates: float | None) -> Iterator[Finding]:
    ours, theirs = tensors(folder), tensors(base)
    if strays := sorted((ours.keys() ^ theirs.keys()) - {_TIED}):
        yield Finding(RULE, "fatal", f"{len(strays)} tensors stand in only one of it and its base", strays[0])
    both = sorted(ours.keys() & theirs.keys())
    shaped = [name for name in both if ours[name][2]["shape"] == theirs[name][2]["shape"]]
    if len(shaped) < len(both):
        odd = next(name for name in both if name not in shaped)
        yield Finding(RULE, "fatal", f"{len(both) - len(shaped)} tensors have another shape than in the base", odd)
    moved = {name: _distance(_read(ours[name]), _read(theirs[name])) for name in shaped}
    yield from _too_far(moved, rates)


def _too_far(moved: Mapping[str, tuple[float, float]], rates: float | None) -> Iterator[Finding]:
    if unreal := [name for name, (far, _) in moved.items() if not np.isfinite(far)]:
        yield Finding(RULE, "fatal", f"{len(unreal)} tensors hold numbers that are not finite", unreal[0])
    if far := [name for name, (distance, _) in moved.items() if distance > FAR]:
        worst = max(far, key=lambda name: moved[name][0])
        what = f"{len(far)} of {len(moved)} tensors are not those of the base after training (relative distance {moved[worst][0]:.2f})"
        yield Finding(RULE, "fatal", what, worst)
    if rates is None or not moved:
        return
    worst = max(moved, key=lambda name: moved[name][1])
    if (beyond := moved[worst][1]) > ADAM_REACH * rates:
        what = f"a weight moved by {beyond:.2g}, and this run's steps can have moved it by {ADAM_REACH * rates:.2g} at most"
        yield Finding(RULE, "fatal", f"{what}: other training, or another model, has been at work", worst)


def _same_settings(folder: Path, base: Path) -> Iterator[Finding]:
    """Settings that both name must agree; libraries of different versions add and leave out some."""
    ours, theirs = _json(folder / "config.json"), _json(base / "config.json")
    for key in sorted(ours.keys() & theirs.keys() - _PASSING):
        if ours[key] != theirs[key]:
            yield Finding(
                RULE, "fatal", f"its {key} is {ours[key]!r}, the base's {theirs[key]!r}: another architecture", "config.json"
            )
    if lost := {"model_type", "architectures"} - ours.keys():
        yield Finding(RULE, "fatal", f"its configuration lacks {sorted(lost)[0]}", "config.json")


def _same_words(folder: Path, base: Path) -> Iterator[Finding]:
    ours, theirs = _vocabulary(folder), _vocabulary(base)
    if ours is None or theirs is None:
        yield Finding(RULE, "fatal", "a tokenizer is missing, so nothing shows that the two read the same", "tokenizer.json")
    elif ours != theirs:
        yield Finding(RULE, "fatal", "its tokenizer is not the base's", "tokenizer.json")
    if _template(folder) != _template(base):
        yield Finding(RULE, "fatal", "its chat template is not the base's", "chat_template.jinja")


def _vocabulary(folder: Path) -> Any:
    for name in ("tokenizer.json", "vocab.json"):
        if (folder / name).is_file():
            whole = _json(folder / name)
            return (
                whole.get("model", whole),
                [(t["id"], t["content"]) for t in whole.get("added_tokens", []) if isinstance(t, dict)],
            )
    model = folder / "tokenizer.model"
    return hashlib.sha256(model.read_bytes()).hexdigest() if model.is_file() else None


def _template(folder: Path) -> Any:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    return _json(settings).get("chat_template") if settings.is_file() else None


def _adapter(folder: Path, base: Path) -> list[Finding]:
    """Low-rank moves B A alpha / r of a PEFT folder against the base's matrices."""
    about, ours, theirs = _json(folder / "adapter_config.json"), tensors(folder), tensors(base)
    scale = about["lora_alpha"] / (about["r"] ** (0.5 if about.get("use_rslora") else 1))
    downs = {name.removesuffix(".lora_A.weight"): name for name in ours if name.endswith(".lora_A.weight")}
    whole = [name for name in ours if not name.endswith((".lora_A.weight", ".lora_B.weight"))]
    found = [Finding(RULE, "fatal", f"the adapter holds {len(whole)} tensors that are not low-rank", name) for name in whole[:1]]
    moved = {}
    for place, down in downs.items():
        matrix = place.removeprefix("base_model.model.") + ".weight"
        if matrix not in theirs:
            return [*found, Finding(RULE, "fatal", "the adapter is for a matrix that the base does not have", matrix)]
        b = _read(theirs[matrix])
        delta = scale * _read(ours[f"{place}.lora_B.weight"]) @ _read(ours[down])
        if delta.shape != b.shape:
            return [*found, Finding(RULE, "fatal", "the adapter does not fit the shape of the base's matrix", matrix)]
        moved[matrix] = (float(np.linalg.norm(delta) / (np.linalg.norm(b) or 1.0)), 0.0)
    return [*found, *_too_far(moved, None)]


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise UserError(f"{path}: is not a JSON object")
    return found
