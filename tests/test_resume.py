"""Killed at any instant, a run carried on ends in the same bytes."""

import json
import os
import signal
import subprocess
import sys

import pytest
from helpers import lines, run_cli
from test_loop import SMALL

from antaeus import api
from antaeus.engine.local import LocalEngine
from antaeus.errors import UserError
from antaeus.store import run as store

LONG = {**dict(pair.split("=") for pair in SMALL), "rounds": 6, "model": "tiny", "dtype": "float32"}

KILLED = """
import os, signal, sys
from antaeus import api
from antaeus.engine.local import LocalEngine
from antaeus.store import run as store
store.FIRST_GUESS_S = 0.0          # a checkpoint after every round
store.SHARE = 1e9
at = int(sys.argv[2])
calls = 0
def counted(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call
for name in ("rename", "replace", "fsync"):
    setattr(os, name, counted(getattr(os, name)))
store.RunDir.append = counted(store.RunDir.append)
store.shutil.rmtree = counted(store.shutil.rmtree)
api.run("ttrl", run_dir=sys.argv[1], **{settings})
print("survived", calls)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "r"
    api.run("ttrl", run_dir=folder, **LONG)
    return folder


def final(folder):
    return {p.name: next(p.glob("*.safetensors")).read_bytes() for p in sorted((folder / "versions").iterdir()) if p.is_dir()}


def told(folder):
    """What the logs say, times left out."""
    events = [{k: v for k, v in e.items() if k != "time_s"} for e in lines(folder / "events.jsonl")]
    return events, lines(folder / "attempts.jsonl"), lines(folder / "decisions.jsonl"), lines(folder / "versions/lineage.jsonl")


@pytest.mark.parametrize("at", [9, 63, 118, 190])
def test_kill_nine_at_any_instant(whole, tmp_path, at):
    script = KILLED.replace("{settings}", repr(LONG))
    child = subprocess.run([sys.executable, "-c", script, tmp_path / "r", str(at)], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stdout + child.stderr[-2000:]
    api.resume(tmp_path / "r")
    assert final(tmp_path / "r") == final(whole)
    assert told(tmp_path / "r") == told(whole)


def test_interrupt_saves_and_says_how_to_go_on(whole, tmp_path, capsys, monkeypatch):
    rounds = []

    def press(kind, about):
        if kind == "round":
            rounds.append(about["round"])
            if about["round"] == 3:
                os.kill(os.getpid(), signal.SIGINT)

    from antaeus import show

    monkeypatch.setattr(show.Live, "show", lambda self, kind, about: press(kind, about))
    args = [f"{k}={v}" for k, v in LONG.items()]
    code, _, err = run_cli(capsys, monkeypatch, "run", "ttrl", *args, "--run-dir", tmp_path / "r")
    assert code == 130 and f"antaeus resume {tmp_path / 'r'}" in err
    assert rounds[-1] == 3 and (tmp_path / "r" / "checkpoint.json").exists() and (tmp_path / "r" / "report.html").exists()
    monkeypatch.undo()
    assert run_cli(capsys, monkeypatch, "resume", tmp_path / "r", "--json")[0] == 0
    assert final(tmp_path / "r") == final(whole) and told(tmp_path / "r") == told(whole)


def test_checkpoints_cost_at_most_their_share(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(store.time, "monotonic", lambda: clock[0])
    run, spent = store.RunDir(tmp_path), 0.0

    def slow(folder):
        folder.mkdir()
        clock[0] += 3.0

    while clock[0] < 2000:
        clock[0] += 1.0
        if run.due():
            before = clock[0]
            run.checkpoint({"round": int(clock[0])}, slow, keep="base")
            spent += clock[0] - before
    assert 0.03 < spent / clock[0] <= 0.05


def test_a_damaged_checkpoint_is_one_clear_line_and_nothing_is_lost(tmp_path):
    run = store.RunDir(tmp_path)
    run.append("events.jsonl", {"round": 1})

    def write(folder):
        folder.mkdir()
        (folder / "learner.safetensors").write_bytes(b"x" * 100)

    run.checkpoint({"round": 1}, write, keep="base")
    run.append("events.jsonl", {"round": 2})
    (tmp_path / "checkpoint-000001" / "learner.safetensors").write_bytes(b"y" * 100)
    with pytest.raises(UserError, match=r"learner\.safetensors: the checkpoint is damaged; delete .*checkpoint\.json"):
        run.restore()
    assert len(lines(tmp_path / "events.jsonl")) == 2
    (tmp_path / "checkpoint.json").write_text("{")
    with pytest.raises(UserError, match=r"checkpoint\.json: damaged"):
        run.restore()


def test_two_processes_cannot_share_a_run(tmp_path):
    mine = store.RunDir(tmp_path)
    with pytest.raises(UserError, match="another process"):
        store.RunDir(tmp_path)
    mine.close()
    store.RunDir(tmp_path).close()


def test_tasks_that_changed_since_are_refused(whole, tmp_path):
    import shutil

    shutil.copytree(whole, tmp_path / "r")
    (tmp_path / "r" / "summary.json").unlink()
    sealed = json.loads((tmp_path / "r" / "seals.json").read_text())
    sealed["start"]["tasks/practice"] = "other"
    (tmp_path / "r" / "seals.json").write_text(json.dumps(sealed))
    with pytest.raises(UserError, match="the tasks have changed"):
        api.resume(tmp_path / "r")


def test_whoever_is_interrupted_in_the_exam_learns_nothing_again(whole, tmp_path, monkeypatch):
    """A checkpoint stands behind the last round: its learning may have taken hours, and the exam does."""
    from antaeus import loop

    monkeypatch.setattr(store, "FIRST_GUESS_S", 0.0)
    monkeypatch.setattr(store, "SHARE", 1e9)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "conclude", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        api.run("ttrl", run_dir=tmp_path / "r", **LONG)
    monkeypatch.setattr(LocalEngine, "train", None)
    api.resume(tmp_path / "r")
    assert told(tmp_path / "r") == told(whole) and final(tmp_path / "r") == final(whole)
