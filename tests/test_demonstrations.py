"""Demonstrations: what is selected, what it is a demonstration of, and that its gradient is that of the likelihood."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import attempt, group, verdicts

from antaeus.engine.base import Sampling, Update
from antaeus.learn.demonstrations import imitate, kept, show
from antaeus.recipes.imitation import Imitation
from antaeus.recipes.lmsi import LMSI
from antaeus.recipes.rest_em import ReSTEM
from antaeus.recipes.round import Round
from antaeus.types import Anchor, Group, Message, Practice, SealBroken, Source, TaskSet, Vault

TASK = Practice("t", "1 + 1 =", shots="2 + 2 = 4\n", completion=True)


def tasks(*practice, stop=("\n",), **answers):
    empty = (Vault(Practice, answers), Vault(Anchor, {}), Vault(Anchor, {}))
    return TaskSet("x", practice, (), (), *empty, max_tokens=8, stop=stop, extract="number")


def said(engine, lessons):
    return [(engine.tokenizer.decode(x.prompt_ids), engine.tokenizer.decode(x.ids, skip_special_tokens=True)) for x in lessons]


def sampled(engine, task, *texts):
    """A group as if the model had written these texts."""
    from antaeus.answers import extract
    from antaeus.solve.rollout import ask

    encoded = [engine.encode(ask(task, engine.chat), text) for text in texts]
    made = [
        replace(attempt(extract(t), i, ids=ids), prompt_ids=p, text=t)
        for i, (t, (p, ids)) in enumerate(zip(texts, encoded, strict=True))
    ]
    return Group(task, tuple(made))


def test_kept_are_whole_attempts_with_a_full_score_the_first_ones():
    tried = group("1", "2", "3", "4", None)
    cut = replace(tried, attempts=(*tried.attempts[:1], replace(tried.attempts[1], stop="length"), *tried.attempts[2:]))
    row = verdicts(1.0, 1.0, 1.0, 0.5, None)
    assert [a.answer for a in kept(cut, row)] == ["1", "3"]
    assert [a.answer for a in kept(cut, row, most=1)] == ["1"]
    assert kept(cut, verdicts(0.0, 1.0, None, 0.9, None)) == []


def test_what_is_sealed_is_no_demonstration(tiny):
    sealed = Anchor("a", "1 + 1 =")
    with pytest.raises(SealBroken):
        imitate(sealed, [attempt(2)])
    with pytest.raises(SealBroken):
        show(tiny(), sealed, sealed.prompt, " 2")


def test_the_gradient_is_that_of_the_negative_log_likelihood_at_temperature_one(tiny):
    engine = tiny()
    attempts = engine.sample([("t", "1 + 1 =")], Sampling(4, 8, 0.7), seed="s")[0]
    how = ReSTEM().update(Round(1, 0, engine, tasks(TASK)))
    assert how.temperature == 1.0 and ReSTEM().temperature == 0.7
    learner = engine._learner()
    learner.backward(imitate(TASK, attempts, weight=0.5), replace(how, lr=0), 10**6)
    ours = [m.grad.clone() for m in learner.masters]
    learner.close()
    engine.model.zero_grad()
    loss, n = torch.zeros(()), sum(len(a.ids) for a in attempts)
    for a in attempts:
        logits = engine.model(torch.tensor([[*a.prompt_ids, *a.ids]])).logits[0, len(a.prompt_ids) - 1 : -1]
        loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor(a.ids), reduction="sum") / n
    (0.5 * loss).backward()
    for mine, p in zip(ours, learner.params, strict=True):
        torch.testing.assert_close(mine, p.grad, atol=1e-6, rtol=1e-4)


def test_a_shown_text_ends_with_the_end_token(tiny):
    engine = tiny()
    lesson = show(engine, TASK, "1 + 1 =", " 2", 3.0)
    assert said(engine, [lesson]) == [("1 + 1 =", " 2")] and lesson.ids[-1] in engine._eos
    assert (lesson.advantage, lesson.logprobs) == (3.0, None) and len(engine.encode("1", " 2", end=False)[1]) == len(
        lesson.ids
    ) - 1


def test_lmsi_keeps_the_majoritys_paths_and_mixes_forms(tiny):
    """Three of five say 2: each with and without the worked examples, and once a form the bare answer, weighted as the paths."""
    engine, recipe = tiny(), LMSI()
    tried = sampled(engine, TASK, " so 2", " 3", " sure 2", " 2", " no idea")
    round = Round(1, 0, engine, tasks(TASK))
    lessons = recipe.learn(round, [tried], recipe.verify(round, [tried]))
    few, zero, bare = "2 + 2 = 4\n1 + 1 =", "1 + 1 =", "Give the final answer alone.\n1 + 1 ="
    assert said(engine, lessons) == [
        *((few, text) for text in (" so 2", " sure 2", " 2")), *((zero, text) for text in (" so 2", " sure 2", " 2")),
        ("2 + 2 = 4\n" + bare, " 2\n"), (bare, " 2\n"),
    ]  # fmt: skip
    assert [x.advantage for x in lessons] == [1.0] * 6 + [3.0] * 2 and {x.task for x in lessons} == {TASK}
    assert len(replace(recipe, forms="sampled").learn(round, [tried], recipe.verify(round, [tried]))) == 3
    unsure = replace(recipe, agreement=0.7)
    assert unsure.learn(round, [tried], unsure.verify(round, [tried])) == []


def test_lmsi_asks_for_no_bare_answer_where_the_paths_are_bare_and_no_form_twice(tiny):
    engine, recipe = tiny(), LMSI()
    plain = Practice("u", "1 + 1 =", completion=True)
    tried = sampled(engine, plain, " 2", " 2")
    round = Round(1, 0, engine, tasks(plain))
    assert said(engine, recipe.learn(round, [tried], recipe.verify(round, [tried]))) == [("1 + 1 =", " 2")] * 2


def test_a_line_goes_before_the_last_message():
    from antaeus.solve.rollout import preceded

    chat = (Message("system", "s"), Message("user", "q"))
    assert preceded(chat, "h") == (Message("system", "s"), Message("user", "h\nq")) and preceded("q", "h") == "h\nq"


def test_rest_em_keeps_right_attempts_up_to_its_cap(tiny):
    engine, recipe = tiny(), ReSTEM(most=2)
    tried = sampled(engine, TASK, " 3", " 2", " also 2", " 2.0")
    round = Round(1, 0, engine, tasks(TASK, t="2"), Vault(Practice, {"t": "2"}))
    assert [v.source for v in recipe.verify(round, [tried])[0]] == [Source.GROUND] * 4
    assert [text for _, text in said(engine, recipe.learn(round, [tried], recipe.verify(round, [tried])))] == [" 2", " also 2"]


def test_passes_and_steps_are_as_many_as_asked_for(tiny, monkeypatch):
    engine, steps = tiny(), []
    monkeypatch.setattr(engine, "train", lambda lessons, how: steps.append((len(lessons), how.lr)))
    lessons = [lesson for k in range(4) for lesson in imitate(replace(TASK, id=str(k)), [attempt(2)])]
    ReSTEM(updates=3, epochs=2, lr=0.5).train(Round(2, 0, engine, tasks(TASK)), lessons)
    assert steps == [(2, 0.5), (1, 0.5), (1, 0.5)] * 2


def test_a_restart_sets_out_from_the_base_with_a_fresh_optimiser(tiny):
    """The second iteration is what a first one on the same lessons would be, to the bit; without it, it is not."""
    found = tiny().sample([("t", "1 + 1 =")], Sampling(4, 8), seed="s")[0]
    first, second = imitate(TASK, found[:2]), imitate(TASK, found[2:])
    scores = {}
    for name, start, before in (("alone", "base", []), ("again", "base", first), ("on", "policy", first)):
        engine = tiny()
        recipe = ReSTEM(start=start, lr=1e-2, updates=1)
        for lessons in filter(None, (before, second)):
            recipe.train(Round(1, 0, engine, tasks(TASK)), lessons)
        scores[name] = engine.score(found)
    assert scores["alone"] == scores["again"] != scores["on"]


def test_what_only_a_policy_gradient_has_is_no_setting():
    import dataclasses

    assert not {"advantage", "clip_low", "clip_high", "kl", "kl_in"} & {f.name for f in dataclasses.fields(Imitation)}
    assert math.isclose(Update(lr=1.0).temperature, 1.0)
