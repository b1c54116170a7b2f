"""Many adapters at once: each as `peft` would train it alone, sampled as its own model, and no trace left on the base."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, get_scheduler

from antaeus.engine import adapters as room
from antaeus.engine import packed as packing
from antaeus.engine import update as updating
from antaeus.engine.adapter_net import product
from antaeus.engine.adapter_plans import Example, Plan
from antaeus.engine.adapters import Adapters
from antaeus.engine.base import Sampling, Tuning
from antaeus.engine.blocks import Blocks
from antaeus.engine.local import LocalEngine
from antaeus.errors import UserError
from antaeus.types import Attempt, Lesson, Practice

SIZES = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "tie_word_embeddings": True,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen2": {}, "qwen3": {},
    "mistral": {"sliding_window": 8},
    "gemma2": {"sliding_window": 8, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 5.0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "n_inner": 64},
}  # fmt: skip
RANK, ALPHA, TARGETS = 4, 12, ("q_proj", "v_proj")
GREEDY = Sampling(max_tokens=12, temperature=0.0)


def text(seed: int, length: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, 99, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def examples(seed: int, *lengths: int, start: int = 1) -> tuple[Example, ...]:
    return tuple(Example(text(100 * seed + i, n), start) for i, n in enumerate(lengths))


PLANS = [
    Plan(examples(1, 9, 30, 14), lr=3e-3, steps=7, schedule="linear", warmup=2, max_grad_norm=0.05, seed=5, order=3),
    Plan(
        examples(2, 12, 5, 21, 70, 8, start=4), lr=1e-3, epochs=2, batch_size=2, schedule="cosine", aggregate="sequence",
        weight_decay=2.0, max_grad_norm=1e9, seed=6, order=9,
    ),
    Plan(examples(3, 40, 17), lr=1e-3, steps=3, batch_size=2, aggregate="sum", betas=(0.8, 0.99), seed=5, max_grad_norm=2.0),
]  # fmt: skip


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> dict[str, Path]:
    """Random models of several kinds, with the tiny model's tokenizer."""
    made = {}
    for kind, changes in KINDS.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sizes = {k: n for k, n in SIZES.items() if kind != "gpt2" or k.endswith(("vocab_size", "_id", "embeddings"))}
            model: Any = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**{**sizes, **changes}))
            for weight in model.parameters():
                if weight.dim() > 1:
                    nn.init.normal_(weight, std=0.15)
        made[kind] = tmp_path_factory.mktemp("models") / kind
        model.float().save_pretrained(made[kind])
        for file in tiny_folder.glob("*token*"):
            shutil.copy(file, made[kind])
    return made


def opened(folder: Path, dtype: str = "float32") -> LocalEngine:
    return LocalEngine(str(folder), device="cpu", dtype=dtype)


@pytest.fixture(scope="module")
def engine(folders: dict[str, Path]) -> LocalEngine:
    return opened(folders["llama"])


def several(engine: LocalEngine, n: int, targets: Any = TARGETS) -> Adapters:
    return Adapters(engine, n, rank=RANK, alpha=ALPHA, targets=targets)


def plain(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def alone(folder: Path, plan: Plan, targets: Any = TARGETS) -> tuple[Any, list[float], list[float]]:
    """One adapter as anybody would train it with `peft`: the model, the losses, the gradient norms."""
    torch.manual_seed(plan.seed or 0)
    targets = targets if isinstance(targets, str) else list(targets)
    model = get_peft_model(plain(folder), LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, task_type="CAUSAL_LM"))
    params, batches = [p for p in model.parameters() if p.requires_grad], plan.batches()
    adam = torch.optim.AdamW(params, lr=plan.lr, betas=plan.betas, weight_decay=plan.weight_decay)
    name = "constant_with_warmup" if plan.schedule == "constant" else plan.schedule
    schedule = get_scheduler(name, adam, num_warmup_steps=plan.warmup, num_training_steps=len(batches))
    losses, norms = [], []
    for batch in batches:
        loss = objective(model, [plan.examples[i] for i in batch], plan.aggregate)
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(params, plan.max_grad_norm).item())
        adam.step()
        schedule.step()
        adam.zero_grad()
        losses.append(loss.item())
    return model, losses, norms


def objective(model: Any, batch: Sequence[Example], aggregate: str) -> Tensor:
    def mean(e: Example) -> Tensor:
        return model(input_ids=torch.tensor([e.ids]), labels=torch.tensor([labels(e)])).loss

    counts = torch.tensor([float(sum(label != -100 for label in labels(e))) for e in batch])
    means = torch.stack([mean(e) for e in batch])
    by = {"token": counts / counts.sum(), "sequence": torch.ones(len(batch)) / len(batch), "sum": counts}
    return (means * by[aggregate]).sum()


def labels(e: Example) -> list[int]:
    kept = [True] * len(e.ids) if e.mask is None else e.mask
    return [-100] * e.start + [x if k else -100 for x, k in zip(e.ids[e.start :], kept[e.start :], strict=True)]


def stored(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def close(mine: dict[str, Tensor], theirs: dict[str, Tensor], atol: float = 3e-5) -> None:
    assert mine.keys() == theirs.keys() and len(mine) > 0
    assert max(float(t.abs().max()) for k, t in theirs.items() if "lora_B" in k) > 1e-3  # B started at zero: it has learned
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=atol, msg=lambda said, name=name: f"{name}: {said}")


def all_weights(adapters: Adapters, i: int) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in adapters._named(i).items()}


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# as if each were alone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", [TARGETS, "all-linear"], ids=["two", "all"])
def test_each_adapter_is_the_one_peft_trains_alone(folders: dict[str, Path], tmp_path: Path, kind: str, targets: Any) -> None:
    targets = ("c_attn", "mlp.c_proj") if kind == "gpt2" and targets == TARGETS else targets
    adapters = several(opened(folders[kind]), 3, targets)
    assert adapters.engine.net.packs == (kind not in ("mistral", "gemma2"))
    courses = adapters.train(PLANS)
    for i, (plan, course) in enumerate(zip(PLANS, courses, strict=True)):
        model, losses, norms = alone(folders[kind], plan, targets)
        model.save_pretrained(tmp_path / f"theirs-{i}")
        adapters.save(i, tmp_path / f"ours-{i}")
        close(stored(tmp_path / f"ours-{i}"), stored(tmp_path / f"theirs-{i}"))
        configs = [json.loads((tmp_path / f"{who}-{i}" / "adapter_config.json").read_text()) for who in ("ours", "theirs")]
        assert configs[0]["fan_in_fan_out"] == configs[1]["fan_in_fan_out"] == (kind == "gpt2")
        assert course.losses == pytest.approx(losses, rel=1e-4) and course.grad_norms == pytest.approx(norms, rel=1e-3)
        assert course.skipped == [] and course.tokens == sum(len(plan.examples[j].ids) - 1 for b in plan.batches() for j in b)
    assert [len(course.losses) for course in courses] == [7, 6, 3]
    assert min(courses[0].grad_norms) > 0.05 and max(courses[1].grad_norms) < 1e9  # one is clipped, one is not


@pytest.mark.parametrize("aggregate", ["token", "sequence", "sum"])
def test_a_mask_is_pefts_labels_of_minus_100(folders: dict[str, Path], engine: LocalEngine, aggregate: Any) -> None:
    """Two turns to learn from in one text, single tokens, a start that cuts the mask, and a text without mask beside them."""
    masks = [[4 <= i < 9 or i > 20 for i in range(30)], [i % 3 == 0 for i in range(12)], [True] * 14, None]
    sizes, starts = (30, 12, 14, 9), (1, 1, 6, 2)
    taught = tuple(
        Example(text(70 + i, n), start, mask and tuple(mask))
        for i, (n, start, mask) in enumerate(zip(sizes, starts, masks, strict=True))
    )
    plan = Plan(taught, lr=1e-3, epochs=2, batch_size=3, aggregate=aggregate, seed=4, max_grad_norm=1e9)
    adapters = several(engine, 2)
    course, _ = adapters.train([plan, PLANS[0]])
    model, losses, norms = alone(folders["llama"], plan)
    assert course.losses == pytest.approx(losses, rel=1e-4) and course.grad_norms == pytest.approx(norms, rel=1e-3)
    own = {k: v.clone() for k, v in model.state_dict().items() if "lora_" in k}
    close(all_weights(adapters, 0), {k.replace(".default", ""): v for k, v in own.items()})
    whole = replace(plan, examples=tuple(replace(e, mask=None) for e in taught))
    assert several(engine, 1).train([whole])[0].losses[0] != pytest.approx(course.losses[0], rel=1e-2)


@pytest.mark.parametrize("padded", [0, 64])
def test_documents_by_the_engines_verb_are_what_peft_learns_of_all_their_tokens(
    folders: dict[str, Path], engine: LocalEngine, padded: int
) -> None:
    """Labels that are the ids, one text a step, two layers; beside it an adapter that learns outputs alone, by a plan of its own."""
    texts = [text(80 + i, n) for i, n in enumerate((21, 9, 40))]
    lessons = [Lesson(Practice("t", ""), ids[:cut], ids[cut:], 1.0) for ids, cut in zip(texts, (0, 4, 1), strict=True)]
    whole = Tuning(3e-3, RANK, ALPHA, epochs=3, batch_size=1, seed=7, targets=TARGETS, loss="all", warmup=0.0, padded=padded)
    outputs = replace(whole, loss="output", epochs=1, lr=1e-3)
    adapters: Any = engine.adapters([lessons, lessons], [whole, outputs])
    plan = Plan(tuple(Example(ids) for ids in texts), 3e-3, epochs=3, schedule="linear", seed=7, order=7)
    torch.manual_seed(7)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    model: Any = get_peft_model(plain(folders["llama"]), config)
    params = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(params, lr=3e-3, weight_decay=0.0)
    schedule = get_scheduler("linear", adam, num_warmup_steps=0, num_training_steps=9)
    for (j,) in plan.batches():
        ids = torch.tensor([texts[j]])
        loss = model(input_ids=ids, labels=ids).loss
        (loss * ((len(texts[j]) - 1) / (padded - 1)) if padded else loss).backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        adam.step()
        schedule.step()
        adam.zero_grad()
    close(all_weights(adapters, 0), {k.replace(".default", ""): v for k, v in model.state_dict().items() if "lora_" in k})
    by_hand = several(engine, 1)
    part = tuple(Example(ids, max(1, cut)) for ids, cut in zip(texts, (0, 4, 1), strict=True))
    by_hand.train([replace(plan, examples=part, epochs=1, lr=1e-3, padded=padded)])
    close(all_weights(adapters, 1), all_weights(by_hand, 0))
    assert [c.skipped for c in adapters.courses] == [[], []]


def test_adapters_of_different_shapes_are_refused(engine: LocalEngine) -> None:
    lesson = [Lesson(Practice("t", ""), (), text(1, 9), 1.0)]
    assert "one rank" in refusal(lambda: engine.adapters([lesson, lesson], [Tuning(1e-3, rank=4), Tuning(1e-3, rank=8)]))
    assert "give one" in refusal(lambda: engine.adapters([lesson, lesson], [Tuning(1e-3)]))


def test_more_adapters_than_memory_holds_are_trained_in_turn(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, turns, sizes, gradients = several(engine, 3), several(engine, 3), [], room.Adapters._gradients
    courses = whole.train(PLANS)
    monkeypatch.setattr(room.Adapters, "_gradients", lambda self, now: (sizes.append(len(now)), gradients(self, now))[1])
    monkeypatch.setattr(engine, "_free_bytes", lambda: 2 * 2 * room.TRAINING * turns.weights.shape[1])
    again = turns.train(PLANS)
    assert sizes[0] == 2 and len(sizes) == 7 + 3
    for i, (course, other) in enumerate(zip(courses, again, strict=True)):
        close(all_weights(turns, i), all_weights(whole, i))
        assert other.losses == pytest.approx(course.losses, rel=1e-4)


def test_an_engine_that_trains_an_adapter_carries_others_on_it(folders: dict[str, Path], engine: LocalEngine) -> None:
    """As long as its own adds nothing they are those of the plain model; once it does, those of the model it is merged into."""
    over = LocalEngine(str(folders["llama"]), device="cpu", dtype="float32", lora=2)
    own = {n: p for n, p in over.model.named_parameters() if p.requires_grad}
    for targets in (TARGETS, "all-linear"):
        one, other = several(over, 2, targets), several(engine, 2, targets)
        assert [a.losses for a in one.train(PLANS[:2])] == [
            a.losses for a in other.train(PLANS[:2])
        ] and one.targets == other.targets
        assert one.weights.equal(other.weights) and all(p.requires_grad for p in own.values())
    with torch.no_grad():
        for p in own.values():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    on, merged = several(over, 1), opened(folders["llama"])
    course = on.train(PLANS[:1])[0]
    assert course.losses[0] != pytest.approx(other.train([PLANS[0], None])[0].losses[0], rel=1e-3)
    assert over.peft is not None
    state = over.peft.merge_and_unload().state_dict()
    merged.model.load_state_dict(state)
    assert course.losses == pytest.approx(several(merged, 1).train(PLANS[:1])[0].losses, rel=1e-3)


def test_a_document_has_no_prompt_but_what_texts_begin_with(engine: LocalEngine) -> None:
    prompt, ids = engine.encode("", "12 + 3")
    assert prompt == () and ids == engine.encode("x", "12 + 3")[1] and ids[-1] in engine._eos
    assert "exceeds the model's context" in refusal(lambda: engine.encode("", "1" * 200))


def test_the_start_is_pefts_and_depends_on_the_seed_alone(folders: dict[str, Path], engine: LocalEngine, tmp_path: Path) -> None:
    model, _, _ = alone(folders["llama"], replace(PLANS[0], steps=0))
    model.save_pretrained(tmp_path / "theirs")
    before = torch.get_rng_state()
    few, many = several(engine, 1), several(engine, 4)
    few.reset([5])
    many.reset([7, None, 5, 5])
    assert torch.get_rng_state().equal(before)  # and nobody else's random numbers are drawn
    theirs = stored(tmp_path / "theirs")
    for own in (all_weights(few, 0), all_weights(many, 2), all_weights(many, 3)):
        assert own.keys() == theirs.keys() and all(own[k].equal(theirs[k]) for k in own)
    assert not many.weights[0].equal(many.weights[2])
    assert many.weights[1].equal(several(engine, 2).weights[1])  # i is its own seed until it is given another


def test_batches_go_round_and_are_shuffled_by_their_own_seed() -> None:
    plan = Plan(examples(1, *range(5, 12)), lr=1.0, batch_size=3, steps=8)
    assert plan.batches()[:4] == [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]] and len(plan.batches()) == 8
    mixed = replace(plan, order=1, steps=None, epochs=3).batches()
    passes = [[j for batch in mixed[i : i + 3] for j in batch] for i in (0, 3, 6)]
    assert len(mixed) == 9 and all(sorted(p) == list(range(7)) for p in passes) and len({tuple(p) for p in passes}) == 3
    assert replace(plan, order=1).batches() == mixed[:8] != replace(plan, order=2).batches()


def test_company_does_not_matter(engine: LocalEngine) -> None:
    together, reversed_ = several(engine, 3), several(engine, 3)
    together.train(PLANS)
    reversed_.train(PLANS[::-1])
    for i, plan in enumerate(PLANS):
        single = several(engine, 1)
        single.train([plan])
        close(all_weights(together, i), all_weights(single, 0))
        close(all_weights(reversed_, 2 - i), all_weights(single, 0))


@pytest.mark.parametrize("max_tokens", [1, 50])
def test_micro_batches_do_not_matter(engine: LocalEngine, max_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = several(engine, 3), several(engine, 3)
    courses, passes, backward = whole.train(PLANS), [], room.backward

    def watched(net: Any, rows: Any) -> Tensor:
        passes.append(len(rows))
        return backward(net, rows)

    monkeypatch.setattr(room, "backward", watched)
    monkeypatch.setattr(updating, "CHUNK", 7)  # and chunks of logits no more
    monkeypatch.setattr(engine, "_tokens_that_fit", lambda: max_tokens)
    again = cut.train(PLANS)
    assert len(passes) > 7 and sum(passes) == 7 + 10 + 6 and (max_tokens > 1 or set(passes) == {1})
    for i, (course, other) in enumerate(zip(courses, again, strict=True)):
        close(all_weights(cut, i), all_weights(whole, i))
        assert other.losses == pytest.approx(course.losses, rel=1e-4)


def test_memory_that_runs_out_halves_the_micro_batches(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut, sizes, backward = several(engine, 3), several(engine, 3), [], room.backward
    courses = whole.train(PLANS)

    def scarce(net: Any, rows: Any) -> Tensor:
        share = backward(net, rows)
        sizes.append(len(rows))
        if len(rows) > 2:  # half of it is accumulated by then
            raise torch.OutOfMemoryError("CUDA out of memory")
        return share

    monkeypatch.setattr(room, "SMALLEST", 8)
    monkeypatch.setattr(room, "backward", scarce)
    again = cut.train(PLANS)
    assert max(sizes) > 2
    for i, (course, other) in enumerate(zip(courses, again, strict=True)):
        close(all_weights(cut, i), all_weights(whole, i))
        assert other.losses == pytest.approx(course.losses, rel=1e-4)


def test_training_goes_on_from_where_an_adapter_stands(engine: LocalEngine) -> None:
    adapters = several(engine, 2)
    start = adapters.weights.clone()
    first = adapters.train([replace(PLANS[0], seed=None), None])
    assert adapters.weights[1].equal(start[1]) and first[1].losses == () and first[1].tokens == 0
    middle = adapters.weights[0].clone()
    (second, _) = adapters.train([replace(PLANS[0], seed=None), None])
    assert second.losses[0] < first[0].losses[0] and not adapters.weights[0].equal(middle)
    (again, _) = adapters.train([replace(PLANS[0], seed=0), None])
    assert again.losses == first[0].losses and adapters.weights[0].equal(middle)


# what goes wrong with one is its own affair


def test_a_diverging_adapter_is_reported_and_harms_nobody(engine: LocalEngine) -> None:
    wild = replace(PLANS[0], lr=math.inf, schedule="constant", warmup=0, order=None)
    adapters, well = several(engine, 4), several(engine, 3)
    courses = adapters.train([PLANS[1], wild, PLANS[2], PLANS[0]])
    well.train([PLANS[1], PLANS[2], PLANS[0]])
    for i, j in ((0, 0), (2, 1), (3, 2)):
        close(all_weights(adapters, i), all_weights(well, j))
        assert courses[i].skipped == []
    assert adapters.courses == courses and [bool(c.skipped) for c in courses] == [False, True, False, False]
    assert courses[1].skipped and all(not math.isfinite(courses[1].grad_norms[s]) for s in courses[1].skipped)
    assert len(courses[1].losses) == 7


def test_a_skipped_step_moves_neither_weights_nor_moments(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one bad gradient of a training is as if that step had not been."""
    backward, seen = room.Adapters._gradients, []

    def poisoned(self: Adapters, now: Any) -> Any:
        losses, grads = backward(self, now)
        seen.append(1)
        if len(seen) == 2:
            grads[0, 3] = math.nan
        return losses, grads

    plan = Plan(examples(1, 9), lr=1e-2, steps=4, seed=1)
    clean, adapters = several(engine, 2), several(engine, 2)
    clean.train([replace(plan, steps=3), plan])
    monkeypatch.setattr(room.Adapters, "_gradients", poisoned)
    courses = adapters.train([plan, plan])
    assert courses[0].skipped == [1] and courses[1].skipped == []
    assert adapters.weights.equal(clean.weights)


# sampling and scoring


@pytest.fixture(scope="module", params=["llama", "qwen3", "mistral", "gpt2"])
def trained(request: pytest.FixtureRequest, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three adapters that differ much, and each one's own model as `peft` loads it; the last is the base."""
    folder, place = folders[request.param], tmp_path_factory.mktemp("adapters")
    adapters = several(opened(folder), 3, "all-linear")
    adapters.train([replace(plan, lr=3e-2, schedule="constant", warmup=0) for plan in PLANS])
    models = []
    for i in range(3):
        adapters.save(i, place / str(i))
        models.append(PeftModel.from_pretrained(plain(folder), str(place / str(i))).merge_and_unload())
    return adapters, [*models, plain(folder)], place


def generate(model: Any, attempt: Attempt, n: int) -> tuple[int, ...]:
    ids = torch.tensor([list(attempt.prompt_ids)])
    how = {"do_sample": False, "max_new_tokens": n, "eos_token_id": 1, "pad_token_id": 0}
    return tuple(model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)[0, ids.shape[1] :].tolist())


SHARED = "Q: 12+30=?\nA: 42\n\nQ: "
PROMPTS = [
    (1, SHARED + "1"),
    (None, SHARED + "7+8"),
    (0, "x"),
    (2, SHARED),
    (1, SHARED),
    (0, SHARED + "7+8"),
    (None, "ab"),
    (2, "x"),
]

COMMON = [(owner, SHARED + end) for owner, end in ((2, ""), (1, "1"), (0, "7+8"), (1, "9"), (None, "5"), (2, "3"))]


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:2], COMMON, PROMPTS[1:2]], ids=["mixed", "two", "common", "base"])
def test_greedy_is_what_each_ones_own_model_generates(trained: Any, prompts: Any) -> None:
    adapters, models, _ = trained
    adapters.engine._eos = frozenset({1})
    adapters.engine._stops.clear()
    groups = adapters.sample([(i, f"t{n}", p) for n, (i, p) in enumerate(prompts)], replace(GREEDY, n=2), seed="s")
    assert len(groups) == len(prompts)
    for n, (group, (i, prompt)) in enumerate(zip(groups, prompts, strict=True)):
        assert [a.index for a in group] == [0, 1] and {a.task_id for a in group} == {f"t{n}"}
        for attempt in group:
            assert adapters.engine.tokenizer.decode(attempt.prompt_ids) == prompt
            assert attempt.ids == generate(models[-1 if i is None else i], attempt, 12)
    if len(prompts) == len(PROMPTS):  # else the test could not tell adapters from one another
        assert len({g[0].ids for g, (_, p) in zip(groups, prompts, strict=True) if p == SHARED}) == 2
        assert groups[1][0].ids != groups[5][0].ids


def test_rows_that_leave_take_their_adapter_along(trained: Any) -> None:
    """Rows end at different steps; those that stay must keep their own adapter. Scores, of one pass each, say whether they did."""
    adapters, models, _ = trained
    adapters.engine._eos = frozenset(range(3, 30))  # ends come early and unevenly
    adapters.engine._stops.clear()
    how = Sampling(n=6, max_tokens=40, temperature=1.3)
    owners = [i for i, _ in PROMPTS for _ in range(6)]
    flat = [a for g in adapters.sample([(i, str(n), p) for n, (i, p) in enumerate(PROMPTS)], how, seed="s") for a in g]
    assert len({len(a.ids) for a in flat}) > 5
    scores = adapters.score(list(zip(owners, flat, strict=True)), temperature=1.3)
    for owner, attempt, score in zip(owners, flat, scores, strict=True):
        model, start = models[-1 if owner is None else owner], len(attempt.prompt_ids)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*attempt.prompt_ids, *attempt.ids]])).logits[0, start - 1 : -1]
        logp = (logits / 1.3).log_softmax(-1).gather(-1, torch.tensor(attempt.ids)[:, None])[:, 0].tolist()
        assert list(score.logprobs) == pytest.approx(logp, abs=5e-4, rel=1e-3)
        assert list(attempt.logprobs) == pytest.approx(logp, abs=5e-4, rel=1e-3)
        assert list(score.entropies) == pytest.approx(attempt.entropies, abs=5e-4, rel=1e-3)


@pytest.mark.parametrize("max_rows", [1, 3, 7])
def test_rows_that_come_in_later_bring_their_adapter(trained: Any, max_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters, _, _ = trained
    adapters.engine._eos = frozenset(range(3, 30))
    adapters.engine._stops.clear()
    named, how = [(i, str(n), p) for n, (i, p) in enumerate(PROMPTS)], Sampling(n=3, max_tokens=30)
    whole = [a.ids for g in adapters.sample(named, how, seed="s") for a in g]
    monkeypatch.setattr(adapters.engine, "_rows_that_fit", lambda width: max_rows)
    assert [a.ids for g in adapters.sample(named, how, seed="s") for a in g] == whole


def test_the_base_alone_is_sampled_as_the_engine_samples(trained: Any) -> None:
    adapters, _, _ = trained
    adapters.engine._eos = frozenset({1})
    adapters.engine._stops.clear()
    how, names = Sampling(n=2, max_tokens=10), ["2+2=", "abc"]
    groups = adapters.sample([(None, p, p) for p in names] + [(1, p, p) for p in names], how, seed="s")
    assert [[a.ids for a in g] for g in groups[:2]] == [
        [a.ids for a in g] for g in adapters.engine.sample([(p, p) for p in names], how, seed="s")
    ]
    assert groups[:2] != groups[2:] and adapters.sample([], how, seed="s") == [] and adapters.score([]) == []


# folders


def test_saved_folders_are_pefts_own(trained: Any, folders: dict[str, Path]) -> None:
    adapters, _, place = trained
    base = json.loads((place / "1" / "adapter_config.json").read_text())["base_model_name_or_path"]
    ids = torch.tensor([text(1, 30)])
    attempt = Attempt("t", 0, text(1, 30)[:5], text(1, 30)[5:], "", "length", (), ())
    for i in range(3):
        model = PeftModel.from_pretrained(plain(Path(base)), str(place / str(i))).eval()
        logp = model(input_ids=ids).logits[0, 4:-1].log_softmax(-1).gather(-1, ids[0, 5:, None])[:, 0].tolist()
        assert list(adapters.score([(i, attempt)])[0].logprobs) == pytest.approx(logp, abs=5e-4, rel=1e-3)


def test_folders_come_back_to_the_bit(engine: LocalEngine, folders: dict[str, Path], tmp_path: Path) -> None:
    one, other = several(engine, 3), several(engine, 2)
    one.train(PLANS)
    one.save(2, tmp_path / "two")
    kept = other.weights[0].clone()
    other.load(1, tmp_path / "two")
    assert other.weights[1].equal(one.weights[2]) and other.weights[0].equal(kept)
    model, _, _ = alone(folders["llama"], PLANS[1])
    model.save_pretrained(tmp_path / "theirs")
    other.load(0, tmp_path / "theirs")
    assert all(v.equal(stored(tmp_path / "theirs")[k]) for k, v in all_weights(other, 0).items())


# the base is left as it was


def test_nothing_is_left_on_the_base(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(folders["llama"])
    before = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    attempt = Attempt("t", 0, (5, 6), (7, 8), "", "length", (), ())
    scores = engine.score([attempt])

    def untouched() -> None:
        for module in engine.model.modules():
            assert not module._forward_hooks and not module._forward_pre_hooks and "forward" not in vars(module)
        for name, p in engine.model.named_parameters():
            assert p.requires_grad and p.grad is None and p.equal(before[name])
        assert engine.score([attempt]) == scores

    adapters = several(engine, 3)
    adapters.train(PLANS)
    untouched()
    adapters.sample([(0, "t", "ab"), (None, "u", "ab")], GREEDY, seed="s")
    adapters.score([(1, attempt)])
    untouched()

    def fail(*args: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(room, "backward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        adapters.train(PLANS)
    untouched()


# what it costs


def test_only_real_tokens_of_adapters_still_learning_are_computed(folders: dict[str, Path]) -> None:
    engine = opened(folders["llama"])
    rows: dict[str, list[int]] = {"body": [], "head": []}
    for name, layer in (("body", engine.model.model.layers[1].mlp.up_proj), ("head", engine.model.get_output_embeddings())):
        layer.register_forward_hook(lambda m, args, out, name=name: rows[name].append(out.numel() // out.shape[-1]))
    several(engine, 3).train(PLANS)
    read, counted = [0] * 7, [0] * 7
    for plan in PLANS:
        for step, batch in enumerate(plan.batches()):
            read[step] += sum(len(plan.examples[i].ids) - 1 for i in batch)  # the last token is only predicted
            counted[step] += sum(len(plan.examples[i].ids) - plan.examples[i].start for i in batch)
    assert rows["body"] == read and rows["head"] == counted


def test_a_common_beginning_is_read_once_for_each_adapter(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    hook = engine.model.model.layers[1].mlp.up_proj.register_forward_hook(
        lambda m, args, out: rows.append(out.numel() // out.shape[-1])
    )
    ends = ["1+1", "2*34", "5"]
    several(engine, 2).sample(
        [(i, f"{i}{e}", SHARED + e) for i in (0, None, 1) for e in ends], replace(GREEDY, max_tokens=1), seed="s"
    )
    hook.remove()
    shared = len(SHARED)
    assert rows == [3 * shared, 3 * sum(map(len, ends))]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("counts", [(3, 3), (1, 1), (2, 0), (0, 4), (5, 2), (1, 9, 2), (1, 1, 1, 1, 30), (7,)])
def test_blocks_multiply_each_token_by_its_own_matrices(counts: tuple[int, ...], mixed: bool) -> None:
    n, k = sum(counts), len(counts)
    seats = torch.arange(k).repeat_interleave(torch.tensor(counts))
    seats = seats[torch.randperm(n)] if mixed else seats
    x = torch.randn(n, 6, requires_grad=True)
    pair = torch.randn(k, 3, 6, requires_grad=True), torch.randn(k, 5, 3, requires_grad=True)
    blocks = Blocks(seats, k)
    assert len(blocks.owner) * blocks.size < 2 * n + 2 * k
    mine = product(blocks, x, pair, 0.7)
    theirs = torch.stack([0.7 * pair[1][s] @ (pair[0][s] @ t) for s, t in zip(seats.tolist(), x, strict=True)])
    for one, other in zip(*((y, *torch.autograd.grad(y.square().sum(), (x, *pair))) for y in (mine, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_training_computes_from_packed_weights(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, all through the training, and not beyond."""
    if not packing._fits(engine.net.head.weight, taught=True):
        pytest.skip("this machine has no packed products of float32")
    calls, apply = [], packing._Frozen.apply
    monkeypatch.setattr(packing._Frozen, "apply", lambda *args: calls.append(len(args[0])) or apply(*args))
    several(engine, 3).train(PLANS)
    layers = sum(type(m) is torch.nn.Linear for m in engine.model.modules())
    assert len(calls) >= layers * max(len(plan.batches()) for plan in PLANS)
    assert not any("forward" in vars(m) for m in engine.model.modules())


def test_bfloat16_learns_and_keeps_float32_masters(folders: dict[str, Path]) -> None:
    fine, rough = several(opened(folders["llama"]), 3), several(opened(folders["llama"], "bfloat16"), 3)
    plans = [replace(plan, steps=20, lr=1e-2, schedule="constant", warmup=0, weight_decay=0.0) for plan in PLANS]
    courses, expected = rough.train(plans), fine.train(plans)
    assert rough.weights.dtype == torch.float32 and not rough.weights.equal(rough.weights.bfloat16().float())
    for course, other in zip(courses, expected, strict=True):
        assert course.losses[0] == pytest.approx(other.losses[0], rel=2e-2)
        assert course.losses[-1] == pytest.approx(other.losses[-1], rel=0.2) and course.losses[-1] < 0.9 * course.losses[0]
    (group,) = rough.sample([(0, "t", "ab")], GREEDY, seed="s")
    assert len(group[0].ids) >= 1


# bad input


def test_bad_input_is_refused_in_a_line(engine: LocalEngine, folders: dict[str, Path], tmp_path: Path) -> None:
    said = refusal(lambda: several(engine, 1, ("q_proj", "query")))
    assert "'query'" in said and "q_proj" in said and "down_proj" in said and "'q_proj'" not in said
    assert "lm_head" in refusal(lambda: several(engine, 1, "lm_head"))
    assert "rank 0" in refusal(lambda: Adapters(engine, 2, rank=0))
    over = several(LocalEngine(str(folders["llama"]), device="cpu", lora=2), 1)
    assert "an adapter of its own" in refusal(lambda: over.save(0, tmp_path / "over"))
    adapters, good = several(engine, 2), PLANS[0]
    assert "1 plans for 2 adapters" in refusal(lambda: adapters.train([good]))
    before = adapters.weights.clone()
    for bad, words in (
        (replace(good, examples=()), "plan 1 has no examples"),
        (replace(good, examples=(Example((1, 2)), Example((5,)))), "plan 1, example 1: 1 tokens"),
        (replace(good, examples=(Example((5, 6), 0),)), "loss from 0 on"),
        (replace(good, examples=(Example((5, 6), 2),)), "at least one token must count"),
        (replace(good, examples=(Example((5,) * 129),)), "129 tokens, loss from 1 on; the model's context is 128"),
        (replace(good, examples=(Example((5, 6, 7), 1, (True, True)),)), "a mask of 2 entries for 3 tokens"),
        (replace(good, examples=(Example((5, 6, 7), 2, (True, True, False)),)), "true for at least one that may count"),
        (replace(good, batch_size=0), "batch_size"),
        (replace(good, schedule="sine"), "constant, linear, cosine"),
    ):
        assert words in refusal(lambda bad=bad: adapters.train([good, bad]))
    assert adapters.weights.equal(before)
    with pytest.raises(UserError, match="context of 128"):
        adapters.sample([(0, "t", "x" * 120)], GREEDY, seed="s")


def test_other_adapters_are_refused_and_change_nothing(engine: LocalEngine, tmp_path: Path) -> None:
    adapters = several(engine, 2)
    others = {
        "rank": Adapters(engine, 1, rank=2, alpha=6, targets=TARGETS), "more": several(engine, 1, (*TARGETS, "k_proj")),
        "less": several(engine, 1, "q_proj"), "alpha": Adapters(engine, 1, rank=RANK, alpha=8, targets=TARGETS),
    }  # fmt: skip
    before = adapters.weights.clone()
    for name, other in others.items():
        other.save(0, tmp_path / name)
        said = refusal(lambda name=name: adapters.load(0, tmp_path / name))
        assert said.startswith(str(tmp_path / name)) and "rank 4, alpha 12 on q_proj, v_proj" in said
    adapters.save(0, tmp_path / "own")
    config = tmp_path / "own" / "adapter_config.json"
    config.write_text(config.read_text().replace('"use_rslora": false', '"use_rslora": true'))
    assert "another rank, alpha" in refusal(lambda: adapters.load(0, tmp_path / "own"))
    config.write_text("{")
    assert "adapter_config.json" in refusal(lambda: adapters.load(0, tmp_path / "own"))
    save_file({"x": torch.zeros(1)}, tmp_path / "own" / "adapter_model.safetensors")
    assert "another rank" in refusal(lambda: adapters.load(0, tmp_path / "own"))
    assert "nowhere" in refusal(lambda: adapters.load(0, tmp_path / "nowhere"))
    assert adapters.weights.equal(before)
