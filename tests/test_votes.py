"""Recipes that vote: srt, evol_rl, mm_upt, and what ttrl tells of its labels. Formulas by hand, then whole runs on the tiny model."""

import dataclasses
import json
import math

import numpy as np
import pytest
from helpers import attempt, group, lines, run_cli, verdicts
from test_loop import digits

from antaeus import loop, vectors
from antaeus.config import configure
from antaeus.engine.base import Scores
from antaeus.errors import UserError
from antaeus.guard import truth
from antaeus.learn import advantages
from antaeus.learn.policy_gradient import lessons
from antaeus.recipes.evol_rl import EvolRL
from antaeus.recipes.mm_upt import MMUPT
from antaeus.recipes.round import Round
from antaeus.recipes.srt import SRT
from antaeus.recipes.ttrl import TTRL
from antaeus.types import Group, Message, Practice, Source, TaskSet, Vault
from antaeus.verify.novelty import banded, bands, novelties, reasoned
from antaeus.verify.vote import believed, foremost, majority


@pytest.fixture
def cli(capsys, monkeypatch):
    return lambda *args: run_cli(capsys, monkeypatch, *args)


def tasks(practice=(), answers=None):
    empty = [Vault(Practice, {}) for _ in range(2)]
    return TaskSet("t", tuple(practice), (), (), Vault(Practice, answers or {}), *empty)


def round_of(answers=None, engine=None, set_=None):
    return Round(1, 0, engine, set_ or tasks(), Vault(Practice, answers or {}))  # type: ignore[arg-type]


def scores(row):
    return [v.score for v in row]


# --- what a majority reward does to a policy


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_the_majority_is_sharpened_by_one_over_beta(beta):
    """The policy that is best for reward less beta KL has logit p' = logit p + 1/beta for the majority (URLVR,
    2603.08660). Found here by climbing the exact objective of a tabular policy, with the rewards that votes give."""
    answers = ["7", "3", "7.0", "5"]  # classes: 7 has .2 + .3
    start = np.array([0.2, 0.4, 0.3, 0.1])
    drawn = [a for a, n in zip(answers, (2, 4, 3, 1), strict=True) for _ in range(n)]
    by_answer = dict(zip(drawn, scores(majority(group(*drawn))), strict=True))
    reward = np.array([by_answer[a] for a in answers])
    z = np.log(start)
    for _ in range(4000):
        p = np.exp(z - z.max())
        p /= p.sum()
        gain = reward - beta * (np.log(p) - np.log(start))
        z = z + 0.5 * p * (gain - p @ gain)
    assert logit(p @ reward) - logit(start @ reward) == pytest.approx(1 / beta, rel=1e-6)


def logit(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize("recipe", [TTRL(agreement=0.0), SRT(), EvolRL()])
def test_where_nobody_has_an_answer_nothing_is_learned(recipe):
    """Even with a KL in the reward, which differs between the attempts."""
    g = Group(Practice("t", "x"), (attempt(None), attempt(None, 1, logprobs=(-3.0, -0.1)), attempt(None, 2)))
    refs = [[Scores((-0.1, -0.1), (0.0, 0.0))] * 3]
    rows = recipe.verify(round_of(), [g])
    assert all(x.advantage == 0 for x in recipe.learn(round_of(), [g], rows, refs))
    assert not any((v.score or 0) > 0 for v in rows[0])


# --- srt


def test_a_majority_is_a_share_of_those_with_an_answer():
    g = group("1", "1", "2", None, None)
    assert scores(believed(g, 0.6)) == [1, 1, 0, 0, 0] and scores(majority(g, 0.6)) == [None] * 5
    assert believed(g)[0].parts == {"majority": 2 / 3}
    assert scores(believed(g, 0.67)) == [None] * 5 == scores(believed(group(*[None] * 5)))
    assert {v.source for v in believed(g)} == {Source.SELF}


def test_soft_votes_are_shares_and_obey_the_threshold():
    g = group("1/2", "0.5", "2", None)
    assert scores(believed(g, soft=True)) == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0])
    assert scores(believed(g, 0.7, soft=True)) == [None] * 4
    assert scores(SRT(soft=1, agreement=0.0).verify(round_of(), [g])[0]) == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0])


def test_the_largest_majorities_are_kept_and_labels_before_them():
    rows = [believed(group("1", "1", "2", "3")), believed(group("1", "1", "1")), believed(group(None, None)), verdicts(0.0, 0.0)]
    kept = [any(s is not None for s in scores(row)) for row in foremost(rows, 0.5)]
    assert kept == [False, True, False, True]
    assert foremost(rows, 1.0) == [list(row) for row in rows]
    assert [any(s is not None for s in scores(row)) for row in foremost(rows, 0.51)] == [True, True, False, True]
    two = [group("1", "1", "2", "3", task=Practice("a", "x")), group("5", "5", "5", "6", task=Practice("b", "y"))]
    assert [scores(row)[0] for row in SRT(keep=0.5, agreement=0.0).verify(round_of(), two)] == [None, 1.0]


def test_srt_takes_the_kl_off_the_reward_only_where_there_is_one():
    """A prompt without a believed majority has no KL either: no lesson comes of it."""
    sure = Group(Practice("a", "x"), tuple(attempt(s, i, task="a", logprobs=(-0.1, -i - 0.1)) for i, s in enumerate("112")))
    torn = Group(Practice("b", "y"), tuple(attempt(s, i, task="b", logprobs=(-0.1, -i - 0.1)) for i, s in enumerate("123")))
    recipe = SRT(kl=0.1)
    rows = recipe.verify(round_of(), [sure, torn])
    refs = [[Scores((-0.1, -0.1), (0.0, 0.0))] * 3] * 2
    out = recipe.learn(round_of(), [sure, torn], rows, refs)
    assert {x.task.id for x in out} == {"a"}
    paid = [1, 1 - 0.1 * (math.e - 2), -0.1 * (math.exp(2) - 3)]
    assert [x.advantage for x in out] == pytest.approx(advantages.rloo(paid))
    assert recipe.update(dataclasses.replace(round_of(), tasks=tasks())).kl == 0.0


def test_labelled_and_unlabelled_rows_mix():
    """Of the prompts with a sealed answer the share `mixed` is graded by it; the rest, and those without, vote."""
    groups = [group("1", "1", "2", task=Practice(f"t{i}", "x")) for i in range(60)]
    known = {f"t{i}": "2" for i in range(40)}
    rows = SRT(mixed=0.5).verify(round_of(known), groups)
    ground = [row[0].source is Source.GROUND for row in rows]
    assert 10 < sum(ground[:40]) < 30 and not any(ground[40:])
    assert all(scores(row) == ([0, 0, 1] if real else [1, 1, 0]) for row, real in zip(rows, ground, strict=True))
    assert rows == SRT(mixed=0.5).verify(dataclasses.replace(round_of(known), number=7), groups)
    assert all(row[0].source is Source.GROUND for row in SRT(mixed=1.0).verify(round_of(known), groups)[:40])
    assert {v.source for row in SRT().verify(round_of(known), groups) for v in row} == {Source.SELF}


def test_the_vault_is_open_to_srt_only_where_rows_mix():
    assert SRT().sources == {Source.SELF} and SRT(mixed=0.1).sources == {Source.SELF, Source.GROUND}
    with pytest.raises(UserError, match="no practice task has an answer.*ttrl"):
        SRT(mixed=0.1).refuse(tasks([Practice("a", "x")]), None)  # type: ignore[arg-type]
    SRT(mixed=0.1).refuse(tasks([Practice("a", "x")], {"a": "1"}), None)  # type: ignore[arg-type]


# --- evol_rl


def test_bands_do_not_meet():
    """Whatever the novelty: agreeing is in [.5, 1], not agreeing in [-1, -.5]."""
    dice = np.random.default_rng(0)
    for n in range(2, 12):
        u, agrees = dice.random(n), dice.random(n) < 0.5
        r = np.array(bands(u, agrees))
        assert np.all((r[agrees] >= 0.5) & (r[agrees] <= 1)) and np.all((r[~agrees] >= -1) & (r[~agrees] <= -0.5))
        if agrees.any() and (~agrees).any():
            assert r[agrees].min() - r[~agrees].max() >= 1 - 1e-12
    assert bands(np.array([0.1, 0.3, 0.2, 0.9, 0.4]), np.array([1, 1, 1, 0, 0], bool)) == pytest.approx(
        [0.5, 1.0, 0.75, -0.5, -1.0]
    )


def test_edges_of_the_bands():
    agrees = np.array([True, False])
    assert bands(np.array([0.2, 0.7]), agrees) == [1.0, -0.5]  # alone on its side
    assert bands(np.full(4, 0.3), np.array([1, 1, 0, 0], bool)) == [0.75, 0.75, -0.75, -0.75]  # nothing differs
    assert scores(banded(group("1", None, None), vectors.embed)) == [-1, -1, -1]  # one valid answer or none
    assert scores(banded(group(None, None), vectors.embed)) == [-1, -1]
    assert scores(banded(group("1", "1", None), lambda _: np.array([1.0, 0.0]))) == [0.75, 0.75, -1]
    assert scores(banded(group("1", "2", "3"), vectors.embed, agreement=0.5)) == [None] * 3


def test_novelty_by_hand():
    """u = 1 - mix mean(own side) - (1 - mix) nearest of all; cosines below 0 count as 0; who is alone is compared with all."""
    e = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [0.0, 1.0]])
    u = novelties(e, np.array([True, True, True, False]))
    assert u == pytest.approx([1 - (0.6 + 0) / 4 - 0.6 / 2, 1 - 0.6 / 4 - 0.8 / 2, 1.0, 1 - 0.8 / 6 - 0.8 / 2])
    assert novelties(e, np.array([True] * 4), mix=0.0) == pytest.approx([0.4, 0.2, 1.0, 0.2])


def test_an_attempt_in_other_words_earns_more():
    said = ["7 and 5 are 12", "7 and 5 are 12", "count up from seven: twelve", "13"]
    tries = tuple(dataclasses.replace(attempt(a, i), text=t) for i, (a, t) in enumerate(zip("1112", said, strict=True)))
    a, b, new, wrong = EvolRL().verify(round_of(), [Group(Practice("t", "x"), tries)])[0]
    assert (a.score, b.score, new.score, wrong.score) == (0.5, 0.5, 1.0, -0.5)
    assert new.parts["novelty"] > a.parts["novelty"] and a.parts["majority"] == 0.75 and new.source is Source.SELF
    assert reasoned("one way <think>x</think> or</think> 5") == " 5" and reasoned("5") == "5"


def test_vectors_see_digits_and_not_their_order():
    assert not np.allclose(vectors.embed(" 46"), vectors.embed(" 47"))
    assert np.allclose(vectors.embed(" 46"), vectors.embed(" 64"))
    assert np.linalg.norm(vectors.embed("46")) == pytest.approx(1.0)


def test_without_vectors_evol_rl_is_refused_and_never_guesses(monkeypatch, tmp_path, cli):
    monkeypatch.setattr("antaeus.vectors.importlib.util.find_spec", lambda name: None)
    code, _, err = cli("run", "evol_rl", "--model", "tiny", "--run-dir", tmp_path / "r")
    assert code == 2 and "antaeus[audit]" in err and "ttrl" in err and not (tmp_path / "r").exists()
    vectors._model.cache_clear()
    with pytest.raises(UserError, match="not installed"):
        vectors.embed("x")


def test_evol_rl_keeps_entropy_up_and_clips_high():
    how = EvolRL().update(round_of())
    assert (how.entropy, how.clip_low, how.clip_high, EvolRL(bonus=0.0).update(round_of()).entropy) == (-0.003, 0.2, 0.28, 0.0)
    assert EvolRL(votes=64, samples=32).sampling(tasks()).n == 64


# --- mm_upt


def test_mm_upt_reads_no_images():
    how = MMUPT()
    assert (how.samples, how.temperature, how.top_p, how.update(round_of()).clip_high) == (10, 0.7, 0.99, 0.3)
    for prompt in ("<image> How many cats?", (Message("user", "<|vision_start|> what is it?"),)):
        with pytest.raises(UserError, match="'p'.*images are not read"):
            how.refuse(tasks([Practice("ok", "1 + 1 ="), Practice("p", prompt)]), None)  # type: ignore[arg-type]
    how.refuse(tasks([Practice("ok", "an image of 2 cats")]), None)  # type: ignore[arg-type]


# --- what answers tell of the labels


def test_label_and_reward_accuracy_by_hand():
    """A wrong majority of 3 in 8 with one right answer: the label is wrong, and the rewards are right in 1 - 3/8 - 1/8 of the cases."""
    lucky = group("9", "9", "9", "7", "5", "5", "4", "3")
    good = group("7", "7", "7.0", "7", "7", "7", "1", None, task=Practice("u", "y"))
    blank, unknown = group(None, None, task=Practice("v", "z")), group("1", "2", task=Practice("w", "?"))
    groups = [lucky, good, blank, unknown]
    real = [verdicts(*[float(a.answer in ("7", "7.0")) for a in g.attempts]) for g in groups[:3]]
    seen = truth.measure(groups, [majority(g) for g in groups], [*real, None])
    assert seen["label_accuracy"] == pytest.approx(1 / 3) and seen["practice_accuracy"] == pytest.approx(7 / 18)
    assert seen["reward_accuracy"] == pytest.approx((4 + 8 + 2) / 18)
    given, due = np.array([1] * 3 + [0] * 5), np.array([0] * 3 + [1] + [0] * 4)
    agreed = np.array([1] * 6 + [0] * 2)
    inner = [np.concatenate([given - 3 / 8, agreed - 6 / 8]), np.concatenate([due - 1 / 8, agreed - 6 / 8])]
    assert seen["reward_truth"] == pytest.approx(np.corrcoef(*inner)[0, 1])  # the blank prompt has no spread
    assert seen.keys() == truth.DEFINITIONS.keys() and truth.measure(groups, [[]] * 4, [None] * 4) == {}
    graded = truth.measure([good], [verdicts(*[0.3] * 8)], [real[1]])
    assert "reward_accuracy" not in graded and graded["reward_truth"] == 0.0
    apart = [group("7", "1"), group("2", "1", task=Practice("u", "y"))]  # surer where it is right, and never within a prompt
    level = truth.measure(apart, [verdicts(0.9, 0.9), verdicts(-0.1, -0.1)], [verdicts(1.0, 0.0), verdicts(0.0, 0.0)])
    assert level["reward_truth"] == 0.0
    mixed = [group("7", "1", "1"), group("7", "1")]  # three times .003 has a mean that is not .003, by rounding
    blurred = truth.measure(mixed, [verdicts(*[0.003] * 3), verdicts(0.5, 0.5)], [verdicts(1.0, 0.0, 0.0), verdicts(1.0, 0.0)])
    assert blurred["reward_truth"] == 0.0


def test_they_are_logged_and_nothing_else_sees_them(tmp_path, monkeypatch):
    """Neither the alarms nor what a round starts from; and without answers they are not there."""
    from test_loop import improve, small_run

    histories, ringing = [], loop.alarms.ringing
    monkeypatch.setattr(
        loop.alarms, "ringing", lambda history, n, **k: histories.append(list(history)) or ringing(history, n, **k)
    )
    improve(small_run(tmp_path / "a"))
    events = lines(tmp_path / "a/events.jsonl")[1:]
    assert all({"label_accuracy", "practice_accuracy"} <= e["meters"].keys() for e in events)
    assert histories and not any(truth.DEFINITIONS.keys() & m.keys() for history in histories for m in history)
    parts = small_run(tmp_path / "b")
    improve(parts, tasks=dataclasses.replace(parts[3], practice_vault=Vault(Practice, {})))
    assert not any(truth.DEFINITIONS.keys() & e["meters"].keys() for e in lines(tmp_path / "b/events.jsonl")[1:])


# --- whole runs

SMALL = (
    "rounds=2", "prompts=8", "samples=8", "anchor_every=2", "n_anchor=5", "n_exam=10", "max_tokens=5", "extract=number", "on_alarm=note",
)  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "more", "sources"),
    [
        ("srt", ("agreement=0",), {"self"}),
        ("srt", ("agreement=0", "mixed=0.5", "keep=0.8"), {"self", "ground"}),
        ("evol_rl", ("votes=10",), {"self"}),
        ("mm_upt", (), {"self"}),
    ],
)
def test_two_rounds_of_each(cli, tmp_path, recipe, more, sources):
    args = ("--model", "tiny", "--tasks", digits(tmp_path / "d.jsonl", 60), "--run-dir", tmp_path / "r", "--json")
    code, out, err = cli("run", recipe, *SMALL, *more, *args)
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["recipe"], summary["rounds"], summary["source"]) == (recipe, 2, "self") and summary["tokens_trained"] > 0
    practice = [g for g in lines(tmp_path / "r/attempts.jsonl") if g["set"] == "practice"]
    assert {a["verdict"]["source"] for g in practice for a in g["attempts"]} == sources
    assert {len(g["attempts"]) for g in practice} == {10 if "votes=10" in more else 8}


def test_each_default_is_a_valid_configuration():
    for name in ("srt", "evol_rl", "mm_upt"):
        run, method = configure(name, {})
        assert run.recipe == name and method == type(method)()
    with pytest.raises(UserError, match="votes=4 is below samples=8"):
        configure("evol_rl", {"votes": 4, "samples": 8})
    assert lessons([], [], advantages.grpo) == []
