"""The laboratory model: what it may be taught, how its training goes, and its folder. Trained here for a few steps only."""

import re
import warnings
from random import Random
from types import SimpleNamespace

import pytest
import torch

from antaeus.arithmetic import FAMILIES
from antaeus.engine import lab
from antaeus.engine.base import Sampling
from antaeus.engine.embedded import ascii_tokenizer
from antaeus.engine.local import LocalEngine
from antaeus.propose.builtin import builtin

TEXTS = ["34 + 57 = 91\n80 + 20 = 100\n", "9 × 7 = 63\n"]


@pytest.fixture
def tokenizer():
    return ascii_tokenizer("×")


def blank(tokenizer):
    torch.manual_seed(0)
    return lab._blank(tokenizer)


def sums(text):
    """What each line of a text asks, whatever the order of its operands."""
    asked = [line.split("=")[0] for line in text.splitlines()]
    return {(re.sub(r"[\d\s]", "", ask), *sorted(map(int, re.findall(r"\d+", ask)))) for ask in asked}


def measured_on():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no pool has so many tasks
        sets = [builtin(name, 0, n_anchor=10_000, n_exam=10_000) for name in FAMILIES]
    return sums("\n".join(task.prompt for tasks in sets for task in (*tasks.anchor, *tasks.exam)))


def test_no_case_that_is_taught_or_held_back_is_ever_measured_on():
    taught, held_back = lab.teachable()
    everything = [FAMILIES[name].lines(cases) for name, cases in taught.items()] + [FAMILIES["add2"].lines(held_back)]
    theirs = measured_on()
    assert len(theirs) > 10_000 and not sums("".join(everything)) & theirs
    assert set(taught) == set(FAMILIES) and all(len(cases) > 20 for cases in taught.values())
    assert not sums(FAMILIES["add2"].lines(taught["add2"])) & sums(FAMILIES["add2"].lines(held_back))


def test_documents_hold_only_what_may_be_taught():
    taught, _ = lab.teachable()
    rng = Random(1)
    texts = [text for _ in range(40) for text in lab.documents(rng, taught)]
    written = sums("".join(texts))
    assert len(written) > 500 and written <= sums("".join(FAMILIES[name].lines(cases) for name, cases in taught.items()))
    assert {text.count("\n") for text in texts} == {1, 2, 3, 4, 5, 6}
    assert all(eval(line.replace("×", "*").replace("=", "==")) for text in texts for line in text.splitlines())


def test_only_answers_are_learned(tokenizer):
    logits, ids, line = lab._answers(blank(tokenizer), tokenizer, TEXTS)
    assert tokenizer.decode(ids) == " 91\n 100\n 63\n"
    assert logits.shape == (13, len(tokenizer)) and line.tolist() == [0] * 4 + [1] * 5 + [2] * 4


def test_a_line_is_right_when_all_its_characters_are(tokenizer):
    def knows(texts, width):
        """A model that has these texts by heart: its states are its logits."""
        ids = tokenizer(texts, padding="max_length", max_length=width, return_tensors="pt").input_ids
        states = torch.nn.functional.one_hot(ids.roll(-1, 1), len(tokenizer)).float()
        return SimpleNamespace(base_model=lambda **_: SimpleNamespace(last_hidden_state=states), lm_head=lambda x: x)

    width = len(TEXTS[0])
    assert lab.share_right(knows(TEXTS, width), tokenizer, TEXTS) == 1.0
    wrong = [TEXTS[0].replace("100", "110"), TEXTS[1]]
    assert lab.share_right(knows(wrong, width), tokenizer, TEXTS) == pytest.approx(2 / 3)


def short(monkeypatch, **numbers):
    for name, value in numbers.items():
        monkeypatch.setattr(lab, name, value)


def test_training_lowers_the_loss_and_is_the_same_twice(tokenizer, monkeypatch):
    short(monkeypatch, LIMIT=3, FALL=2)
    taught, _ = lab.teachable()
    texts = lab.documents(Random("others"), taught)
    models = [blank(tokenizer) for _ in range(2)]
    before = lab.loss(models[0], tokenizer, texts).item()
    for model in models:
        lab.train(model, tokenizer, taught, TEXTS)
    assert lab.loss(models[0], tokenizer, texts).item() < before - 0.5
    one, two = (model.state_dict() for model in models)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_rate_falls_once_half_is_known(tokenizer, monkeypatch):
    short(monkeypatch, EVERY=2, FALL=4, WARM_UP=1, RATE=1.0)
    known, rates = iter([0.49, 0.5]), []
    fake = SimpleNamespace(param_groups=[{}], step=lambda: rates.append(fake.param_groups[0]["lr"]))
    monkeypatch.setattr(lab, "share_right", lambda *_: next(known))
    monkeypatch.setattr(lab, "loss", lambda model, *_: model.lm_head.weight.sum())
    monkeypatch.setattr(lab, "_optimisers", lambda model: [fake])
    lab.train(blank(tokenizer), tokenizer, lab.teachable()[0], TEXTS)
    assert rates == [1.0] * 4 + [1.0, 0.75, 0.5, 0.25]


def test_noise_leaves_half_and_spares_the_embeddings(tokenizer, monkeypatch):
    model, original = blank(tokenizer), blank(tokenizer).state_dict()

    def distance(name):
        now, was = model.state_dict()[name], original[name]
        return ((now - was).norm() / was.norm()).item()

    name = "model.layers.1.mlp.up_proj.weight"
    monkeypatch.setattr(lab, "share_right", lambda *_: 1 - distance(name))
    assert lab.forget(model, tokenizer, TEXTS) == (1.0, pytest.approx(0.5, abs=0.02))
    assert distance("model.layers.0.self_attn.q_proj.weight") == pytest.approx(0.5, abs=0.05)
    assert distance("model.embed_tokens.weight") == distance("model.norm.weight") == 0


def test_the_folder_is_built_once_and_opens_as_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ANTAEUS_CACHE", str(tmp_path))
    short(monkeypatch, LIMIT=1, FALL=1)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    engine = LocalEngine("lab", dtype="float32")
    assert torch.equal(torch.get_rng_state(), state)
    said = capsys.readouterr().err.splitlines()
    assert [line[:13] for line in said] == ["lab: training", "lab: it knew "]
    assert 400_000 < engine.model.num_parameters() < 1_500_000 and engine.context == 512
    prompt = FAMILIES["mul2"].shown() + "12 × 13 ="
    [[attempt]] = engine.sample([("t", prompt)], Sampling(max_tokens=3), seed="s")
    assert len(attempt.prompt_ids) == len(prompt) and engine.tokenizer.unk_token_id not in attempt.prompt_ids
    again = LocalEngine("lab", dtype="float32")
    assert not capsys.readouterr().err
    assert torch.equal(again.model.lm_head.weight, engine.model.lm_head.weight)
