"""The five verbs on a real (tiny) model: what is saved is what others load, what is loaded is what was saved, to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from antaeus.engine import local, stored
from antaeus.engine.base import Sampling, Update
from antaeus.engine.local import LocalEngine
from antaeus.errors import UserError
from antaeus.types import Attempt, Lesson, Practice

SHOTS = "Q: 12+30=?\nA: 42\n\n"
PROMPTS = [("a", SHOTS + "Q: 1+2=?\nA:"), ("b", SHOTS + "Q: 30+4=?\nA:"), ("c", "x")]
HOW = Update(lr=3e-3, max_tokens=12)
SAMPLING = Sampling(n=4, max_tokens=12)
IDS = torch.tensor([[40, 41, 42, 43, 44, 45]])


def train(engine: LocalEngine, steps: int, start: int = 0) -> None:
    """Sample, score under the reference and learn, as rounds do; the reward likes early letters."""
    for step in range(start, start + steps):
        groups = engine.sample(PROMPTS, SAMPLING, seed=f"0/{step}")
        attempts = [a for group in groups for a in group]
        reference = engine.score(attempts, weights="reference")
        lessons = [
            Lesson(Practice(a.task_id, ""), a.prompt_ids, a.ids, 50 - sum(a.ids) / len(a.ids), a.logprobs, r.logprobs)
            for a, r in zip(attempts, reference, strict=True)
        ]
        engine.train(lessons, replace(HOW, kl=0.01))


def attempts_of(engine: LocalEngine) -> list[Attempt]:
    return [a for group in engine.sample(PROMPTS, SAMPLING, seed="probe") for a in group]


def weights(engine: LocalEngine) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in engine.model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# save


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_model_is_one_for_transformers(tiny: Callable[..., Any], tmp_path: Path, dtype: str) -> None:
    engine = tiny(dtype=dtype)
    train(engine, 2)
    engine.save(tmp_path / "v")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "v")
    assert model.dtype == getattr(torch, dtype) and not same(weights(engine), weights(tiny(dtype=dtype)))
    assert all(torch.equal(p, dict(model.named_parameters())[n]) for n, p in weights(engine).items())
    model.set_attn_implementation(engine.model.config._attn_implementation)
    assert torch.equal(logits(model), logits(engine.model))
    assert AutoTokenizer.from_pretrained(tmp_path / "v").encode("2+2=") == engine.tokenizer.encode("2+2=")
    text = (tmp_path / "v" / "config.json").read_text()
    assert "antaeus" not in text and json.loads(text)["dtype"] == dtype
    again = LocalEngine(str(tmp_path / "v"), device="cpu", dtype=dtype)
    assert same(weights(again), weights(engine)) and attempts_of(again) == attempts_of(engine)


def test_a_saved_adapter_is_one_for_peft(tiny: Callable[..., Any], tiny_folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    engine = tiny(lora=4)
    assert engine.kind == "adapter" and torch.equal(logits(engine.model), logits(tiny().model))  # a fresh adapter changes nothing
    train(engine, 2)
    engine.save(tmp_path / "v")
    assert json.loads((tmp_path / "v" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_folder)
    assert not list((tmp_path / "v").glob("model*.safetensors"))
    base: Any = AutoModelForCausalLM.from_pretrained(tiny_folder)
    base.set_attn_implementation(engine.model.config._attn_implementation)
    before = logits(base)
    model = PeftModel.from_pretrained(base, str(tmp_path / "v"))
    assert torch.equal(logits(model), logits(engine.model)) and not torch.equal(logits(model), before)
    merged = LocalEngine(str(tmp_path / "v"), device="cpu", dtype="float32")  # our own way in: onto its base, merged
    torch.testing.assert_close(logits(merged.model), logits(engine.model), rtol=1e-4, atol=1e-5)


def test_an_adapter_on_an_adapter_names_it_as_its_base(tiny: Callable[..., Any], tmp_path: Path) -> None:
    first = tiny(lora=4)
    train(first, 1)
    first.save(tmp_path / "first")
    second = LocalEngine(str(tmp_path / "first"), device="cpu", dtype="float32", lora=2)
    train(second, 1)
    second.save(tmp_path / "second")
    both = LocalEngine(str(tmp_path / "second"), device="cpu", dtype="float32")
    torch.testing.assert_close(logits(both.model), logits(second.model), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(both.model), logits(first.model), atol=1e-3)


def test_an_adapters_start_depends_on_the_seed_alone(tiny: Callable[..., Any]) -> None:
    torch.manual_seed(1)
    one = tiny(lora=4, seed=7)
    torch.manual_seed(2)
    assert same(weights(tiny(lora=4, seed=7)), weights(one)) and not same(weights(tiny(lora=4, seed=8)), weights(one))


# load


@pytest.mark.parametrize("lora", [0, 4])
def test_versions_and_the_reference_come_back_to_the_bit(tiny: Callable[..., Any], tmp_path: Path, lora: int) -> None:
    engine = tiny(lora=lora)
    base, first = weights(engine), attempts_of(engine)
    train(engine, 1)
    engine.save(tmp_path / "one")
    one, sampled = weights(engine), attempts_of(engine)
    train(engine, 2, start=1)
    two = weights(engine)
    assert not same(base, one) and not same(one, two) and sampled != first
    engine.load(tmp_path / "one")
    assert same(weights(engine), one) and attempts_of(engine) == sampled
    engine.load(None)
    assert same(weights(engine), base) and attempts_of(engine) == first
    train(engine, 1)  # a learner that was closed has left no trace, in its own moments or the weights
    assert same(weights(engine), one)
    fresh = tiny(lora=lora)
    fresh.load(tmp_path / "one")
    assert same(weights(fresh), one)


@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_engine_goes_on_to_the_bit(tiny: Callable[..., Any], tmp_path: Path, lora: int, dtype: str) -> None:
    one, other = tiny(lora=lora, dtype=dtype), tiny(lora=lora, dtype=dtype)
    train(one, 2)
    one.save(tmp_path / "state", resumable=True)
    other.load(tmp_path / "state", resumable=True)
    assert same(weights(one), weights(other))
    for engine in (one, other):
        train(engine, 2, start=2)
    assert same(weights(one), weights(other)) and attempts_of(one) == attempts_of(other)
    assert all(torch.equal(v, other._learner().state()[k]) for k, v in one._learner().state().items())
    for engine in (one, other):
        engine.load(None)
    assert same(weights(one), weights(tiny(lora=lora, dtype=dtype))) and same(weights(other), weights(one))


def test_a_run_can_be_saved_before_its_first_step(tiny: Callable[..., Any], tmp_path: Path) -> None:
    one, other = tiny(), tiny()
    one.save(tmp_path / "state", resumable=True)
    train(other, 1)
    other.load(tmp_path / "state", resumable=True)
    for engine in (one, other):
        train(engine, 1)
    assert same(weights(one), weights(other))


def test_the_same_run_twice_gives_the_same_bytes(tiny: Callable[..., Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        engine = tiny()
        torch.manual_seed(len(name) + ord(name[0]))  # no random state of torch's own has a say
        train(engine, 3)
        engine.save(tmp_path / name)
        engine.save(tmp_path / name, resumable=True)
    for file in ("model.safetensors", "learner.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


# what cannot be loaded


@pytest.fixture
def trained(tiny: Callable[..., Any]) -> LocalEngine:
    engine = tiny()
    train(engine, 1)
    return engine


def edited(source: Path, target: Path, edit: Callable[[dict[str, Tensor]], Any]) -> Path:
    """A copy of a model folder with other tensors."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    edit(tensors)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_folders_of_other_models_are_refused_and_change_nothing(trained: LocalEngine, tiny_folder: Path, tmp_path: Path) -> None:
    before, name = weights(trained), "model.layers.1.mlp.up_proj.weight"
    wide = edited(tiny_folder, tmp_path / "wide", lambda t: t.update({name: torch.zeros(256, 64)}))
    thin = edited(tiny_folder, tmp_path / "thin", lambda t: t.update({name: torch.zeros(1, 64)}))  # would be broadcast
    less = edited(tiny_folder, tmp_path / "less", lambda t: t.pop(name))
    for folder in (wide, thin, less):
        assert refusal(lambda folder=folder: trained.load(folder)).startswith(f"{folder}: not a version of this model, 1 of ")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        assert str(folder) in refusal(lambda folder=folder: trained.load(folder))
    assert same(weights(trained), before) and trained.learner is not None


def test_damaged_files_are_refused_and_change_nothing(trained: LocalEngine, tmp_path: Path) -> None:
    before = weights(trained)
    trained.save(tmp_path / "v")
    trained.save(tmp_path / "v", resumable=True)
    for name, resumable in (("learner.safetensors", True), ("model.safetensors", False)):
        file = tmp_path / "v" / name
        for data in (file.read_bytes()[:-100], b"", b"\xff" * 64):
            file.write_bytes(data)
            assert str(file) in refusal(lambda resumable=resumable: trained.load(tmp_path / "v", resumable=resumable))
        file.unlink()
        assert str(tmp_path / "v") in refusal(lambda resumable=resumable: trained.load(tmp_path / "v", resumable=resumable))
    assert same(weights(trained), before)


def test_adapters_and_states_of_other_models_are_refused(tiny: Callable[..., Any], trained: LocalEngine, tmp_path: Path) -> None:
    four, eight = tiny(lora=4), tiny(lora=8)
    for name, engine in (("full", trained), ("four", four)):
        engine.save(tmp_path / name)
        engine.save(tmp_path / name, resumable=True)
    assert "another shape" in refusal(lambda: eight.load(tmp_path / "four"))
    assert "adapter_model.safetensors" in refusal(lambda: four.load(tmp_path / "full"))
    assert "not a version of this model" in refusal(lambda: trained.load(tmp_path / "four"))
    for engine, name in ((eight, "four"), (four, "full"), (trained, "four")):
        before = weights(engine)
        said = refusal(lambda engine=engine, name=name: engine.load(tmp_path / name, resumable=True))
        assert said.startswith(str(tmp_path / name / "learner.safetensors")) and same(weights(engine), before)


# score


@pytest.mark.parametrize("lora", [0, 4])
def test_the_reference_is_scored_and_the_policy_left_alone(
    tiny: Callable[..., Any], lora: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, base = tiny(lora=lora), tiny()
    train(engine, 2)
    attempts, before = attempts_of(engine), weights(engine)
    places = [p.data_ptr() for p in engine.model.parameters()]
    assert engine.score(attempts, weights="reference", temperature=0.9) == base.score(attempts, temperature=0.9)
    policy = engine.score(attempts, temperature=0.9)
    assert policy != base.score(attempts, temperature=0.9)

    def fail(*args: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(local, "scores_of", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.score(attempts, weights="reference")
    assert same(weights(engine), before) and [p.data_ptr() for p in engine.model.parameters()] == places
    assert engine.score(attempts, temperature=0.9) == policy
    train(engine, 1, start=2)  # and it still learns: compare with one that was never asked
    other = tiny(lora=lora)
    train(other, 3)
    assert same(weights(engine), weights(other))


def test_scores_come_in_the_order_of_the_attempts(tiny: Callable[..., Any]) -> None:
    engine = tiny()
    attempts = attempts_of(engine)[::-1] + attempts_of(engine)[3:9]
    scores = engine.score(attempts)
    assert [len(s.logprobs) for s in scores] == [len(a.ids) for a in attempts] == [len(s.entropies) for s in scores]
    for attempt, score in zip(attempts, scores, strict=True):
        assert score.logprobs == pytest.approx(attempt.logprobs, abs=2e-5)
    assert engine.score([]) == []


# memory


def test_the_reference_takes_half_the_room_where_that_loses_nothing(tiny: Callable[..., Any]) -> None:
    exact, fine = torch.tensor([1.0, -0.375, 2.0**90]), torch.tensor([1.0, 0.1])
    assert (stored.thrifty(exact).dtype, stored.thrifty(fine).dtype) == (torch.bfloat16, torch.float32)
    assert stored.thrifty(exact).float().equal(exact) and stored.thrifty(fine).data_ptr() != fine.data_ptr()
    engine = tiny()
    ids = engine.encode("1+1=", "2")
    attempt = Attempt("task", 0, ids[0], ids[1], "2", "eos", (0.0,) * len(ids[1]), (0.0,) * len(ids[1]))
    engine._reference = {n: stored.thrifty(p.bfloat16().float()) for n, p in engine._trainable.items()}
    assert all(t.dtype == torch.bfloat16 for t in engine._reference.values())
    halved = engine.score([attempt], weights="reference")
    engine.load(None)
    assert engine.score([attempt])[0].logprobs == pytest.approx(halved[0].logprobs, rel=1e-5)
    assert all(p.dtype == torch.float32 for p in engine._trainable.values())


def test_what_fits_is_positive_and_falls_with_size(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny()
    assert 2**20 < engine._free_bytes() < 2**50
    assert (engine._rows_that_fit(512), engine._tokens_that_fit()) == (local.MAX_ROWS, local.MAX_TOKENS)  # with memory to spare
    monkeypatch.setattr(engine, "_free_bytes", lambda: 2**25)
    cache = 2 * 2 * 2 * 16 * 4  # keys and values, two layers, two heads of 16 numbers of four bytes
    assert 2**24 // (2 * cache * 100 + 10**4) < engine._rows_that_fit(100) <= 2**24 // (cache * 100)
    assert engine._rows_that_fit(1000) < engine._rows_that_fit(100) / 5
    assert 2**24 // (64 * 2 * 4) // 100 < engine._tokens_that_fit() < 2**24 // (64 * 2 * 4) // 10
    monkeypatch.setattr(engine, "_free_bytes", lambda: 0)
    assert (engine._rows_that_fit(10**6), engine._tokens_that_fit()) == (1, 256)


def test_what_fits_heeds_a_containers_limit(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, free = tiny(), tiny()._free_bytes()
    monkeypatch.setattr(local.memory, "_container_limit", lambda: free // 10)
    assert engine._free_bytes() == free // 10 * 3 // 4


def test_a_batch_too_large_for_memory_gives_the_same(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ample, scarce = tiny(), tiny()
    monkeypatch.setattr(scarce, "_free_bytes", lambda: 0)
    prompts, sampling = [*PROMPTS, ("d", "y" * 200), ("e", "z" * 90)], Sampling(n=3, max_tokens=30)
    groups, again = (engine.sample(prompts, sampling, seed="s") for engine in (ample, scarce))
    attempts = [a for group in groups for a in group]
    assert [a.ids for a in attempts] == [a.ids for group in again for a in group]
    for one, other in zip(ample.score(attempts), scarce.score(attempts), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5)
    lessons = [Lesson(Practice(a.task_id, ""), a.prompt_ids, a.ids, (-1.0) ** i) for i, a in enumerate(attempts)]
    one, other = (engine.train(lessons, replace(HOW, max_grad_norm=1e9)) for engine in (ample, scarce))
    assert one.loss == pytest.approx(other.loss, abs=1e-6) and one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)
    for a, b in zip(ample._learner().masters, scarce._learner().masters, strict=True):
        moved = (a - b).abs() < 1e-4  # of steps of 3e-3; where a gradient is all rounding, Adam's first step is a coin
        assert moved.float().mean() > 0.99


def test_memory_is_measured_when_it_is_needed(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = tiny(), []

    def free() -> int:
        asked.append(1)
        return 2**30

    monkeypatch.setattr(engine, "_free_bytes", free)
    train(engine, 1)
    assert len(asked) == 3  # for sampling, scoring and learning
