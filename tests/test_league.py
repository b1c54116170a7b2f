"""Recipes side by side: which runs there are, that they are run once, and what the table makes of them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from antaeus import api
from antaeus.config import configure, parse_pairs
from antaeus.errors import UserError
from antaeus.league import league, plans, rows, running
from antaeus.league.page import cells
from antaeus.recipes import RECIPES
from antaeus.recipes.rlvr import RLVR

SMALL = {"model": "tiny", "prompts": 4, "samples": 4, "n_practice": 12, "n_anchor": 8, "n_exam": 12, "lr": 1e-3, "anchor_every": 2,
         "ttrl.agreement": 0.0, "tries": 2}  # fmt: skip
PAIRS = [f"{key}={value}" for key, value in SMALL.items()]


@dataclass(frozen=True)
class Blind(RLVR):
    """Looks at no verdict, as far as the league is told."""

    name: ClassVar[str] = "blind"
    rewarded: ClassVar[bool] = False


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A league of ttrl on two sets of tasks, one seed."""
    out = tmp_path_factory.mktemp("league")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("antaeus.loop.refuse_without_signal", lambda *_: None)
        league(["ttrl"], out, tasks=["add2", "sub2"], seeds=1, budget=900, given=SMALL)
    return out


def test_each_recipe_has_its_controls_and_the_reference():
    runs = [(e.recipe, e.control, e.seed) for e in plans.plan(["ttrl"], ["add2"], 2, 0, {})]
    assert runs == [("rlvr", "none", 0), ("rlvr", "none", 1)] + [
        ("ttrl", control, seed) for control in ("none", "random", "format") for seed in (0, 1)
    ]


def test_a_recipe_that_looks_at_no_verdict_is_tested_by_another_ones_controls(monkeypatch):
    monkeypatch.setitem(RECIPES, "blind", Blind)
    runs = {(e.recipe, e.control) for e in plans.plan(["blind"], ["add2"], 1, 0, {})}
    assert runs == {("rlvr", "none"), ("blind", "none"), ("ttrl", "random"), ("ttrl", "format")}
    assert plans.control_of("blind", {"ttrl"}) == "ttrl"


def test_every_recipe_can_be_in_a_league():
    """Also those that take no control, have other settings, or learn nothing: the stand-in's controls test those that learn."""
    names = [name for name in RECIPES if name != "distill"]  # which needs a teacher
    entries = plans.plan(names, ["add2"], 1, 900, {"lr": 1e-4, "agreement": 0.1})
    for entry in entries:
        running._configuration(entry)
    tested = {e.recipe for e in entries if e.control != "none"}
    assert {"ttrl", "lmsi", "rent"} <= tested and not {"em_ft", "verbalized", "em_inf", "self_consistency", "rlvr"} & tested
    assert plans.control_of("verbalized", tested) == "ttrl" and plans.control_of("ttt", tested) is None
    assert {e.recipe for e in plans.plan(["verbalized"], ["add2"], 1, 0, {"verbalized.through": "answer"})} == {
        "rlvr",
        "verbalized",
    }
    assert {(e.recipe, e.control) for e in plans.plan(["ttt"], ["add2"], 1, 0, {})} == {("rlvr", "none"), ("ttt", "none")}


def test_settings_are_for_all_or_for_one():
    entries = plans.plan(["ttrl"], ["add2", "sub2"], 1, 5000, {"lr": 1e-4, "ttrl.agreement": 0.5, "also": "times"})
    of = {e.recipe: e.settings for e in entries if e.tasks == "add2"}
    assert of["ttrl"]["agreement"] == 0.5 and "agreement" not in of["rlvr"] and of["rlvr"]["lr"] == 1e-4
    assert of["ttrl"]["budget"] == 5000 and of["ttrl"]["also"] == "times"
    assert plans.plan(["ttrl"], ["add2", "sub2"], 1, 0, {})[0].settings["also"] == "sub2"
    with pytest.raises(UserError, match="no srt in this league"):
        plans.plan(["ttrl"], ["add2"], 1, 0, {"srt.lr": 1})
    for stray in ({"lrr": 1}, {"ttrl.lrr": 1}, {"rlvr.agreement": 0.5}):
        with pytest.raises(UserError, match="unknown key"):
            plans.plan(["ttrl"], ["add2"], 1, 0, stray)
    with pytest.raises(UserError, match="did you mean 'ttrl'"):
        plans.plan(["trtl"], ["add2"], 1, 0, {})


def test_a_variant_is_an_entrant_of_its_own():
    variant = "srt:labels=fixed,keep=0.5"
    entries = plans.plan(["srt", variant], ["add2"], 1, 0, {"srt.keep": 0.25, "lr": 1e-4})
    kept = {(e.entrant, e.control): (e.settings["keep"], e.settings.get("labels")) for e in entries if e.recipe == "srt"}
    assert kept == {("srt", c): (0.25, None) for c in ("none", "random", "format")} | {
        (variant, c): ("0.5", "fixed") for c in ("none", "random", "format")
    }
    assert plans.control_of(variant, {"srt", variant}) == variant
    assert entries[-1].folder(Path("out")) == Path("out/add2/srt_labels_fixed,keep_0.5-format/seed-0")
    assert "antaeus run srt " in entries[-1].command and "keep=0.5" in entries[-1].command
    with pytest.raises(UserError, match="srt:lables=fixed: unknown key 'lables'"):
        running.run_all(plans.plan(["srt:lables=fixed"], ["add2"], 1, 0, {}), Path("none"), print, lambda: False)
    with pytest.raises(UserError, match="one_shot_em: prompts=32: .*one_shot_em.key=value"):
        running.run_all(plans.plan(["one_shot_em"], ["add2"], 1, 0, {"prompts": 32}), Path("none"), print, lambda: False)


@pytest.mark.parametrize(("text", "number"), [("200k", 200_000), ("1.5M", 1_500_000), ("200k-tokens", 200_000), ("7", 7)])
def test_budgets(text, number):
    assert plans.tokens(text) == number


@pytest.mark.parametrize("text", ["", "many", "-3", "2G"])
def test_budgets_that_are_none(text):
    with pytest.raises(UserError, match="give a number of tokens"):
        plans.tokens(text)


def test_the_table_is_what_the_runs_hold(folder):
    found = json.loads((folder / "league.json").read_text())["rows"]
    assert {(r["tasks"], r["entrant"]) for r in found} == {(t, r) for t in ("add2", "sub2") for r in ("ttrl", "rlvr")}
    for row in found:
        summary = json.loads((folder / row["tasks"] / row["entrant"] / "seed-0" / "summary.json").read_text())
        assert row["gain"]["difference"] == pytest.approx(summary["exam"]["after"] - summary["exam"]["before"])
        assert row["tokens"] == summary["tokens_sampled"] + summary["tokens_trained"] >= 900
        assert row["decisions"] == [summary["decision"]] and row["other_ability"]["n"] == 12 and row["pass_at_n"]
        assert row["sharpening"].keys() == {"majority_right", "majority_wrong"}
        assert (row["less_control"] is None) == (row["entrant"] == "rlvr")
    spent = {row["entrant"]: row["tokens"] for row in found if row["tasks"] == "add2"}
    assert max(spent.values()) < 900 + 900  # one round more than the budget at most, and none without end


def test_every_row_is_repeated_by_its_command(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("antaeus.loop.refuse_without_signal", lambda *_: None)
    row = next(
        r for r in json.loads((folder / "league.json").read_text())["rows"] if (r["tasks"], r["entrant"]) == ("add2", "rlvr")
    )
    words = row["command"].split()
    assert words[:3] == ["antaeus", "run", "rlvr"]
    api.run(words[2], run_dir=tmp_path / "again", **dict(word.split("=", 1) for word in words[3:]))
    first = folder / "add2/rlvr/seed-0/attempts.jsonl"
    assert (tmp_path / "again/attempts.jsonl").read_bytes() == first.read_bytes()


def test_what_is_there_is_not_run_again_and_what_was_cut_is_carried_on(folder, monkeypatch):
    said = []
    monkeypatch.setattr(api, "run", lambda *_, **__: pytest.fail("ran again"))
    league(["ttrl"], folder, tasks=["add2", "sub2"], seeds=1, budget=900, given=SMALL, say=said.append)
    assert said == []
    (folder / "add2/ttrl/seed-0/summary.json").rename(folder / "kept.json")
    monkeypatch.setattr("antaeus.loop.refuse_without_signal", lambda *_: None)
    league(["ttrl"], folder, tasks=["add2", "sub2"], seeds=1, budget=900, given=SMALL, say=said.append)
    again, kept = (json.loads(path.read_text()) for path in (folder / "add2/ttrl/seed-0/summary.json", folder / "kept.json"))
    assert again["exam"] == kept["exam"] and len(said) == 1 and "1 of 1: add2/ttrl" in said[0]


def test_other_settings_are_not_mixed_in(folder):
    with pytest.raises(UserError, match="another configuration; choose another --out"):
        league(["ttrl"], folder, tasks=["add2", "sub2"], seeds=1, budget=900, given={**SMALL, "lr": 2e-3})


def test_the_page_opens_offline_and_holds_every_row(folder):
    page = (folder / "league.html").read_text()
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "") and page.count("<svg") >= 8
    for row in json.loads((folder / "league.json").read_text())["rows"]:
        assert row["command"] in page


def test_a_recipe_that_cannot_run_is_listed_with_its_reason(tmp_path, cli):
    practice = tmp_path / "p.jsonl"
    practice.write_text("".join(f'{{"prompt": "{n} + 1 =", "answer": "{n + 1}"}}\n' for n in range(40)))
    unlabelled = tmp_path / "u.jsonl"
    unlabelled.write_text("".join(f'{{"prompt": "{n} + 1 ="}}\n' for n in range(40, 60)))
    args = ("--tasks", practice, "--model", "tiny", "--seeds", 1, "--out", tmp_path / "out", f"practice={unlabelled}", "rounds=1")
    code, out, err = cli("compare", "ttrl", *args, "prompts=2", "samples=2", "n_exam=8", "n_anchor=8", "--json")
    found = json.loads(out)
    assert code == 0, err
    assert any("learns from sealed answers" in why for name, why in found["refused"].items() if name.endswith("/rlvr"))


def test_the_command(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("antaeus.loop.refuse_without_signal", lambda *_: None)
    code, out, err = cli("compare", "ttrl:votes=4", "--seeds", 1, "--budget", "500", "--out", tmp_path, *PAIRS)
    assert code == 0 and "first alarm" in " ".join(out.split()) and "league.html" in out, err
    assert "1 of 4: add2/rlvr" in err and "left" in err
    code, out, _ = cli("compare", tmp_path / "add2/ttrl_votes_4/seed-0", tmp_path / "add2/ttrl_votes_4-random/seed-0")
    assert code == 0 and "ttrl" in out  # finished runs, as before


def test_an_interrupted_league_says_how_to_go_on(tmp_path):
    args = [
        sys.executable,
        "-m",
        "antaeus",
        "compare",
        "ttrl",
        "--seeds",
        "1",
        "--out",
        str(tmp_path / "out"),
        "rounds=400",
        *PAIRS,
    ]
    process = subprocess.Popen(args, stderr=subprocess.PIPE, text=True, env=os.environ)
    events = tmp_path / "out/add2/ttrl/seed-0/events.jsonl"  # rlvr is refused: tiny gives no right answer
    while process.poll() is None and not (events.is_file() and len(events.read_bytes().splitlines()) > 2):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Go on with the same command" in err, err


def test_gains_are_of_the_version_that_was_held_against_the_base(tmp_path):
    """Also where that is the base itself, after a last version that was worse."""

    def exam(version, *scores):
        verdicts = [{"verdict": {"score": s, "source": "ground"}} for s in scores]
        return {"set": "exam", "version": version, "task": {"id": "t"}, "attempts": verdicts}

    class Run:
        path = tmp_path

    for order, gain in ((("r004", "base"), 0.0), (("base", "r004"), -0.5)):
        marks = {"base": (1.0, 1.0), "r004": (1.0, 0.0)}
        (tmp_path / "attempts.jsonl").write_text("\n".join(json.dumps(exam(v, *marks[v])) for v in order))
        assert rows.gains([(None, Run())]) == {"t": gain}
        assert rows.gains([(None, Run())], share=max) == {"t": 0.0}


def test_what_the_majority_knew_is_told_from_what_it_did_not(tmp_path):
    """Every second try decides which side a task is on, the others what its accuracy was: here they differ."""

    def exam(version, task, *answers):
        attempts = [{"answer": a, "verdict": {"score": float(a == "7"), "source": "ground"}} for a in answers]
        return {"set": "exam", "version": version, "task": {"id": task}, "attempts": attempts}

    class Run:
        path = tmp_path

    sat = [exam("base", "known", "7", "1", "7", "7", "2", "1"), exam("base", "mistaken", "3", "7", "3", "7", "7", "7")]
    sat += [exam("r004", "known", *"777777"), exam("r004", "mistaken", *"333333")]
    (tmp_path / "attempts.jsonl").write_text("\n".join(json.dumps(record) for record in sat))
    found = rows.sharpening([(None, Run()), (None, Run())])
    assert found["majority_right"]["difference"] == pytest.approx(1 - 1 / 3) and found["majority_right"]["n"] == 1
    assert found["majority_wrong"]["difference"] == -1.0


def test_names_of_files_make_folders_of_their_own():
    entry = plans.Entry("ttrl", "random", 3, "data/a:b.jsonl")
    assert entry.folder(Path("out")) == Path("out/data_a_b.jsonl/ttrl-random/seed-3")
    assert running._place(entry) == "data/a:b.jsonl/ttrl control=random"


# --- the league that is committed

DOCS = Path(__file__).parents[1] / "docs"
RECORDS = sorted((DOCS / "league").glob("*.json"))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_what_is_committed_can_be_repeated_and_is_told_as_it_is(record):
    """Every row's command is one that today's recipes take, its figures stand on the page, and no recipe goes without its control."""
    found, told, page = json.loads(record.read_text()), (DOCS / "league.md").read_text(), record.with_suffix(".html").read_text()
    for row in found["rows"]:
        recipe, *pairs = row["command"].removeprefix("antaeus run ").split()
        configure(recipe, parse_pairs(pairs))
        learns = recipe != plans.REFERENCE and not RECIPES[recipe].inference
        assert row["seeds"] == len(row["each_seed"]) == 3 and bool(row["less_control"]) == learns
        assert row["command"] in page and f"| {' | '.join(cells(row)[1:4])} |" in told


def test_the_committed_league_is_large_enough():
    rows = json.loads((DOCS / "league/recipes.json").read_text())["rows"]
    of = {tasks: {row["entrant"] for row in rows if row["tasks"] == tasks} for tasks in ("add2", "sub2")}
    assert len(of["add2"]) >= 14 and len(of["sub2"]) >= 13
