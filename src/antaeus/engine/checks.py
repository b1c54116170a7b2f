"""What a model folder, its weights and its tokenizer must be before anything is learned with them.

Weights are read from safetensors only (a pickle runs code) and nothing in a folder is executed.
"""

from __future__ import annotations

import json
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from antaeus.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TEMPLATE_SECONDS = 10.0


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model folder. Raises `UserError` naming the file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path.parent} has no {path.name} ({error.strerror}): it is not a folder of a model") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): download or save the model again") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} holds {type(record).__name__}, not an object: download or save the model again")
    return record


def check_model_folder(folder: Path) -> None:
    """Everything about a model folder that can be told without loading it. Raises `UserError`."""
    check_architecture(folder, read_json(folder / "config.json"))
    for shard in weight_files(folder):
        check_safetensors(shard)


def check_architecture(folder: Path, config: dict[str, Any]) -> None:
    """A causal language model that transformers itself knows, not quantised."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind, native = str(config.get("model_type")), MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(config.get("model_type")))
    names = [native] if isinstance(native, str) else list(native or ())
    code = config.get("auto_map")
    code = code.get("AutoModelForCausalLM") if isinstance(code, dict) else code
    if code and str(code).rsplit(".", 1)[-1] not in names:
        raise UserError(
            f"{folder} needs code of its own ({code}), which is not run: use a model that transformers knows natively"
        )
    if kind not in CONFIG_MAPPING:
        raise UserError(
            f"{folder / 'config.json'}: model_type {config.get('model_type')!r} is unknown to the installed transformers"
        )
    claimed = list(map(str, given)) if isinstance(given := config.get("architectures"), list) else names
    if not set(claimed) & set(names):
        raise UserError(
            f"{folder} is not a causal language model (model_type {kind}, {', '.join(claimed) or 'no causal variant'})"
        )
    if how := config.get("quantization_config"):
        method = how.get("quant_method", how) if isinstance(how, dict) else how
        raise UserError(f"{folder} is quantised ({method}) and cannot learn: use the unquantised model")


def check_adapter_folder(folder: Path) -> tuple[str, str | None]:
    """The base model, and its revision, that a PEFT adapter folder names. Raises `UserError` for what cannot be loaded safely."""
    config = read_json(folder / "adapter_config.json")
    if (folder / "model.safetensors").exists() or (folder / "model.safetensors.index.json").exists():
        raise UserError(f"{folder} holds a model and an adapter_config.json: keep one of them")
    if not isinstance(base := config.get("base_model_name_or_path"), str) or not base:
        raise UserError(
            f"{folder / 'adapter_config.json'} names no base_model_name_or_path: add the model the adapter was trained on"
        )
    weights = folder / "adapter_model.safetensors"
    if not weights.exists():
        raise UserError(f"{folder} has no adapter_model.safetensors{_other_weights(folder)}")
    check_safetensors(weights)
    return base, None if Path(base).is_dir() else config.get("revision")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files transformers will read. Raises `UserError` for pickles, missing shards and unsafe shard names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if not index.exists():
        raise UserError(f"{folder} has no model.safetensors{_other_weights(folder)}")
    record = read_json(index)
    if not isinstance(shards := record.get("weight_map"), dict) or not shards or "metadata" not in record:
        raise UserError(f"{index} lacks weight_map or metadata: download or save the model again")
    for name in (names := sorted(set(map(str, shards.values())))):
        if Path(name).name != name:
            raise UserError(f"{index} names {name!r}, which is not a file name")
        if not (folder / name).exists():
            raise UserError(f"{index} names {name}, which is missing: download the model again")
    return [folder / name for name in names]


def _other_weights(folder: Path) -> str:
    if found := sorted(path.name for pattern in PICKLES for path in folder.glob(pattern) if path.name != "training_args.bin"):
        return (
            f"; {found[0]} is a pickle, which could run code and is not loaded: if you trust it, convert it once with "
            "transformers, AutoModelForCausalLM.from_pretrained(old).save_pretrained(new)"
        )
    if found := sorted(path.name for path in folder.glob("*.safetensors")):
        return f" (found {found[0]}: rename it, or give its folder as an adapter with adapter_config.json)"
    return " (weights in another format are not read)"


def check_safetensors(path: Path) -> None:
    """Header, types, shapes and offsets of a safetensors file, and that the file is all there. Reads the header only."""
    try:
        with safe_open(path, framework="np") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({reason(error)}): download or save it again") from error


def check_loaded(folder: Path, report: dict[str, Any]) -> None:
    """Refuses a model of which some weights were not in the files, had another shape, or found no place.

    Args:
        report: what `from_pretrained(..., output_loading_info=True)` returns beside the model.
    """
    if wrong := sorted(report["mismatched_keys"]):
        name, stored, expected = wrong[0]
        raise UserError(
            f"{folder}: {name} is {tuple(stored)} in the weights, {tuple(expected)} by config.json: they do not match"
        )
    for keys, what in (("missing_keys", "missing from the weights"), ("unexpected_keys", "in the weights but not in the model")):
        if names := sorted(report[keys]):
            raise UserError(f"{folder}: {_some(names)} {what}: config.json and the weights do not match")


def check_finite(model: PreTrainedModel, where: str) -> None:
    """Refuses NaN and infinite weights. One pass over the weights: 3 ms for 28 million in bfloat16."""
    import torch

    for name, weight in model.named_parameters():
        if weight.numel() and not all(torch.isfinite(bound) for bound in torch.aminmax(weight.detach())):
            raise UserError(f"{where}: {name} holds NaN or infinity (as {weight.dtype}): the model is damaged")


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, where: str) -> None:
    """Refuses a tokenizer the model cannot be used with; sets a missing pad token to the end token."""
    embedding: Any = model.get_input_embeddings()
    rows = embedding.weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(f"{where}: the tokenizer has {len(tokenizer)} tokens, the model {rows}: they do not belong together")
    if tokenizer.eos_token_id is None:
        raise UserError(f"{where}: the tokenizer has no end token: set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template:
        check_template(tokenizer, where)


def check_template(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Renders one user message. A template that loops is left behind in its thread after `TEMPLATE_SECONDS`."""
    probe, result = "What is 17 + 25?", []

    def render() -> None:
        try:
            chat = [{"role": "user", "content": probe}]
            text = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
            result.append(None if probe in text else "leaves the message out")
        except Exception as error:
            result.append(f"fails: {reason(error)}")

    thread = Thread(target=render, daemon=True)
    thread.start()
    thread.join(TEMPLATE_SECONDS)
    if why := (result or [f"does not end within {TEMPLATE_SECONDS:.0f} s"])[0]:
        raise UserError(f"{where}: the chat template {why}; correct chat_template.jinja or tokenizer_config.json")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more are" if len(names) > 3 else " is" if len(names) == 1 else " are"
    return ", ".join(names[:3]) + more


def reason(error: BaseException) -> str:
    """Kind and first telling line of an error, for a message of one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    headed = lines[0].startswith("Error(s) in loading state_dict") and len(lines) > 1  # torch tells why on the next line
    return f"{type(error).__name__}: {lines[headed]}"
