"""Where models come from: three embedded ones, a folder, an adapter folder, the hub. Loaded whole and checked, or refused in a line."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antaeus.engine import checks, embedded, lab
from antaeus.engine.cache import Say, stderr
from antaeus.engine.hub import download
from antaeus.engine.quiet import quiet
from antaeus.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]

EMBEDDED = {"smollm2": embedded.smollm2, "tiny": embedded.tiny, "lab": lab.lab}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of /proc/cpuinfo; the last is Arm's
DTYPES = ("float32", "bfloat16")


def resolve(model: str, say: Say = stderr) -> Path | str:
    """The folder of an embedded model ("smollm2", "tiny", "lab") or of a local one; any other string must be a hub id and is returned.

    Builds an embedded model on first use. Raises `UserError` for a path that is not there and a string that is neither.
    """
    if model in EMBEDDED:
        return EMBEDDED[model](say)
    path = os.path.expanduser(model)
    if os.path.isdir(path):
        return Path(path)
    if os.path.exists(path):
        raise UserError(f"model {model!r} is a file: give the folder with config.json and model.safetensors")
    if HUB_ID.fullmatch(model):
        return model
    raise UserError(f"model {model[:200]!r} is not a folder that exists, a hub id like org/name, or one of {', '.join(EMBEDDED)}")


def load(model: str, *, dtype: torch.dtype, device: torch.device | str, revision: str | None = None, say: Say = stderr) -> Loaded:
    """A causal language model and its tokenizer, ready to use. An adapter folder is loaded onto its base and merged.

    Args:
        model: as for `resolve`, or a folder or hub id with adapter_config.json.
        dtype: of the weights, whatever they are stored in.
        revision: commit, tag or branch of a hub id.
    """
    folder = fetch(model, revision, say)
    with quiet():
        lm, tokenizer = _open(folder, dtype, say)
    checks.check_finite(lm, str(folder))
    checks.check_tokenizer(tokenizer, lm, str(folder))
    return _onto(lm, device), tokenizer


def fetch(model: str, revision: str | None = None, say: Say = stderr) -> Path:
    """The local folder of `model`, downloaded if it is a hub id. Without network the hub's own cache is used."""
    place = resolve(model, say)
    if isinstance(place, str):
        return download(place, revision, say)
    if revision is not None:
        raise UserError(f"revision {revision!r} is for hub ids, and model {model!r} is a folder: leave it out")
    return place


def context_length(model: PreTrainedModel) -> int:
    """How many tokens the model can read and write together; `sys.maxsize` where its config sets no limit (state space models)."""
    config = model.config.get_text_config()
    names = ("max_position_embeddings", "n_positions", "max_seq_len")
    return next((int(limit) for name in names if (limit := getattr(config, name, None))), sys.maxsize)


def device_and_dtype(device: str | None = None, dtype: str | None = None) -> tuple[torch.device, torch.dtype]:
    """The device (None: cuda if there is one, else cpu) and dtype (None: bfloat16 where it is fast, else float32) to compute with.

    A CPU with AVX512-BF16, AMX or Arm's bf16 multiplies bfloat16 matrices about four times as fast as float32 ones; any other
    is slower with bfloat16. Raises `UserError` for a device that is not here and for any other dtype.
    """
    import torch

    where = torch.device(_device_name(device))
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    return where, getattr(torch, dtype or ("bfloat16" if _fast_bf16(where) else "float32"))


def _device_name(device: str | None) -> str:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if device is not None and device not in here:
        raise UserError(f"device {device!r} is not here: this machine and this torch have {', '.join(here)}")
    return device or ("cuda" if count else "cpu")


def _fast_bf16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not BF16_FLAGS.isdisjoint(words)


def _open(folder: Path, dtype: torch.dtype, say: Say, above: tuple[Path, ...] = ()) -> Loaded:
    return _adapted(folder, dtype, say, above) if (folder / "adapter_config.json").exists() else _plain(folder, dtype)


def _plain(folder: Path, dtype: torch.dtype) -> Loaded:
    from transformers import AutoModelForCausalLM

    checks.check_model_folder(folder)
    how: dict[str, Any] = {"use_safetensors": True, "trust_remote_code": False, "local_files_only": True}
    how |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # `check_loaded` judges and names them
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **how)
    except Exception as error:  # a config.json with impossible values raises from anywhere in the model's own code
        raise UserError(f"{folder}: transformers cannot load it: {checks.reason(error)}") from error
    lm, report = loaded
    checks.check_loaded(folder, report)
    return lm, _tokenizer(folder)


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")):
        raise UserError(f"{folder} has no tokenizer: copy tokenizer.json and tokenizer_config.json of its model there")
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged tokenizer.json
        raise UserError(f"{folder}: the tokenizer cannot be loaded: {checks.reason(error)}") from error


def _adapted(folder: Path, dtype: torch.dtype, say: Say, above: tuple[Path, ...]) -> Loaded:
    """The base an adapter folder names, with the adapter merged into its weights."""
    from peft import PeftConfig, get_peft_model

    base, revision = checks.check_adapter_folder(folder)
    if folder.resolve() in above:
        raise UserError(f"{folder}: this adapter is, through others, its own base: name a model in base_model_name_or_path")
    lm, tokenizer = _open(fetch(base, revision, say), dtype, say, (*above, folder.resolve()))
    try:
        adapted: Any = get_peft_model(lm, PeftConfig.from_pretrained(str(folder)))
        report = adapted.load_adapter(str(folder), "default", torch_device="cpu")
        merged = adapted.merge_and_unload()
    except Exception as error:  # peft raises ValueError, RuntimeError, AttributeError, KeyError... by kind of adapter
        raise UserError(f"{folder}: the adapter does not fit its base {base!r}: {checks.reason(error)}") from error
    if strays := [*report.missing_keys, *report.unexpected_keys]:
        raise UserError(f"{folder}: the adapter does not fit its base {base!r}: {len(strays)} weights differ, first {strays[0]}")
    return merged, tokenizer


def freeze_all_but_norms(lm: PreTrainedModel) -> None:
    """Leave only the scales and shifts of normalisation layers trainable (TENT, 2006.10726). Raises `UserError` where there are none."""
    norms = {
        id(p) for module in lm.modules() if "norm" in type(module).__name__.lower() for p in module.parameters(recurse=False)
    }
    if not norms:
        raise UserError("part=norms: the model has no normalisation layers with weights of their own; take part=all or lora=16")
    for p in lm.parameters():
        p.requires_grad_(id(p) in norms)


def _onto(lm: Any, device: torch.device | str) -> PreTrainedModel:
    import torch

    try:
        return lm.to(device)
    except torch.OutOfMemoryError as error:
        raise UserError(f"the model does not fit into the memory of {device}: take a smaller one or another device") from error


def end_tokens(causal, tokenizer) -> frozenset[int]:
    """Every token that ends a completion: the tokenizer's, and those of the model's generation settings."""
    listed = getattr(causal.generation_config, "eos_token_id", None)
    listed = listed if isinstance(listed, list) else [listed]
    return frozenset(i for i in [tokenizer.eos_token_id, *listed] if i is not None)
