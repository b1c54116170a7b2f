"""The recipes of pseudo-answers, of another model's answers, of a way of answering, and of the model's own grade."""

import json
import math
from dataclasses import replace

import pytest
from helpers import attempt, lines, run_cli
from test_demonstrations import TASK, said, sampled, tasks
from test_loop import digits
from test_resume import final, told

from antaeus import api, loop
from antaeus.engine.base import Sampling
from antaeus.engine.local import LocalEngine
from antaeus.errors import UserError
from antaeus.guard import seals
from antaeus.recipes import RECIPES
from antaeus.recipes.distill import Distill
from antaeus.recipes.round import Round
from antaeus.recipes.self_consistency import SelfConsistency
from antaeus.recipes.self_correct import REQUEST, SelfCorrect
from antaeus.recipes.star import STaR
from antaeus.recipes.verbalized import Verbalized
from antaeus.reporting.wording import way_of
from antaeus.types import Group, Message, Practice, Source, Vault, to_json
from antaeus.verify.grade import Grade, grades
from antaeus.verify.vote import chosen

VAULT = Vault(Practice, {"t": "2"})
SMALL = {
    "rounds": 2,
    "prompts": 8,
    "anchor_every": 2,
    "n_exam": 10,
    "n_anchor": 5,
    "max_tokens": 24,
    "extract": "number",
    "on_alarm": "note",
}
EACH = {
    "self_consistency": {"rounds": 1, "samples": 4},
    "lmsi": {"samples": 16, "prompts": 16},
    "star": {"samples": 4},
    "rest_em": {"samples": 8},
    "self_correct": {"samples": 8, "agreement": 0.0},
    "distill": {"samples": 4, "teacher": "tiny"},
    "verbalized": {"samples": 4},
}


@pytest.fixture
def cli(capsys, monkeypatch):
    return lambda *args: run_cli(capsys, monkeypatch, *args)


def go(cli, folder, recipe, tmp_path, **given):
    """A small run through the real command line: its summary."""
    data = digits(tmp_path / "d.jsonl", 80)
    pairs = [f"{k}={v}" for k, v in {**SMALL, **EACH[recipe], **given}.items()]
    code, out, err = cli("run", recipe, *pairs, "--model", "tiny", "--tasks", data, "--run-dir", folder, "--json")
    assert code == 0, err
    return json.loads(out)


def round_(engine, *practice, vault=VAULT, **kind):
    return Round(1, 0, engine, tasks(*(practice or (TASK,)), **kind), vault)


# --- every one of them through the command line


@pytest.mark.parametrize("recipe", EACH)
def test_two_rounds_by_command_line(cli, tmp_path, recipe):
    summary = go(cli, tmp_path / "r", recipe, tmp_path)
    assert summary["rounds"] == (1 if recipe == "self_consistency" else 2) and summary["source"] == RECIPES[recipe].source
    assert (summary["tokens_trained"] > 0) == (recipe != "self_consistency")
    practice = [g for g in lines(tmp_path / "r/attempts.jsonl") if g["set"] == "practice"]
    assert {a["verdict"]["source"] for g in practice for a in g["attempts"]} == {RECIPES[recipe].source.value}
    assert sum(a["tokens"] for g in practice for a in g["attempts"]) == summary["tokens_sampled"]
    assert not [f for f in api.audit(tmp_path / "r") if f.severity == "fatal" and f.rule != "contamination"]


@pytest.mark.parametrize("recipe", ["star", "self_correct"])
def test_fixed_labels_and_a_curriculum_know_only_the_tasks_themselves(cli, tmp_path, recipe):
    own = {"labels": "fixed"} if recipe == "self_correct" else {"curriculum": "pass_rate", "control": "no-op"}
    assert go(cli, tmp_path / "r", recipe, tmp_path, **own, rounds=1)["status"] in ("finished", "stopped")


def test_the_meters_leave_out_what_else_was_written():
    asked, beside = Group(TASK, (attempt(2),)), Group(replace(TASK, id="t2", about="t"), (attempt(3),))
    assert loop.own([asked, beside], [["a"], ["b"]]) == ([asked], [["a"]])


# --- STaR


def writing(monkeypatch, *texts):
    """An engine that writes `texts` in turn, one a group's attempt, whatever it is asked. Returns the prompts it was given."""
    asked, left = [], list(texts)

    def sample(self, prompts, how, *, seed):
        asked.extend(prompts)
        rows = [sampled(self, Practice(i, p, completion=True), *(left.pop(0) for _ in range(how.n))) for i, p in prompts]
        return [list(group.attempts) for group in rows]

    monkeypatch.setattr(LocalEngine, "sample", sample)
    return asked


def test_star_asks_again_with_the_answer_and_learns_without_it(tiny, monkeypatch):
    engine, recipe = tiny(), STaR(samples=2)
    asked = writing(monkeypatch, " 3", " 4", " 5", " thus 2")
    round = round_(engine)
    groups = recipe.solve(round, [TASK])
    assert [p for _, p in asked] == ["2 + 2 = 4\n1 + 1 =", "2 + 2 = 4\nThe answer to what follows is 2.\n1 + 1 ="]
    assert [g.task.about for g in groups] == ["", "t"]
    lessons = recipe.learn(round, groups, recipe.verify(round, groups))
    assert said(engine, lessons) == [("2 + 2 = 4\n1 + 1 =", " thus 2")] and lessons[0].task == TASK


def test_star_gives_no_hint_where_one_is_right_where_none_is_wanted_or_a_control_is_on(tiny, monkeypatch):
    for recipe, texts in (
        (STaR(samples=2), (" 2", " 3")),
        *((r, (" 4", " 3")) for r in (STaR(samples=2, hints="no"), STaR(samples=2, control="random"))),
    ):
        asked = writing(monkeypatch, *texts)
        assert len(recipe.solve(round_(tiny()), [TASK])) == len(asked) == 1


@pytest.mark.parametrize("recipe", ["star", "rest_em"])
def test_a_restarting_run_that_was_interrupted_ends_in_the_same_bytes(tmp_path, recipe):
    given = {**SMALL, **EACH[recipe], "rounds": 3, "lr": 1e-2, "model": "tiny", "dtype": "float32"}
    given["tasks"] = str(digits(tmp_path / "d.jsonl", 80))
    api.run(recipe, run_dir=tmp_path / "whole", **given)
    done = []
    with pytest.raises(loop.Interrupted):
        api.run(
            recipe,
            run_dir=tmp_path / "cut",
            watch=lambda kind, _: done.append(kind),
            interrupt=lambda: done.count("round") == 3,
            **given,
        )
    api.resume(tmp_path / "cut")
    assert final(tmp_path / "cut") == final(tmp_path / "whole") and told(tmp_path / "cut") == told(tmp_path / "whole")


# --- revisions


def test_a_revision_becomes_an_answer_to_the_bare_prompt(tiny, monkeypatch):
    engine, recipe = tiny(), SelfCorrect(samples=3)
    asked = writing(monkeypatch, " 3", " 3", " 3", " 2", " yes 2", " 4")
    round = round_(engine)
    groups = recipe.solve(round, [TASK])
    assert [p for _, p in asked] == ["2 + 2 = 4\n1 + 1 =", "2 + 2 = 4\n1 + 1 = 3\n1 + 1 ="]
    assert [g.task.about for g in groups] == ["", "t"]
    lessons = recipe.learn(round, groups, recipe.verify(round, groups))
    assert said(engine, lessons) == [("2 + 2 = 4\n1 + 1 =", text) for text in (" 2", " yes 2")]
    split = replace(recipe, agreement=0.7)
    assert split.learn(round, groups, split.verify(round, groups)) == []


def test_a_chat_model_is_asked_to_revise_in_a_further_turn():
    from antaeus.recipes.self_correct import _revising

    task = Practice("t", "1 + 1?")
    revising = _revising(Group(task, (attempt(3),)), chat=True)
    assert revising.prompt == (Message("user", "1 + 1?"), Message("assistant", "3"), Message("user", REQUEST))


# --- another model


def test_the_teachers_text_is_learned_in_the_students_tokens(tiny, tiny_folder):
    engine, recipe = tiny(), Distill(teacher=str(tiny_folder), samples=3)
    assert engine.beside(str(tiny_folder)) is engine.beside(str(tiny_folder)) is not engine
    round = round_(engine)
    (found,) = recipe.solve(round, [TASK])
    written = engine.beside(str(tiny_folder)).sample([("t", "2 + 2 = 4\n1 + 1 =")], recipe.sampling(round.tasks), seed="0/1")[0]
    assert [a.text for a in found.attempts] == [a.text for a in written]
    for a, s in zip(found.attempts, engine.score(found.attempts, temperature=0.7), strict=True):
        assert engine.tokenizer.decode(a.ids, skip_special_tokens=True).rstrip("\n") == a.text and a.logprobs == s.logprobs
    assert {v.source for v in recipe.verify(round, [found])[0]} == {Source.PEER}


def test_a_teacher_that_is_not_there_is_refused_before_anything_runs(cli, tmp_path):
    with pytest.raises(UserError, match="teacher=MODEL"):
        Distill()
    code, _, err = cli("run", "distill", "teacher=/nowhere/at/all", "--model", "tiny", "--run-dir", tmp_path / "r")
    assert code == 2 and "/nowhere/at/all" in err and not (tmp_path / "r").exists()


# --- a way of answering


def test_the_majority_of_its_own_paths_is_each_attempts_answer(tiny, monkeypatch):
    writing(monkeypatch, " 3", " so 2", " 2", " 5", " no", " 5")
    recipe = SelfConsistency(samples=3)
    (found,) = recipe.answer(tiny(), [TASK], Sampling(2, 8, 0.0), seed="s", read="number")
    assert [(a.index, a.text, a.answer) for a in found.attempts] == [(0, " so 2", "2"), (1, " 5", "5")]
    assert [a.spent for a in found.attempts] == [12, 10]  # characters and end tokens of three paths each
    nobody = Group(TASK, (attempt(None), attempt(None, 1)))
    assert chosen(nobody) is nobody.attempts[0]


def test_paths_are_drawn_at_the_recipes_temperature_even_at_a_greedy_exam(tiny, monkeypatch):
    drawn = []
    real = LocalEngine.sample
    monkeypatch.setattr(
        LocalEngine, "sample", lambda self, p, how, *, seed: (drawn.append(how), real(self, p, how, seed=seed))[1]
    )
    SelfConsistency(samples=3).answer(tiny(), [TASK], Sampling(1, 8, 0.0), seed="s", read="number")
    assert (drawn[0].n, drawn[0].temperature) == (3, 0.7)


def test_a_way_of_answering_is_judged_and_named_as_such(cli, tmp_path, monkeypatch):
    """The candidate has the base's weights, an id of its own in the lineage, and the report does not call it learned."""
    summary = go(cli, tmp_path / "r", "self_consistency", tmp_path, lineage=tmp_path / "lineage")
    hashes = {line["id"]: line["sha256"] for line in lines(tmp_path / "r/versions/sha256.jsonl")}
    attempts = lines(tmp_path / "r/attempts.jsonl")
    spent = {g["version"]: sum(a["tokens"] for a in g["attempts"]) for g in attempts if g["set"] == "anchor"}
    assert summary["way"] == "self_consistency" and spent["r001"] > 2 * spent["base"]
    if summary["anchor_best_round"]:
        recipe = SelfConsistency(samples=4, prompts=8)
        candidate = seals.digest([hashes["r001"], recipe.name, to_json(recipe)])
        marks = {v["fingerprint"] for v in lines(tmp_path / "r/versions/lineage.jsonl")}
        assert len(marks) == 1 and candidate in (tmp_path / "lineage/ledger.jsonl").read_text()
        assert "holds the weights of the base" in (tmp_path / "r/report.html").read_text()


def test_what_is_said_of_a_way_of_answering():
    told = {"way": "self_consistency", "anchor_best_round": 1, "tokens_trained": 0}
    assert "nothing was learned" in way_of(told) and "answer plainly" in way_of({**told, "tokens_trained": 5})
    assert way_of({**told, "anchor_best_round": 0}) == way_of({**told, "way": None}) == way_of({}) == ""


# --- the model's own grade


def test_expected_grade_and_its_slopes_by_hand():
    grade = Grade((1,), ((2,), (3,), (4,)), (0.2, 0.3, 0.5), (0.0, 0.5, 1.0))
    assert grade.expected == pytest.approx(0.65)
    assert grade.slopes == pytest.approx((-0.13, -0.045, 0.175)) and sum(grade.slopes) == pytest.approx(0)


def test_shares_are_those_of_the_words_among_one_another(tiny):
    engine, words = tiny(), {" yes": 1.0, " no": 0.0}
    (grade,) = grades(engine, ["1 + 1 = 2?"], words)
    rows = [replace(attempt("x", ids=ids), prompt_ids=p) for p, ids in (engine.encode("1 + 1 = 2?", w, end=False) for w in words)]
    yes, no = (math.exp(sum(s.logprobs)) for s in engine.score(rows))
    assert grade.expected == pytest.approx(yes / (yes + no), rel=1e-3) and grade.replies == tuple(r.ids for r in rows)


def test_lessons_through_the_grade_have_the_gradient_of_the_grade(tiny):
    """Against finite differences of S itself, along the gradient: dS = |g|^2 x step, up to the token mean."""
    engine, recipe = tiny(), Verbalized(through="grade")
    round, tried = round_(engine), sampled(engine, TASK, " 2")
    row = recipe.verify(round, [tried])
    lessons = recipe.learn(round, [tried], row)
    how = recipe.update(round)
    learner = engine._learner()
    learner.backward(lessons, replace(how, lr=0), 10**6)
    slope = [m.grad.clone() for m in learner.masters]
    learner.close()
    tokens, step = sum(len(x.ids) for x in lessons), 1e-3
    norm = sum(float((g * g).sum()) for g in slope) ** 0.5
    seen = []
    for sign in (1, -1):
        for p, g in zip(learner.params, slope, strict=True):
            p.data.add_(g, alpha=-sign * step / norm)
        seen.append(recipe.verify(round, [tried])[0][0].score)
        for p, g in zip(learner.params, slope, strict=True):
            p.data.add_(g, alpha=sign * step / norm)
    assert (seen[0] - seen[1]) / (2 * step) == pytest.approx(norm * tokens, rel=0.05)
    assert row[0][0].parts["judge"] == row[0][0].score


def test_what_the_gradient_goes_through(tiny):
    engine = tiny()
    tried = sampled(engine, TASK, " 2", " 3")
    found = {}
    for through in ("grade", "answer", "both"):
        recipe, round = Verbalized(through=through), round_(engine)
        lessons = recipe.learn(round, [tried], recipe.verify(round, [tried]))
        found[through] = {x.prompt_ids == tried.attempts[0].prompt_ids for x in lessons}
    assert found == {"grade": {False}, "answer": {True}, "both": {True, False}}
    with pytest.raises(UserError, match="take through=answer"):
        Verbalized(control="random")


def test_an_answer_that_abstains_teaches_no_grade(tiny):
    engine, recipe = tiny(), Verbalized()
    tried = sampled(engine, TASK, " 2", " 3")
    row = recipe.verify(round_(engine), [tried])
    silenced = [[replace(row[0][0], score=None), row[0][1]]]
    assert len(recipe.learn(round_(engine), [tried], silenced)) == 2
