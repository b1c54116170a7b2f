"""Test-time training: its losses by hand, its trials, and the two recipes that adapt."""

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import attempt, group, run_cli

from antaeus.engine import confusion
from antaeus.engine.base import Sampling, Update
from antaeus.errors import UserError
from antaeus.learn.unlabelled import KNOWN, OBJECTIVES, STRENGTH, prompts_read, weight
from antaeus.propose.builtin import builtin
from antaeus.recipes import ttt_distill
from antaeus.recipes.round import Round
from antaeus.recipes.ttt import TTT, adapt
from antaeus.recipes.ttt_distill import TTTDistill
from antaeus.solve.rollout import rollout
from antaeus.types import Anchor, Exam, Lesson, Practice
from antaeus.verify.vote import steady

GREEDY = Sampling(1, 8, temperature=0.0)
EXAM = [Exam(f"t{i}", f"{i} + {i} =", completion=True) for i in range(5)]


@pytest.fixture
def cli(capsys, monkeypatch):
    return lambda *args: run_cli(capsys, monkeypatch, *args)


def by_definition(logits, classes):
    """The mean over classes of what lies off the diagonal of P^T W P, rows normalised, with whole matrices."""
    p = logits.softmax(-1)
    h = torch.distributions.Categorical(logits=logits).entropy().detach()
    matrix = p.T @ torch.diag(1 + torch.exp(-h)) @ p
    matrix = matrix / matrix.sum(1, keepdim=True)
    return (1 - matrix.diagonal())[classes].mean()


def test_confusion_is_that_of_the_definition_in_parts_too():
    logits = torch.randn(9, 20, generator=torch.Generator().manual_seed(0), requires_grad=True)
    drawn = torch.tensor([3, 3, 5, 0, 19, 7, 7, 7, 2])
    expected = by_definition(logits, drawn.unique())
    (slope,) = torch.autograd.grad(expected, logits)
    table = confusion.blank(drawn)
    for part in logits.detach().split(4):
        table = confusion.counted(table, part)
    total = sum(confusion.share(part, table) for part in logits.split(2))
    assert total.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(torch.autograd.grad(total, logits)[0], slope, atol=1e-6, rtol=1e-4)


def test_sure_predictions_are_not_confused_and_uniform_ones_are():
    sure, flat, drawn = 50 * torch.eye(4), torch.zeros(4, 4), torch.arange(4)
    for logits, value in ((sure, 0.0), (flat, 0.75)):
        assert confusion.share(logits, confusion.counted(confusion.blank(drawn), logits)).item() == pytest.approx(value, abs=1e-6)


def test_the_engine_lowers_confusion_however_the_batch_is_cut(tiny):
    engine = tiny()
    found = [a for g in engine.sample([("a", "12 + 34 ="), ("b", "7 + 8 =")], Sampling(3, 8), seed="s") for a in g]
    lessons = [Lesson(Practice("t", ""), a.prompt_ids, a.ids, 0.0) for a in found]
    how, grads, losses = Update(lr=1e-3, confusion=1.0, temperature=2.5), [], []
    for size in (10**6, 30):
        learner = tiny()._learner()
        losses.append(learner.backward(lessons, how, size)[0])
        grads.append([m.grad for m in learner.masters])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-3)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and 0 < losses[0] < 1
    engine.train(lessons, how)
    assert engine.train(lessons, how).loss < losses[0]


def test_a_prompt_weighs_as_its_perplexity_above_the_threshold():
    """0 at P <= P0, lambda P / P0 above."""
    assert KNOWN == 3.0 and STRENGTH == 0.1
    assert weight(KNOWN) == weight(1.0) == 0.0
    assert weight(KNOWN + math.log(2)) == pytest.approx(0.2)


def test_prompts_are_read_but_for_their_first_token(tiny):
    engine = tiny()
    ids = engine.encode(EXAM[0].prompt, "")[0]
    (lesson,) = prompts_read(engine, EXAM[:2], [ids, ids[:1]])
    assert (lesson.prompt_ids, lesson.ids) == (ids[:1], ids[1:])
    scores = engine.score([attempt(None, ids=ids[1:]).__class__("t", 0, ids[:1], ids[1:], "", "length", (), ())])[0]
    assert lesson.advantage == pytest.approx(weight(-sum(scores.logprobs) / len(scores.logprobs)))


@pytest.mark.parametrize(("objective", "how"), [("tent", {"part": "norms"}), ("suta", {}), ("tlm", {"lora": 4})])
def test_it_adapts_answers_and_forgets(tiny, objective, how):
    """The answers are those of adapted weights; afterwards the engine is what it was, to the bit."""
    engine = tiny(**how)
    start = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    plain = rollout(engine, EXAM, GREEDY, seed="s", read="number")
    recipe = TTT(objective=objective, prompts=3, lr=0.05, updates=3)
    adapted = recipe.answer(engine, EXAM, GREEDY, seed="s", read="number")
    assert [g.task for g in adapted] == EXAM and all(g.attempts[0].cost > len(g.attempts[0].ids) for g in adapted)
    assert [g.attempts[0].logprobs for g in adapted] != [g.attempts[0].logprobs for g in plain]
    assert all(torch.equal(p, start[n]) for n, p in engine.model.named_parameters())
    assert rollout(engine, EXAM, GREEDY, seed="s", read="number") == plain


def test_each_batch_begins_anew(tiny):
    """A prompt adapted to by itself is answered as if no other had been before it."""
    engine, recipe = tiny(), TTT(prompts=1, lr=0.05, updates=2)
    alone = [recipe.answer(engine, [task], GREEDY, seed="s", read="number")[0] for task in EXAM]
    assert recipe.answer(engine, EXAM, GREEDY, seed="s", read="number") == alone


def test_what_adapting_took_is_charged_to_the_answers(tiny):
    engine, spent = tiny(), []
    sample, train = engine.sample, engine.train
    engine.sample = lambda *given, **how: (found := sample(*given, **how), spent.extend(len(a.ids) for g in found for a in g))[0]
    engine.train = lambda *given: (found := train(*given), spent.append(found.tokens))[0]
    groups = TTT(prompts=2, updates=3).answer(engine, EXAM, replace(GREEDY, n=2, temperature=1.0), seed="s", read="number")
    assert sum(a.cost for g in groups for a in g.attempts) == pytest.approx(sum(spent), abs=len(EXAM) * 2)


@pytest.mark.parametrize("objective", ["tent", "suta"])
def test_the_loss_falls(tiny, objective):
    engine, seen = tiny(), []
    train = engine.train
    engine.train = lambda *given: (found := train(*given), seen.append(found.loss))[0]
    with engine.trial():
        adapt(engine, EXAM, OBJECTIVES[objective], Sampling(2, 8), "s", lr=1e-3, steps=4)
    assert len(seen) == 4 and seen[-1] < seen[0]


def test_the_prompts_become_less_surprising(tiny):
    engine, prompts = tiny(), [tiny().encode(task.prompt, "")[0] for task in EXAM]
    before = [x.advantage for x in prompts_read(engine, EXAM, prompts)]
    with engine.trial():
        adapt(engine, EXAM, OBJECTIVES["tlm"], Sampling(2, 8), "s", lr=1e-3, steps=4)
        assert sum(x.advantage for x in prompts_read(engine, EXAM, prompts)) < sum(before)


def test_attempts_that_keep_proving_themselves():
    """Both lots' majorities must be the whole's; an attempt without an answer proves nothing."""
    assert [v.score for v in steady(group("1", "1", "1", "2"), 2)] == [1, 1, 1, 0]
    assert [v.score for v in steady(group("1", "1", "2", "2"), 2)] == [None] * 4
    assert [v.score for v in steady(group("1", "1", None, None), 2)] == [None] * 4
    assert [v.score for v in steady(group("1", "2", "1", "3"), 2, agreement=0.6)] == [None] * 4
    assert [v.score for v in steady(group(None, None, None, None), 2)] == [0] * 4


def test_nothing_but_practice_is_distilled(tiny):
    """What adapting to sealed prompts yields never reaches learning: the lessons of a sitting are of their sealed tasks."""
    from antaeus.guard.overlap import Fence
    from antaeus.types import SealBroken

    engine, seen = tiny(), []
    train = engine.train
    engine.train = lambda lessons, how: (seen.extend(lessons), train(lessons, how))[1]
    TTT(prompts=1).answer(engine, [Anchor("a", "1 + 1 =", completion=True)], GREEDY, seed="s", read="number")
    with pytest.raises(SealBroken):
        Fence([]).check(seen)


def test_what_is_distilled_was_sampled_from_adapted_weights_and_the_exam_is_plain(tiny):
    engine, tasks = tiny(), builtin("add2", 0, 3, 3, 3)
    solved = [TTTDistill(samples=4, rate=rate).solve(Round(1, 0, engine, tasks), tasks.practice) for rate in (0.05, 1e-9)]
    one, other = [[a.logprobs for g in groups for a in g.attempts] for groups in solved]
    assert one != other and [a.index for a in solved[0][0].attempts] == [0, 1, 2, 3]
    plain = rollout(engine, tasks.exam, GREEDY, seed="s", read="number")
    assert TTTDistill().answer(engine, tasks.exam, GREEDY, seed="s", read="number") == plain and not TTTDistill.inference


def test_bad_settings_are_refused():
    with pytest.raises(UserError, match="ttt_distill"):
        TTT(control="random")
    with pytest.raises(UserError, match="multiple of 2"):
        TTTDistill(samples=5)


@pytest.mark.parametrize("objective", ["tent", "suta", "tlm"])
def test_ttt_through_the_command_line(cli, tmp_path, objective):
    code, out, err = cli(
        "run", "ttt", f"objective={objective}", "prompts=6", "n_exam=6", "n_anchor=6", "part=norms", "updates=1", "samples=2",
        "--model", "tiny", "--run-dir", tmp_path / "r", "--json",
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert summary["tokens_trained"] == 0 and summary["rounds"] == 1


def test_two_rounds_of_distilling_through_the_command_line(cli, tmp_path, monkeypatch):
    """One adaptation, and many attempts: the tiny model hardly agrees with itself, and takes its time to come to an end."""
    monkeypatch.setattr(ttt_distill, "PROOFS", 1)
    code, out, err = cli(
        "run", "ttt_distill", "rounds=2", "prompts=8", "samples=8", "agreement=0", "max_tokens=48", "on_alarm=note",
        "n_exam=6", "n_anchor=6", "--model", "tiny", "--run-dir", tmp_path / "r", "--json",
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert summary["tokens_trained"] > 0 and summary["rounds"] == 2
