"""After an alarm: back to the best version, and on with each mitigation, to the same bytes whether or not the run was interrupted."""

import pytest
from helpers import lines

from antaeus import api
from antaeus.guard import alarms
from antaeus.loop import Interrupted

HOW = {
    "model": "tiny", "tasks": "add2", "rounds": 5, "prompts": 4, "samples": 4, "anchor_every": 1, "n_practice": 12, "n_anchor": 8,
    "n_exam": 12, "lr": 1e-3, "schedule": "constant", "agreement": 0.0, "on_alarm": "rollback",
}  # fmt: skip
AT = 3  # the round in which an alarm rings, once


@pytest.fixture(autouse=True)
def one_alarm(monkeypatch):
    monkeypatch.setattr(alarms, "ringing", lambda history, *_, **__: {"made": "made up"} if history[-1]["round"] == AT else {})


def run(folder, mitigation, **given):
    return api.run("ttrl", run_dir=folder / "run", mitigation=mitigation, **{**HOW, **given})


def practice(folder, after):
    groups = [g for g in lines(folder / "run/attempts.jsonl") if g["set"] == "practice"]
    return [g for g in groups if (g["round"] > AT) == after]


@pytest.mark.parametrize("mitigation", ["lr", "agreement", "curriculum", "labels"])
def test_a_run_goes_on_from_its_best_version(tmp_path, mitigation):
    summary = run(tmp_path, mitigation)
    back, final = lines(tmp_path / "run/decisions.jsonl")
    assert (summary["status"], summary["rollbacks"], summary["rounds"]) == ("finished", 1, 5)
    assert back["action"] == "roll back" and "made up" in back["why"] and final["action"] == summary["decision"]
    events = lines(tmp_path / "run/events.jsonl")
    best = max((e for e in events if e["round"] <= AT), key=lambda e: (e["anchor"]["correct"], e["round"]))["round"]
    name = f"r{best:03d}" if best else "base"
    assert back["version"] == name
    sampled_by = {g["round"]: g["version"] for g in practice(tmp_path, True)}
    assert sampled_by == {4: name, 5: "r004"}  # and not by the version that was left
    parents = {v["id"]: v["parent"] for v in lines(tmp_path / "run/versions/lineage.jsonl")}
    assert all(parent == name for version, parent in parents.items() if version > f"r{AT:03d}")


def test_a_lower_rate(tmp_path):
    run(tmp_path, "lr")
    rates = {e["round"]: e["train"]["lr"] for e in lines(tmp_path / "run/events.jsonl") if e["train"]}
    assert rates[AT] == pytest.approx(1e-3) and rates[AT + 1] == pytest.approx(1e-3 / 3)


def test_a_higher_threshold_lets_fewer_majorities_teach(tmp_path):
    run(tmp_path, "agreement", agreement=0.25)
    for after, needed in ((False, 0.25), (True, 0.45)):
        verdicts = [g["attempts"][0]["verdict"] for g in practice(tmp_path, after)]
        assert all((v["score"] is None) == (0 < v["parts"]["majority"] < needed) for v in verdicts)


def test_an_easier_curriculum(tmp_path):
    run(tmp_path, "curriculum")
    rounds = [{g["task"]["id"] for g in practice(tmp_path, True) if g["round"] == r} for r in (4, 5)]
    assert rounds[0] == rounds[1] and len(rounds[0]) == 4  # a third of twelve, all of it each round
    assert len({g["task"]["id"] for g in practice(tmp_path, False)}) == 12


def test_labels_of_the_best_version(tmp_path):
    run(tmp_path, "labels")
    whys = {after: {a["verdict"]["why"] for g in practice(tmp_path, after) for a in g["attempts"]} for after in (False, True)}
    assert whys[True] <= {"compared with a fixed label", "no label"} and not whys[True] & whys[False]


@pytest.mark.parametrize("mitigation", ["lr", "labels"])
def test_interrupted_after_rolling_back_ends_in_the_same_bytes(tmp_path, mitigation):
    run(tmp_path / "whole", mitigation)
    done = []
    with pytest.raises(Interrupted):
        run(
            tmp_path / "cut",
            mitigation,
            watch=lambda kind, about: done.append(kind),
            interrupt=lambda: done.count("round") > AT + 1,
        )
    api.resume(tmp_path / "cut/run")
    for name in ("attempts.jsonl", "decisions.jsonl", "versions/r005/model.safetensors", "versions/sha256.jsonl"):
        assert (tmp_path / "whole/run" / name).read_bytes() == (tmp_path / "cut/run" / name).read_bytes(), name


def test_a_rolled_back_run_stands_an_audit(tmp_path):
    run(tmp_path, "curriculum")
    assert not [f for f in api.audit(tmp_path / "run") if f.severity == "fatal"]


def test_a_checkpoint_of_other_weights_is_not_carried_on(tmp_path, monkeypatch):
    from antaeus.engine.local import LocalEngine
    from antaeus.guard.fingerprint import WrongWeights

    done = []
    with pytest.raises(Interrupted):
        run(tmp_path, "lr", lr=1e-2, watch=lambda kind, about: done.append(kind), interrupt=lambda: done.count("round") > 2)
    monkeypatch.setattr(LocalEngine, "load", lambda *_, **__: None)  # the base stays
    with pytest.raises(WrongWeights):
        api.resume(tmp_path / "run")
