"""Rollouts: the model's own distribution, whatever the batch, and completions that end where they should."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import logprobs
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from antaeus.engine import decode as decoding
from antaeus.engine import forward, models
from antaeus.engine import packed as packing
from antaeus.engine.base import Sampling
from antaeus.engine.context import Context, Room
from antaeus.engine.decode import Stops, decode
from antaeus.engine.forward import Net
from antaeus.engine.packed import packed
from antaeus.errors import UserError
from antaeus.types import Attempt, Message

LINEAR = packing._linear
SHOTS = "Q: 12+30=?\nA: 42\n\nQ: 7+8=?\nA: 15\n\n"
PROMPTS = ["x", "2+2=", "The quick brown fox", "a b c d e f g h i j k l m n o p", "Q: 1+1=?\nA:"]
SHARED = [SHOTS + "Q: " + rest for rest in ("3+4=?\nA:", "11+22=?\nA:", "9", "3+40=?\nA:")]


@pytest.fixture(scope="module")
def engine(tiny: Callable[..., Any]) -> Any:
    """One engine for all tests that leave it as it is."""
    return tiny()


@pytest.fixture(scope="module")
def plain(tiny_folder: Any) -> Any:
    """The same model as `transformers` alone runs it, with its eager attention."""
    return AutoModelForCausalLM.from_pretrained(tiny_folder, attn_implementation="eager").eval()


def named(prompts: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(f"task-{i}", prompt) for i, prompt in enumerate(prompts)]


def flat(sampled: list[list[Attempt]]) -> list[Attempt]:
    return [attempt for attempts in sampled for attempt in attempts]


def statistics(model: Any, attempt: Attempt, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of a completion by one ordinary pass over prompt and completion."""
    ids = torch.tensor([[*attempt.prompt_ids, *attempt.ids]])
    with torch.no_grad():
        logp = (model(input_ids=ids, use_cache=False).logits[0, len(attempt.prompt_ids) - 1 : -1] / temperature).log_softmax(-1)
    return logp.gather(-1, ids[0, len(attempt.prompt_ids) :, None])[:, 0], -(logp.exp() * logp).sum(-1)


def generate(model: Any, prompt: Sequence[int], n: int, eos: int | None) -> tuple[int, ...]:
    ids = torch.tensor([list(prompt)])
    how = {"do_sample": False, "max_new_tokens": n, "eos_token_id": eos, "pad_token_id": 0}
    return tuple(model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)[0, len(prompt) :].tolist())


# the model's own distribution


@pytest.mark.parametrize("prompts", [PROMPTS, SHARED, [*PROMPTS, *SHARED]], ids=["unlike", "sharing", "both"])
def test_greedy_is_what_transformers_generates(engine: Any, plain: Any, prompts: list[str]) -> None:
    attempts = flat(engine.sample(named(prompts), Sampling(max_tokens=24, temperature=0.0), seed="s"))
    for attempt, prompt in zip(attempts, prompts, strict=True):
        assert engine.tokenizer.decode(attempt.prompt_ids) == prompt
        assert attempt.ids == generate(plain, attempt.prompt_ids, 24, engine.tokenizer.eos_token_id)
        assert attempt.text == engine.tokenizer.decode(attempt.ids, skip_special_tokens=True)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("prompts", [PROMPTS, SHARED])
def test_reported_statistics_are_an_ordinary_passs(engine: Any, plain: Any, prompts: list[str], temperature: float) -> None:
    for attempt in flat(engine.sample(named(prompts), Sampling(n=3, max_tokens=20, temperature=temperature), seed="s")):
        logp, entropy = statistics(plain, attempt, temperature)
        torch.testing.assert_close(torch.tensor(attempt.logprobs), logp, rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(torch.tensor(attempt.entropies), entropy, rtol=1e-4, atol=2e-5)
        assert len(attempt.ids) == len(attempt.logprobs) == len(attempt.entropies)


def test_scores_are_the_statistics_of_sampling(engine: Any) -> None:
    attempts = flat(engine.sample(named([*PROMPTS, *SHARED]), Sampling(n=4, max_tokens=20, temperature=0.7), seed="s"))
    for attempt, scores in zip(attempts, engine.score(attempts, temperature=0.7), strict=True):
        torch.testing.assert_close(torch.tensor(scores.logprobs), torch.tensor(attempt.logprobs), rtol=1e-4, atol=2e-5)
        torch.testing.assert_close(torch.tensor(scores.entropies), torch.tensor(attempt.entropies), rtol=1e-4, atol=2e-5)


def test_the_first_tokens_of_many_attempts_have_the_models_distribution(engine: Any, plain: Any) -> None:
    attempts = flat(engine.sample([("task", "2+2=")], Sampling(n=4000, max_tokens=1), seed="s"))
    ids = torch.tensor([list(attempts[0].prompt_ids)])
    probability = plain(input_ids=ids).logits[0, -1].softmax(-1).detach()
    seen = torch.bincount(torch.tensor([a.ids[0] for a in attempts]), minlength=len(probability))
    likely = probability * 4000 > 5
    statistic = ((seen - probability * 4000)[likely] ** 2 / (probability * 4000)[likely]).sum()
    assert statistic < likely.sum() + 4 * (2 * likely.sum()).sqrt()  # mean and four standard deviations of chi-square


# the batch does not matter


def test_a_row_does_not_depend_on_its_batch(engine: Any) -> None:
    how, tasks = Sampling(n=3, max_tokens=24), named([*PROMPTS, *SHARED[:3]])
    together = {a.task_id: a for a in map(tuple_of, engine.sample(tasks, how, seed="s"))}
    for task in tasks:
        assert tuple_of(engine.sample([task], how, seed="s")[0]) == together[task[0]]
    turned = {a.task_id: a for a in map(tuple_of, engine.sample(tasks[::-1], how, seed="s"))}
    assert turned == together


class tuple_of:
    """A group's attempts without the statistics, which the batch may round differently."""

    def __init__(self, attempts: list[Attempt]) -> None:
        self.task_id = attempts[0].task_id
        self.parts = [(a.task_id, a.index, a.prompt_ids, a.ids, a.text, a.stop) for a in attempts]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple_of) and self.parts == other.parts


@pytest.mark.parametrize("max_rows", [1, 4, 7])
def test_waves_do_not_matter(engine: Any, max_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    how, tasks = Sampling(n=3, max_tokens=20), named([*PROMPTS[:3], *SHARED[:2]])
    whole = engine.sample(tasks, how, seed="s")
    widest, extend = [0], Net.extend

    def watched(net: Net, context: Context, ids: Tensor, real: Tensor) -> Tensor:
        widest[0] = max(widest[0], len(ids))
        return extend(net, context, ids, real)

    monkeypatch.setattr(Net, "extend", watched)
    monkeypatch.setattr(engine, "_rows_that_fit", lambda width: max_rows)
    waves = engine.sample(tasks, how, seed="s")
    assert list(map(tuple_of, waves)) == list(map(tuple_of, whole)) and widest[0] <= max_rows


def test_waiting_rows_come_in_while_others_are_decoded(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four rows at a time: whoever is done makes room, and columns that only the gone ones had are dropped."""
    tasks, how, extend = named([*PROMPTS, *SHARED]), Sampling(n=4, max_tokens=60), Net.extend
    whole = engine.sample(tasks, how, seed="s")
    steps, columns = [], []

    def watched(net: Net, context: Context, ids: Tensor, real: Tensor) -> Tensor:
        steps.append(ids.shape[1] == 1)
        columns.append(context.mask.shape[1])
        return extend(net, context, ids, real)

    monkeypatch.setattr(Net, "extend", watched)
    monkeypatch.setattr(engine, "_rows_that_fit", lambda width: 4)
    assert list(map(tuple_of, engine.sample(tasks, how, seed="s"))) == list(map(tuple_of, whole))
    lengths = [len(a.ids) for a in flat(whole)]
    waves = sum(max(lengths[i : i + 4]) for i in range(0, len(lengths), 4))
    assert sum(lengths) / 4 <= sum(steps) < 0.9 * waves
    assert max(columns) < max(len(a.prompt_ids) for a in flat(whole)) + how.max_tokens + decoding.ROOM


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_splits_the_batch(engine: Any, monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> None:
    """In the prefill and in the middle, where some rows are done and others begin anew: the same attempts."""
    tasks, how, extend = named([*PROMPTS[:3], *SHARED]), Sampling(n=4, max_tokens=60), Net.extend
    whole, calls = engine.sample(tasks, how, seed="s"), [0]

    def scarce(net: Net, context: Context, ids: Tensor, real: Tensor) -> Tensor:
        calls[0] += 1
        if len(ids) > 9 and (calls[0] > 30 or calls[0] == 2):
            raise error
        return extend(net, context, ids, real)

    monkeypatch.setattr(Net, "extend", scarce)
    assert list(map(tuple_of, engine.sample(tasks, how, seed="s"))) == list(map(tuple_of, whole))
    monkeypatch.setattr(Net, "extend", lambda *args: (_ for _ in ()).throw(error))
    with pytest.raises(UserError, match="out of memory while sampling a single row"):
        engine.sample(tasks, how, seed="s")
    monkeypatch.setattr(Net, "extend", lambda *args: (_ for _ in ()).throw(RuntimeError("another")))
    with pytest.raises(RuntimeError, match="another"):
        engine.sample(tasks, how, seed="s")


def test_attempts_depend_on_their_index_alone(engine: Any) -> None:
    few, many = (engine.sample(named(PROMPTS[:3]), Sampling(n=n, max_tokens=16), seed="s") for n in (8, 16))
    for short, long in zip(few, many, strict=True):
        assert tuple_of(short) == tuple_of(long[:8])
        assert len({a.ids for a in long}) == 16  # and attempts differ
    longer = engine.sample(named(PROMPTS[:3]), Sampling(n=8, max_tokens=30), seed="s")
    for short, long in zip(flat(few), flat(longer), strict=True):
        assert long.ids[: len(short.ids)] == short.ids


def test_seed_and_task_decide(engine: Any) -> None:
    how = Sampling(n=2, max_tokens=16)
    one, same, other = (flat(engine.sample([("a", "2+2="), ("b", "2+2=")], how, seed=s)) for s in ("s", "s", "t"))
    assert one == same
    assert len({a.ids for a in [*one, *other]}) == 8  # two tasks with one prompt are two tasks


def test_prompts_that_begin_one_another(engine: Any, plain: Any) -> None:
    chain = [SHOTS[:n] for n in (1, 2, 9, 10, 20, 21, len(SHOTS))]
    for attempt in flat(engine.sample(named(chain), Sampling(max_tokens=12, temperature=0.0), seed="s")):
        assert attempt.ids == generate(plain, attempt.prompt_ids, 12, engine.tokenizer.eos_token_id)
    assert engine.sample([], Sampling(), seed="s") == []


# where completions end


def test_eos_ends_a_row_and_is_its_last_token(engine: Any) -> None:
    attempts = flat(engine.sample(named(PROMPTS), Sampling(n=16, max_tokens=60), seed="s"))
    eos = engine.tokenizer.eos_token_id
    for attempt in attempts:
        assert (attempt.ids[-1] == eos) == (attempt.stop == "eos") and eos not in attempt.ids[:-1]
        assert attempt.stop == "eos" or len(attempt.ids) == 60
        assert "<eos>" not in attempt.text and len(attempt.text) <= len(attempt.ids)
    assert {a.stop for a in attempts} == {"eos", "length"}


def test_the_generation_settings_end_tokens_count(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    load = models.load

    def with_more(*args: Any, **kwargs: Any) -> Any:
        model, tokenizer = load(*args, **kwargs)
        model.generation_config.eos_token_id = [1, 50]
        return model, tokenizer

    monkeypatch.setattr(models, "load", with_more)
    attempts = flat(tiny().sample(named(PROMPTS), Sampling(n=16, max_tokens=60), seed="s"))
    assert {a.ids[-1] for a in attempts if a.stop == "eos"} == {1, 50}
    assert not any({1, 50} & set(a.ids[:-1]) for a in attempts)


@pytest.mark.parametrize("length", [1, 3, 5])
def test_stop_strings_cut_the_text_and_end_the_row(engine: Any, length: int) -> None:
    how = Sampling(n=8, max_tokens=40)
    free = flat(engine.sample(named(PROMPTS), how, seed="s"))
    strings = tuple(a.text[7 : 7 + length] for a in free[::10] if len(a.text) > 20)
    assert strings and all(len(s) == length for s in strings)
    stopped = flat(engine.sample(named(PROMPTS), Sampling(n=8, max_tokens=40, stop=strings), seed="s"))
    for before, after in zip(free, stopped, strict=True):
        texts = [engine.tokenizer.decode(before.ids[:n], skip_special_tokens=True) for n in range(1, len(before.ids) + 1)]
        end = next((n for n, text in enumerate(texts, 1) if any(s in text for s in strings)), None)
        if end is None:
            assert tuple_of([before]) == tuple_of([after])
            continue
        assert after.stop == "stop" and after.ids == before.ids[:end]  # the tokens of the stop string are in
        assert after.logprobs == pytest.approx(before.logprobs[:end], abs=1e-4)
        assert after.text == min((before.text.partition(s)[0] for s in strings if s in texts[end - 1]), key=len)
    assert {"stop", "length"} <= {a.stop for a in stopped}


def test_stop_strings_are_found_in_several_byte_tokens() -> None:
    """Byte-level tokens may hold a part of a character, a character may hold the end of a stop, a token more than the stop."""
    tokenizer = AutoTokenizer.from_pretrained(models.resolve("smollm2"))
    text = "So naïve 数学 café 🙂 is it.\n\nQuestion: next"
    ids = tokenizer(text).input_ids
    assert "\ufffd" in tokenizer.decode(tokenizer("🙂").input_ids[:1])
    for stop in ("数", "学", "é", "🙂", "ï", "数学 café 🙂 is", ".\n\nQuestion", "\n", " next"):
        stops = Stops(tokenizer, frozenset(), (stop,))
        first = next(n for n in range(1, len(ids) + 1) if stop in tokenizer.decode(ids[:n]))
        assert next(n for n in range(1, len(ids) + 1) if stops.ended(ids[:n])) == first
        assert stops.text(ids[:first]) == text[: text.index(stop)]
    assert not any(Stops(tokenizer, frozenset(), ("🙃", "Answer:")).ended(ids[:n]) for n in range(1, len(ids) + 1))


def test_the_earliest_of_several_stops_cuts() -> None:
    tokenizer = AutoTokenizer.from_pretrained(models.resolve("smollm2"))
    assert Stops(tokenizer, frozenset(), ("\n\n", "B:", "\n")).text(tokenizer("one\ntwo\n\nB: three").input_ids) == "one"


def test_a_stop_may_be_a_special_token(engine: Any) -> None:
    """It shows in no text, so that only its id tells; beside it, other stops go on working."""
    tokenizer = engine.tokenizer
    stops = Stops(tokenizer, frozenset({1}), ("<unk>", "b"))
    a, b, unk, pad = tokenizer.convert_tokens_to_ids(["a", "b", "<unk>", "<pad>"])
    assert [stops.ended(ids) for ids in ([a], [a, unk], [a, pad], [a, b], [a, 1])] == [None, "stop", None, "stop", "eos"]
    assert stops.text([a, unk]) == "a" == stops.text([a, b])
    free = flat(engine.sample(named(PROMPTS), Sampling(n=8, max_tokens=40, temperature=1.5), seed="s"))
    stopped = flat(engine.sample(named(PROMPTS), Sampling(n=8, max_tokens=40, temperature=1.5, stop=("<unk>",)), seed="s"))
    assert any(unk in attempt.ids[:-1] for attempt in free)
    for before, after in zip(free, stopped, strict=True):
        end = before.ids.index(unk) + 1 if unk in before.ids else len(before.ids)
        assert after.ids == before.ids[:end] and after.stop == ("stop" if unk in before.ids else before.stop)


def test_a_tokenizer_that_drops_the_first_space_still_stops_at_one() -> None:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as kinds
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(kinds.WordLevel({"<unk>": 0, "▁a": 1, "▁b": 2, "c": 3, "▁": 4}, unk_token="<unk>"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    assert tokenizer.decode([1]) == "a" and tokenizer.decode([3, 1]) == "c a"
    stops = Stops(tokenizer, frozenset(), (" ",))
    assert [stops.ended(ids) for ids in ([1], [3], [3, 1])] == [None, None, "stop"]


def test_smollm2_stops_where_it_is_told() -> None:
    from antaeus.engine.local import LocalEngine

    small = LocalEngine("smollm2", device="cpu", dtype="float32")
    how = Sampling(max_tokens=12, temperature=0.0, stop=("5,", "\n\n"))
    (attempt,), (chat,) = small.sample([("t", "1, 2, 3,"), ("c", (Message("user", "Say hi"),))], how, seed="s")
    assert (attempt.text, attempt.stop) == (" 4, ", "stop") and small.tokenizer.decode(attempt.ids) == " 4, 5,"
    assert small.render((Message("user", "Say hi"),)).endswith("<|im_start|>user\nSay hi<|im_end|>\n<|im_start|>assistant\n")
    assert chat.prompt_ids.count(small.tokenizer.bos_token_id) == small.render((Message("user", "Say hi"),)).count("<|im_start|>")


# how it is done


def test_finished_rows_leave_and_change_nothing(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    how, rows, extend, select = Sampling(n=16, max_tokens=60), [], Net.extend, Context.select
    selected: list[int] = []

    def watched(net: Net, context: Context, ids: Tensor, real: Tensor) -> Tensor:
        rows.append(len(ids))
        return extend(net, context, ids, real)

    def seen(context: Context, index: Tensor) -> None:
        selected.append(len(index))
        select(context, index)

    monkeypatch.setattr(Net, "extend", watched)
    monkeypatch.setattr(Context, "select", seen)
    results, work = {}, {}
    for leave in (0.0, 0.25, 2.0):  # at once, as it is, never
        rows.clear()
        selected.clear()
        monkeypatch.setattr(decoding, "LEAVE", leave)
        results[leave] = [tuple_of(group) for group in engine.sample(named(PROMPTS), how, seed="s")]
        work[leave] = sum(rows)
        assert selected == sorted(selected, reverse=True)
    assert results[0.0] == results[0.25] == results[2.0]
    assert work[0.0] < work[0.25] < work[2.0]
    alive = [sum(len(a[3]) > step for group in results[0.0] for a in group.parts) for step in range(1, 60)]
    assert work[0.0] == sum(alive) + len(PROMPTS)  # and the prompts, each read once for its sixteen attempts


def test_the_cache_grows_in_place(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One allocation of each layer's room serves all steps while no row leaves."""
    places: list[tuple[int, int]] = []
    update = Room.update

    def watched(room: Room, *args: Any, **kwargs: Any) -> Any:
        keys, values = update(room, *args, **kwargs)
        if room.room is not None:
            places.append((keys.data_ptr(), values.data_ptr()))
        return keys, values

    monkeypatch.setattr(Room, "update", watched)
    monkeypatch.setattr(engine, "_eos", frozenset())
    monkeypatch.setattr(engine, "_stops", {})
    engine.sample(named(SHARED), Sampling(n=2, max_tokens=20), seed="s")
    assert len(places) == 2 * 19 and len(set(places)) == 2  # two layers, nineteen steps after the first token


def test_rows_outgrow_their_room(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    how = Sampling(n=3, max_tokens=20)
    plenty = engine.sample(named(SHARED), how, seed="s")
    monkeypatch.setattr(decoding, "ROOM", 3)
    assert [a.ids for a in flat(engine.sample(named(SHARED), how, seed="s"))] == [a.ids for a in flat(plenty)]


@pytest.mark.parametrize("learn", [False, True])
def test_caches_go_as_soon_as_they_are_done_with(engine: Any, learn: bool) -> None:
    """No reference cycle keeps a batch's keys, values and states until Python's garbage collector comes around."""
    alive: list[weakref.ref] = []
    init = Context.__post_init__

    def watched(context: Context) -> None:
        init(context)
        alive.append(weakref.ref(context))

    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Context, "__post_init__", watched)
            if learn:
                logprobs(engine.net, [((5, 6, 7), (8, 9)), ((5, 6), (7,))], 1.0).sum().backward()
                engine.model.zero_grad()
            else:
                engine.sample(named(SHARED), Sampling(n=2, max_tokens=5), seed="s")
        assert alive and not any(context() for context in alive)
    finally:
        gc.enable()


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_packed_weights_serve_long_decoding_and_no_longer(
    tiny: Callable[..., Any], dtype: str, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same numbers within the data type's rounding, and afterwards the layers compute from their own weights again."""
    engine = tiny(dtype=dtype)
    layer = engine.model.get_output_embeddings()
    if not packing._fits(layer.weight, taught=False):
        pytest.skip(f"this machine has no packed products of {dtype}")
    x, calls = torch.randn(5, layer.in_features).to(layer.weight.dtype), []
    plain = layer(x)
    with pytest.raises(KeyError), packed(engine.model, steps=16):
        torch.testing.assert_close(layer(x), plain, atol=near, rtol=near)
        assert "forward" in vars(layer)
        raise KeyError
    with packed(engine.model, steps=15):
        assert "forward" not in vars(layer)
    monkeypatch.setattr(packing, "_linear", lambda weight, bias, x: calls.append(1) or LINEAR(weight, bias, x))
    engine.sample(named(SHARED), Sampling(n=2, max_tokens=20), seed="s")
    assert calls and not any("forward" in vars(m) for m in engine.model.modules())


@pytest.mark.parametrize("bias", [False, True])
def test_packed_weights_teach_what_they_read(bias: bool) -> None:
    layer = torch.nn.Linear(24, 40, bias=bias).requires_grad_(False)
    if not packing._fits(layer.weight, taught=True):
        pytest.skip("this machine has no packed products of float32")
    x = torch.randn(2, 7, 24, requires_grad=True)
    results = []
    for steps in (2, 1):
        with packed(layer, steps, taught=True):
            assert ("forward" in vars(layer)) == (steps == 2)
            out = layer(x)
        out += 1.0  # as adapters add to it
        results.append((out, *torch.autograd.grad(out.square().sum(), x)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


# prompts


def test_too_long_a_prompt_is_refused(engine: Any) -> None:
    assert engine.context == 512
    engine.sample([("fits", "x" * 500)], Sampling(max_tokens=12), seed="s")
    with pytest.raises(UserError, match=r"task 'long': 501 prompt tokens \+ max_tokens=12 exceed the model's context of 512"):
        engine.sample([("fits", "x"), ("long", "x" * 501)], Sampling(max_tokens=12), seed="s")
    with pytest.raises(UserError, match="task 'none': the prompt is empty"):
        engine.sample([("none", "")], Sampling(max_tokens=12), seed="s")


def test_messages_go_through_the_template(engine: Any) -> None:
    turns = (Message("system", "Be brief."), Message("user", "2+2?"))
    expected = engine.tokenizer.apply_chat_template(
        [{"role": t.role, "content": t.content} for t in turns], tokenize=False, add_generation_prompt=True
    )
    assert engine.chat and engine.render(turns) == expected == "system: Be brief.\nuser: 2+2?\nassistant: "
    (attempt,) = engine.sample([("chat", turns)], Sampling(max_tokens=2), seed="s")[0]
    assert engine.tokenizer.decode(attempt.prompt_ids) == expected
    assert engine.render("as it is\n") == "as it is\n"


def test_no_template_and_a_template_that_refuses(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny()
    engine.tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(UserError, match=r"refuses turns of system, user .*System role not supported") as caught:
        engine.render((Message("system", "a"), Message("user", "b")))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(engine, "chat", False)
    with pytest.raises(UserError, match="the model has no chat template"):
        engine.sample([("t", (Message("user", "hi"),))], Sampling(), seed="s")


def test_a_beginning_token_is_added_to_text_and_not_twice_to_chats(tiny: Callable[..., Any]) -> None:
    from tokenizers.processors import TemplateProcessing

    engine = tiny()
    engine.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 2)])
    (text,), (chat,) = engine.sample([("t", "ab"), ("c", (Message("user", "ab"),))], Sampling(max_tokens=1), seed="s")
    assert text.prompt_ids[0] == 2 and 2 not in text.prompt_ids[1:] and 2 not in chat.prompt_ids


# other architectures

SIZES = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip
NO = "left out"
WINDOW = {"sliding_window": 8}
RUN: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {"num_key_value_heads": NO, "head_dim": NO}),  # learned positions, one matrix for q, k and v
    ("gpt_neox", {}),  # rotary on a part, parallel residual
    ("qwen2", {}),  # biases in attention
    ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),  # full and windowed layers
    ("qwen3", {}),  # norms on queries and keys
    ("mistral", WINDOW),
    ("phi3", WINDOW),  # one matrix for q, k and v
    ("gemma2", WINDOW | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0}),
    ("gemma3_text", WINDOW),  # two rotary bases
    ("olmo2", {}),  # norms behind the blocks
    ("olmo3", WINDOW),
    ("cohere", {}),  # scaled logits
    ("granite", {"logits_scaling": 3.0, "attention_multiplier": 0.5}),
    ("mixtral", {}),  # experts
    ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),  # learned positions with an offset
    ("bloom", {}),  # ALiBi
    ("gptj", {"rotary_dim": 4, "n_inner": 64}),  # its own attention
    ("smollm3", {}),  # layers without positions
]
REFUSED = ["mamba", "rwkv", "recurrent_gemma", "bert-generation", "bart", "minimax"]


def random_model(kind: str, changes: dict[str, Any]) -> Any:
    sizes = {k: v for k, v in (SIZES | changes).items() if v is not NO}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**sizes))
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.15)
    return model.float().eval()


def random_prompts(lengths: Sequence[int], common: int) -> list[tuple[int, ...]]:
    dice = torch.Generator().manual_seed(1)
    shared = torch.randint(3, 120, (common,), generator=dice).tolist()
    return [(*shared, *torch.randint(3, 120, (n,), generator=dice).tolist()) for n in lengths]


@pytest.mark.parametrize(("kind", "changes"), RUN, ids=[f"{kind}-{i}" for i, (kind, _) in enumerate(RUN)])
def test_other_architectures_are_read_as_transformers_reads_them(kind: str, changes: dict[str, Any]) -> None:
    model = random_model(kind, changes)
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    net, stops = Net(model), Stops(None, frozenset(), ())  # type: ignore[arg-type]
    stops.text = lambda ids: ""  # type: ignore[method-assign]
    prompts = random_prompts((3, 12, 7), common=20) + random_prompts((1, 30), common=0)
    for batch in (prompts[:3], prompts):  # with a common beginning and without; longer than the windows
        groups = decode(net, stops, named(batch), Sampling(n=2, max_tokens=10, temperature=0.0), seed="s", max_rows=99)
        for group in groups:
            assert group[0].ids == group[1].ids == generate(plain, group[0].prompt_ids, 10, None)
        attempts = [replace(a, ids=a.ids[: 10 - 4 * i]) for i, a in enumerate(flat(groups)[:3])]
        learned = logprobs(net, [(a.prompt_ids, a.ids) for a in attempts], 1.0)
        torch.testing.assert_close(learned, torch.cat([statistics(plain, a)[0] for a in attempts]), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", REFUSED)
def test_architectures_that_cannot_share_a_cache_are_refused_in_one_line(kind: str) -> None:
    with pytest.raises(UserError, match=f"model type {kind!r}") as caught:
        Net(random_model(kind, {}))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_model_whose_logits_are_not_its_heads_is_refused(engine: Any, tiny_folder: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    forward_ = model.forward

    def scaled(*args: Any, **kwargs: Any) -> Any:
        out = forward_(*args, **kwargs)
        out.logits = out.logits * 1.1
        return out

    model.forward = scaled
    with pytest.raises(UserError, match="computes its logits in a way"):
        Net(model)


def test_common_beginnings() -> None:
    long = tuple(range(20))
    assert forward.common_beginning([long]) == 0
    assert forward.common_beginning([long, (*long[:10], 99)]) == 10
    assert forward.common_beginning([long, long[:12]]) == 11  # each prompt keeps a token of its own
    assert forward.common_beginning([long, (*long[:5], 99, 99, 99, 99)]) == 0  # too short to pay
    assert forward.common_beginning([(1,) * 9 + (i,) for i in range(4)] + [(1,) * 8 + (2, 3)]) == 8
