"""Passages read for good: how their questions are dealt, the recipe's stages, and whole runs of it through the command line."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import pytest
from helpers import lines
from test_seal import ROWS, row, write

from antaeus import api
from antaeus.errors import UserError
from antaeus.guard import gate
from antaeus.guard.seals import seals
from antaeus.guard.service import ScoreService
from antaeus.learn.documents import course
from antaeus.propose.passages import opened
from antaeus.propose.sets import load
from antaeus.recipes.continual import Continual
from antaeus.recipes.round import Round
from antaeus.recipes.study import Studied, to_read
from antaeus.solve.rollout import rollout_by
from antaeus.types import Attempt, Group, Passage, Source, Verdict

SMALL = {"rounds": 3, "edit_tokens": 16, "epochs": 2, "model": "tiny", "dtype": "float32", "anchor_every": 2}


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "passages.jsonl", [row(f"{title} {n}", 3) for n in range(2) for title in ("Rivers", "Bees", "Iron")])


def test_questions_are_dealt_and_never_stand_beside_their_passage(file):
    tasks = load(str(file), seed=0, deal=3)
    assert (len(tasks.practice), len(tasks.anchor), len(tasks.exam)) == (6, 6, 6)
    names = {task.id for task in tasks.practice}
    for task in (*tasks.anchor, *tasks.exam):
        assert task.passage is None and set(task.tags) < names and len(task.tags) == 1 and task.shots
    assert {tasks.anchor_vault.open(t) for t in tasks.anchor} == {"Anna"} != {tasks.exam_vault.open(t) for t in tasks.exam}
    assert [q.answers for q in opened(tasks.practice_vault.open(tasks.practice[0]))] == [("rain",)]
    two = load(str(file), seed=0, deal=2)
    assert len(two.anchor) == 12 and len(two.practice_vault) == 0


def test_what_cannot_be_dealt_is_said(tmp_path, file):
    with pytest.raises(UserError, match="dealt to anchors and exam; leave out exam, n_anchor"):
        load(str(file), seed=0, deal=2, exam=str(file), n_anchor=3)
    few = write(tmp_path / "few.jsonl", [row("Rivers", 1), row("Bees", 2)])
    with pytest.warns(UserWarning, match="1 passages have fewer than 2 questions"):
        assert len(load(str(few), seed=0, deal=2).practice) == 1
    with pytest.raises(UserError, match="no passage has 3 questions or more"):
        load(str(few), seed=0, deal=3)
    recipe = Continual(rounds=4, prompts=2)
    with pytest.raises(UserError, match="4 rounds of 2 passages want 8 of them, and 6 have 2 questions"):
        recipe.prepare(load(str(file), seed=0, deal=2))
    with pytest.raises(UserError, match="continual reads passages"):
        recipe.prepare(load("add2", seed=0))
    with pytest.raises(UserError, match="nothing is chosen by reward with best=0"):
        Continual(penalty=1.0)
    for given in ({"curriculum": "agreement"}, {"on_alarm": "rollback", "mitigation": "curriculum"}):
        with pytest.raises(UserError, match="continual writes texts, not answers"):
            api.run("continual", run_dir=tmp_path / "r", tasks=str(file), **given, **SMALL)
    with pytest.raises(UserError, match="labels=fixed: recipe rlvr has no votes"):
        api.run("rlvr", run_dir=tmp_path / "r", tasks="add2", labels="fixed", model="tiny")
    with warnings.catch_warnings(action="ignore"), pytest.raises(UserError, match="leave lora out"):
        api.run("continual", run_dir=tmp_path / "r", tasks=str(file), lora=4, **SMALL)
    with pytest.raises(UserError, match="leave lora and part out"):
        api.run("continual", run_dir=tmp_path / "r", tasks=str(file), part="norms", keep="merge", **SMALL)
    assert not (tmp_path / "r").exists()


def rounded(tiny, file, number=1, **given):
    recipe = Continual(rounds=3, prompts=2, edit_tokens=12, epochs=1, **given)
    tasks = recipe.prepare(load(str(file), seed=0, deal=recipe.deal))
    return recipe, Round(number, 0, tiny(), tasks, tasks.practice_vault)


def test_passages_come_in_order_and_earlier_ones_are_replayed(tiny, file):
    recipe, round = rounded(tiny, file, 2, replay=1)
    order, found = list(round.tasks.practice), recipe.propose(round)
    assert found[:2] == order[2:4] and found[2] in order[:2] and recipe.propose(round) == found
    assert recipe.propose(replace(round, number=1)) == order[:2]


def edits(task, *texts):
    return Group(task, tuple(Attempt(task.id, i, (7,), (1,), text, "eos", (0.0,), (0.0,)) for i, text in enumerate(texts)))


def test_documents_are_lines_or_whole_edits_and_the_passage_once(tiny, file):
    elbe = Passage("Rivers", "It flows.")
    assert to_read("a\nb", elbe, True) == ("Rivers\na\nb", elbe.whole) and to_read(" ", elbe, True) == (elbe.whole,)
    recipe, round = rounded(tiny, file)
    group = edits(round.tasks.practice[0], "a\nb", "c", "lost")
    row = [Verdict(1.0, Source.SELF), Verdict(1.0, Source.SELF), Verdict(None, Source.SELF, "gives a task away")]
    title, whole = group.task.passage.title, group.task.passage.whole
    for cut, texts in (("lines", ["a", "b", "c"]), ("no", ["a\nb", "c"])):
        told = replace(recipe, cut=cut).learn(round, [group], [row])
        wanted = course(round.engine, group.task, [f"{title}\n{t}" for t in texts] + [whole])
        assert sorted(x.ids for x in told) == sorted(x.ids for x in wanted)
    assert recipe.learn(round, [group], [[replace(v, score=None) for v in row]]) == []


def test_the_best_edits_are_studied(tiny, file):
    recipe, round = rounded(tiny, file, best=1)
    group = edits(round.tasks.practice[0], "a", "b", "c")
    told = recipe.learn(round, [group], [[Verdict(s, Source.GROUND) for s in (0.1, 0.7, -0.2)]])
    assert len(told) == 2 and told[0].ids == course(round.engine, group.task, [f"{group.task.passage.title}\nb"])[0].ids
    assert recipe.sources == {Source.GROUND} and Continual().sources == {Source.SELF}


def test_edits_of_somebody_else_are_studied_instead(tiny, file, tmp_path):
    theirs = write(
        tmp_path / "e.jsonl", [{**json.loads(x), "completions": ["They say.", "unused"]} for x in file.read_text().splitlines()]
    )
    recipe, round = rounded(tiny, file, edits=str(theirs))
    groups = recipe.solve(round, recipe.propose(round))
    assert {a.text for g in groups for a in g.attempts} == {"They say."} and recipe.sources == {Source.PEER}
    one = groups[0].attempts[0]
    assert len(one.ids) == len(one.logprobs) == len(one.entropies) and one.answer == "They say."
    assert {v.source for row in recipe.verify(round, groups) for v in row} == {Source.PEER}
    seal = seals(round.tasks)["tasks/practice"]
    rows = [{**json.loads(x), "completions": ["They say more."]} for x in file.read_text().splitlines()]
    other = recipe.prepare(load(str(file), seed=0, deal=2))
    assert seals(other)["tasks/practice"] == seal
    write(theirs, rows)
    assert (
        seals(recipe.prepare(load(str(file), seed=0, deal=2)))["tasks/practice"] != seal
    )  # so that it cannot be resumed with these
    few = write(tmp_path / "few.jsonl", [json.loads(theirs.read_text().splitlines()[0])])
    with pytest.raises(UserError, match="it has no edit of 5 passages"):
        replace(recipe, edits=str(few)).refuse(round.tasks, round.engine)


def test_an_edit_that_the_model_cannot_read_is_not_studied_and_ends_no_run(tiny, file, tmp_path):
    rows = [json.loads(x) for x in file.read_text().splitlines()]
    long = "It rains. " * 2000
    theirs = write(
        tmp_path / "e.jsonl", [{**r, "completions": [f"short\n{long}" if i else "They say."]} for i, r in enumerate(rows)]
    )
    recipe, round = rounded(tiny, file, edits=str(theirs))
    groups = recipe.solve(round, round.tasks.practice)
    row = {
        a.text[:5]: v
        for g, row in zip(groups, recipe.verify(round, groups), strict=True)
        for a, v in zip(g.attempts, row, strict=True)
    }
    assert row["They "].score == 1.0 and row["short"].score is None and "exceeds the model's context" in row["short"].why
    lessons = recipe.learn(round, groups, recipe.verify(round, groups))
    assert len({x.task.id for x in lessons}) == 1
    assert {a.text for g in groups for a in g.attempts} == {"They say.", f"short\n{long}"}  # told whole, however much was scored


def test_rewards_are_of_adapters_made_like_the_one_that_stays(tiny, file, monkeypatch):
    from antaeus.recipes import judging

    recipe, round = rounded(tiny, file, 2, best=1, samples=2, protect=0.9, cut="no")
    asked = []

    def said(engine, studies, how, *, seed, sparing, share):
        asked.append((len(sparing), share, [s.documents for s in studies]))
        return [Studied([[Attempt("t", 0, (), (), "rain", "stop", (), ())] for _ in s.questions]) for s in studies]

    monkeypatch.setattr(judging, "study", said)
    task = recipe.propose(round)[0]
    recipe.verify(round, [edits(task, "a\nb")])
    assert asked == [(2, 0.9, [(), (f"{task.passage.title}\na\nb", task.passage.whole)])]


def test_an_edits_reward_is_what_it_teaches_less_what_it_loses(tiny, file, monkeypatch):
    from antaeus.recipes import judging

    recipe, round = rounded(tiny, file, 2, best=1, penalty=0.5, samples=2)
    groups = [edits(task, "a", "b") for task in recipe.propose(round)]
    right = [
        [1, 1],
        [1, 0, 1],
        [0, 0, 0],
        [1, 1, 1],
        [0, 1, 1],
    ]  # of the policy, and of four adapters: own question, earlier ones

    def said(engine, studies, how, *, seed, sparing, share):
        assert (
            len(studies) == 5
            and not sparing
            and not studies[0].documents
            and [len(s.questions) for s in studies] == [2, 3, 3, 3, 3]
        )
        answers = [["rain" if mark else "snow" for mark in marks] for marks in right]
        return [Studied([[Attempt("t", 0, (), (), a, "stop", (), ())] for a in row], 9) for row in answers]

    monkeypatch.setattr(judging, "study", said)
    found = recipe.verify(round, groups)
    assert [[v.score for v in row] for row in found] == [[0.75, -0.5], [1.0, 0.0]]
    assert found[0][0].parts == {"own": 1.0, "lost": 0.5} and found[0][0].source is Source.GROUND and found[0][0].spent == 9


# whole runs


def run(folder, file, **given):
    with warnings.catch_warnings(action="ignore"):
        return api.run("continual", run_dir=folder, tasks=str(file), **{"on_alarm": "note", **SMALL, **given})


@pytest.mark.parametrize(
    "given",
    [
        {"lr": 1e-2}, {"keep": "merge"}, {"keep": "merge", "replay": 1, "protect": 0.9},
        {"keep": "merge", "best": 1, "samples": 2, "penalty": 1.0, "rounds": 2},
        {"keep": "merge", "rounds": 1, "prompts": 4, "samples": 2, "cut": "no", "batch": 4},
    ],
    ids=["store", "merge", "replay and null space", "penalty", "all at once"],
)  # fmt: skip
def test_each_form_runs_and_tells_what_was_forgotten(tmp_path, file, given):
    summary = run(tmp_path / "r", file, **given)
    found, rounds, passages = summary["forgetting"], summary["rounds"], summary["rounds"] * given.get("prompts", 1)
    assert found["versions"] == ["base", *(f"r{i:03d}" for i in range(1, rounds + 1))] and len(found["passages"]) == passages
    assert all(len(shares) == passages for shares in found["matrix"]) and found["refused"] == []
    assert summary["source"] == ("ground" if "best" in given else "self") and summary["exam"]["n"] == passages
    events = lines(tmp_path / "r" / "events.jsonl")
    assert all(e["train"]["loss"] > 0 and "lr" not in e["train"] for e in events[1:]) and summary["tokens_trained"] > 0
    shelves = list((tmp_path / "r" / "versions").glob("*/shelf/keys.jsonl"))
    assert bool(shelves) == ("keep" not in given and summary["anchor_best_round"] > 0)
    fatal = [f for f in api.audit(tmp_path / "r") if f.severity == "fatal"]
    assert not fatal, fatal


@pytest.mark.parametrize("keep", ["merge", "store"])
def test_interrupted_and_resumed_it_is_the_same_run(tmp_path, file, keep):
    from antaeus.loop import Interrupted

    whole = run(tmp_path / "whole", file, keep=keep, lr=1e-2)
    with pytest.raises(Interrupted):
        run(tmp_path / "r", file, keep=keep, lr=1e-2, interrupt=lambda: True)
    carried = api.resume(tmp_path / "r")
    for log in ("attempts.jsonl", "decisions.jsonl"):
        assert lines(tmp_path / "r" / log) == lines(tmp_path / "whole" / log)
    assert carried["forgetting"] == whole["forgetting"]


def test_a_later_run_brings_along_what_was_stored(tmp_path, file, monkeypatch):
    monkeypatch.setattr("antaeus.guard.gate.tally", lambda rows, real=gate.tally: {**real(rows), "correct": next(better)})
    better = iter(range(99))
    first = run(tmp_path / "first", file, lr=1e-2)
    version = tmp_path / "first" / "versions" / f"r{first['anchor_best_round']:03d}"
    kept = [json.loads(line) for line in (version / "shelf" / "keys.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(kept) == 3
    run(tmp_path / "second", file, model=str(version), rounds=1)
    sat = [line for line in lines(tmp_path / "second" / "attempts.jsonl") if line["set"] == "exam" and line["version"] == "base"]
    theirs = {
        x["task"]["id"]: x["attempts"]
        for x in lines(tmp_path / "first" / "attempts.jsonl")
        if x["set"] == "exam" and x["version"] == version.name
    }
    assert sat and all(theirs[line["task"]["id"]] == line["attempts"] for line in sat)
    later = next((tmp_path / "second" / "versions").glob("r001/shelf/keys.jsonl"))
    assert len(later.read_text(encoding="utf-8").splitlines()) == 3  # one of the three was read again


@pytest.mark.parametrize(("on_alarm", "refused"), [("note", []), ("stop", ["r001", "r002"])])
def test_a_merge_that_harms_is_told_and_undone_unless_alarms_are_only_noted(tmp_path, monkeypatch, on_alarm, refused):
    looks = iter([0.9])

    def mark(self, groups):
        f1 = next(looks, 0.1)
        return [[Verdict(0.0, Source.GROUND, parts={"f1": f1})] for _ in groups]

    monkeypatch.setattr(ScoreService, "mark", mark)
    questions = [{"question": f"What is known of {i}?", "answer": "little"} for i in range(12)]
    rows = [{"title": title, "context": f"Of {title} little is known.", "questions": questions} for title in ("Rivers", "Bees")]
    two = write(tmp_path / "two.jsonl", rows)
    given = {**SMALL, "rounds": 2, "keep": "merge", "on_alarm": on_alarm}
    summary = api.run("continual", run_dir=tmp_path / "r", tasks=str(two), **given)
    assert summary["forgetting"]["refused"] == refused and summary["anchor_best_round"] == (0 if refused else 2)
    assert not [f for f in api.audit(tmp_path / "r") if f.severity == "fatal"]
    told = [
        a for e in lines(tmp_path / "r" / "events.jsonl") for a in e["alarms"] if a.startswith("what was known is harmed: of 6")
    ]
    assert len(told) == (len(refused) or 1) and "6 are answered worse than they were known and 0 better (mean -0.80" in told[0]


def test_the_best_version_may_be_looked_at_after_a_later_one_was_refused(tmp_path, file, monkeypatch):
    """The second of two passages is refused; the anchors are looked at after it, with the first one's version at work."""
    monkeypatch.setattr("antaeus.guard.forgetting.harm", lambda *_: next(why))
    monkeypatch.setattr(
        "antaeus.guard.gate.tally", lambda rows, real=gate.tally: real([[Verdict(1.0, Source.GROUND)] for _ in rows])
    )
    why = iter(["", "made up"])
    summary = run(tmp_path / "r", file, keep="merge", rounds=2, on_alarm="rollback", anchor_every=2)
    assert (summary["anchor_best_round"], summary["forgetting"]["refused"]) == (1, ["r002"])
    assert {v["id"]: v["round"] for v in lines(tmp_path / "r/versions/lineage.jsonl")} == {"base": 0, "r001": 1}


def test_what_was_known_goes_back_with_the_policy(tmp_path, file, monkeypatch):
    """An alarm after the first of three passages takes the policy back to the base; what the version left behind knew is not missed."""
    from antaeus import loop

    rang = iter([{"made up": "made up"}])
    monkeypatch.setattr(loop.alarms, "ringing", lambda *_, **__: next(rang, {}))
    seen = []
    harm = loop.merging.forgetting.harm
    monkeypatch.setattr(loop.merging.forgetting, "harm", lambda known, *rest: seen.append(dict(known)) or harm(known, *rest))
    counts = iter([9, 0, 0, 0])
    monkeypatch.setattr("antaeus.guard.gate.tally", lambda rows, real=gate.tally: {**real(rows), "correct": next(counts, 0)})
    f1s = iter([0.2, 0.7, 0.7])

    def mark(self, groups):
        f1 = next(f1s, 0.2)
        return [[Verdict(0.0, Source.GROUND, parts={"f1": f1})] for _ in groups]

    monkeypatch.setattr(ScoreService, "mark", mark)
    summary = run(tmp_path / "r", file, keep="merge", on_alarm="rollback", anchor_every=9)
    assert [set(known.values()) for known in seen[:2]] == [{0.2}, {0.2}]
    assert summary["rollbacks"] == 1 and summary["forgetting"]["refused"][0] == "r001"


def test_a_version_with_a_shelf_is_evaluated_with_it(tmp_path, file, monkeypatch):
    monkeypatch.setattr("antaeus.guard.gate.tally", lambda rows, real=gate.tally: {**real(rows), "correct": next(better)})
    better = iter(range(99))
    first = run(tmp_path / "first", file, lr=1e-2, rounds=1)
    version, asked = str(tmp_path / "first" / "versions" / f"r{first['anchor_best_round']:03d}"), []
    monkeypatch.setattr(
        "antaeus.solve.retrieval.rollout_by",
        lambda _, who, tasks, *a, real=rollout_by, **k: asked.append(who) or real(_, who, tasks, *a, **k),
    )
    others = [str(write(tmp_path / f"{t}.jsonl", [row(t, 2)])) for t in ("Salt", "Wind")]
    with warnings.catch_warnings(action="ignore"):
        api.eval(version, others[0], dtype="float32", practice=others[0], anchor=others[1], exam=str(file))
    assert asked and any(i == 0 for who in asked for i in who)


def test_a_run_through_the_command_line_writes_the_matrix_into_its_page(tmp_path, file, cli):
    code, out, err = cli(
        "run", "continual", "rounds=2", "edit_tokens=16", "epochs=1", "on_alarm=note", "--model", "tiny", "--tasks", file,
        "--run-dir", tmp_path / "r", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert set(json.loads(out)["forgetting"]) >= {"matrix", "immediate", "retained"}
    assert "orget" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    code, _, err = cli("run", "continual", "--tasks", write(tmp_path / "p.jsonl", ROWS[:1]), "--model", "tiny")
    assert code == 2 and err.strip().count("\n") == 0
