"""The gentler settings that every recipe shares: each changes what it says, in a whole run, and leaves a trace."""

import pytest
from helpers import lines

from antaeus import api, loop
from antaeus.engine.local import LocalEngine
from antaeus.errors import UserError

SMALL = {
    "model": "tiny", "tasks": "add2", "rounds": 4, "prompts": 4, "samples": 4, "anchor_every": 1, "n_practice": 12, "n_anchor": 8,
    "n_exam": 12, "lr": 1e-3, "agreement": 0.0, "on_alarm": "note",
}  # fmt: skip


@pytest.fixture(autouse=True)
def a_model_that_knows_nothing_may_learn_nothing(monkeypatch):
    monkeypatch.setattr(loop, "refuse_without_signal", lambda *_: None)


def run(folder, **given):
    return api.run("ttrl", run_dir=folder / "run", **{**SMALL, **given})


def groups(folder, which):
    return [g for g in lines(folder / "run/attempts.jsonl") if g["set"] == which]


def test_labels_of_the_base_stay(tmp_path):
    run(tmp_path, labels="fixed", rounds=2)
    asked = groups(tmp_path, "survey")
    assert len(asked) == 12 and {g["version"] for g in asked} == {"base"} and {g["round"] for g in asked} == {1}
    whys = {a["verdict"]["why"] for g in groups(tmp_path, "practice") for a in g["attempts"]}
    assert whys <= {"compared with a fixed label", "no label"}
    assert not [f for f in api.audit(tmp_path / "run") if f.severity == "fatal"]


@pytest.mark.parametrize("curriculum", ["agreement", "pass_rate"])
def test_only_the_easiest_third_is_practised(tmp_path, curriculum):
    run(tmp_path, curriculum=curriculum)
    assert len({g["task"]["id"] for g in groups(tmp_path, "practice")}) == 4


def test_a_pass_rate_needs_answers(tmp_path):
    rows = "".join(f'{{"prompt": "{n} + 1 ="}}\n' for n in range(12))
    (tmp_path / "p.jsonl").write_text(rows)
    with pytest.raises(UserError, match="have no answer.*curriculum=agreement"):
        run(tmp_path, practice=str(tmp_path / "p.jsonl"), curriculum="pass_rate")


def test_learning_ends_with_the_budget_and_with_patience(tmp_path):
    whole = run(tmp_path / "whole")
    cut = run(tmp_path / "cut", budget=1)
    assert (whole["rounds"], cut["rounds"], cut["status"]) == (4, 1, "finished")
    impatient = run(tmp_path / "impatient", control="no-op", patience=2)
    assert impatient["rounds"] == 4  # no worse is good enough: an equal version is the better one


def test_the_rate_falls_with_the_budget(tmp_path):
    run(tmp_path, rounds=1000, budget=1200, schedule="linear", anchor_every=100)
    events = lines(tmp_path / "run/events.jsonl")
    spent = [(e["tokens_sampled"] + e["tokens_trained"]) / 1200 for e in events]
    rates = [e["train"]["lr"] for e in events[1:]]
    assert rates == pytest.approx([1e-3 * (1 - before) for before in spent[:-1]]) and len(rates) > 2
    assert spent[-2] < 1 <= spent[-1] and events[-1]["anchor"]  # the last version is looked at, whenever it comes


def test_patience_ends(tmp_path, monkeypatch):
    from antaeus import sitting

    scores = iter([5, 4, 3, 2, 1, 0])
    real = sitting.gate.tally
    monkeypatch.setattr(sitting.gate, "tally", lambda rows: {**real(rows), "correct": next(scores, 0)})
    assert "no better in 2 looks" in run(tmp_path, patience=2)["stopped"]


@pytest.mark.parametrize(("reference", "moves"), [("base", []), ("average", [0.5] * 4), ("reset", [1.0] * 2)])
def test_what_a_kl_term_is_measured_to(tmp_path, monkeypatch, reference, moves):
    shares, asked, real = [], [], LocalEngine.score
    monkeypatch.setattr(LocalEngine, "follow", lambda self, share: shares.append(share))

    def score(self, attempts, *, weights="policy", temperature=1.0):
        asked.append(weights)
        return real(self, attempts, weights=weights, temperature=temperature)

    monkeypatch.setattr(LocalEngine, "score", score)
    run(tmp_path, reference=reference, reference_rounds=2, kl=0.1)
    assert shares == moves and ("average" in asked) == (reference != "base")


def test_a_run_with_an_average_is_resumed_to_the_same_bytes(tmp_path):
    from antaeus.loop import Interrupted

    given = {"reference": "average", "kl": 0.5, "curriculum": "agreement", "labels": "fixed"}
    run(tmp_path / "whole", **given)
    done = []
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", **given, watch=lambda kind, about: done.append(kind), interrupt=lambda: done.count("round") > 2)
    api.resume(tmp_path / "cut/run")
    for name in ("attempts.jsonl", "versions/r004/model.safetensors"):
        assert (tmp_path / "whole/run" / name).read_bytes() == (tmp_path / "cut/run" / name).read_bytes(), name


def test_norms_alone_are_trained_and_examined(tmp_path):
    summary = run(tmp_path, part="norms", lr=1e-2)
    assert summary["tokens_trained"] > 0 and (tmp_path / "run/versions/r004/model.safetensors").exists()
