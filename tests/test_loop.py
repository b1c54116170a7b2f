"""The loop through its real command line on the tiny model, and each promise wired: it breaks if the call is taken out."""

import dataclasses
import json

import pytest
from helpers import lines

import antaeus
from antaeus import loop, records
from antaeus.config import configure
from antaeus.engine.base import Trained
from antaeus.engine.local import LocalEngine
from antaeus.engine.models import resolve
from antaeus.errors import UserError
from antaeus.propose.sets import load
from antaeus.recipes.ttrl import TTRL
from antaeus.sitting import Custody, Sealed, sealing
from antaeus.store.run import RunDir
from antaeus.types import Anchor, Exam, Practice, SealBroken, Source, Verdict

SMALL = (
    "rounds=2",
    "prompts=4",
    "samples=4",
    "anchor_every=1",
    "n_exam=20",
    "n_anchor=10",
    "lr=1e-3",
    "agreement=0",
    "on_alarm=note",
)


def digits(path, n=60, answers=True):
    """Tasks whose answer is any digit: the tiny model, which babbles, is right now and then."""
    rows = [
        {"prompt": f"say {i * 7919 % 1009} once more, friend {i}:", **({"answer": str(i % 10)} if answers else {})}
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.parametrize("control", ["none", "random", "format", "shuffled-labels", "no-op"])
@pytest.mark.parametrize("recipe", ["ttrl", "rlvr"])
def test_two_rounds_of_each_recipe_and_control(cli, tmp_path, recipe, control):
    tasks = digits(tmp_path / "d.jsonl", 200)
    small = (
        "rounds=2",
        "prompts=16",
        "samples=8",
        "anchor_every=1",
        "max_tokens=6",
        "extract=number",
        f"control={control}",
        "on_alarm=note",
    )
    small += ("agreement=0",) if recipe == "ttrl" else ()
    code, out, err = cli("run", recipe, *small, "--model", "tiny", "--tasks", tasks, "--run-dir", tmp_path / "r", "--json")
    assert code == 0, err
    summary = json.loads(out)
    needed = {"recipe", "model", "seed", "rounds", "exam", "anchor_best_round", "decision", "promoted_version", "wall_s"}
    assert needed | {"tokens_sampled", "tokens_trained"} <= summary.keys()
    assert {"n", "before", "after", "ci", "p_value"} <= summary["exam"].keys()
    assert (summary["recipe"], summary["control"], summary["seed"], summary["rounds"]) == (recipe, control, 0, 2)
    events = lines(tmp_path / "r" / "events.jsonl")
    assert [e["round"] for e in events] == [0, 1, 2] and all(e["anchor"] for e in events)
    assert all({"length_slope", "entropy_slope", "surge", "retention"} <= e["meters"].keys() for e in events[1:])
    assert (summary["tokens_trained"] == 0) == (control == "no-op")
    sources = {
        a["verdict"]["source"] for g in lines(tmp_path / "r" / "attempts.jsonl") if g["set"] == "practice" for a in g["attempts"]
    }
    assert sources == {"ground" if recipe == "rlvr" and control in ("none", "no-op") else "self"}
    assert (tmp_path / "r" / "report.html").stat().st_size > 10_000
    assert not list((tmp_path / "r").glob("checkpoint*"))


def small_run(folder, recipe="ttrl", **given):
    """(what `improve` takes) for a small run on the tiny model."""
    settings = dict(pair.split("=") for pair in SMALL)
    run, method = configure(recipe, {"model": "tiny", "tasks": "add2", **settings, **given})
    tasks = load("add2", seed=run.seed, n_exam=run.n_exam, n_anchor=run.n_anchor)
    return run, method, LocalEngine("tiny", dtype="float32", seed=run.seed), tasks, RunDir(folder)


def improve(parts, recipe=None, tasks=None, watch=lambda *_: None, stop=lambda: False):
    run, method, engine, own, folder = parts
    custody = Custody(resolve("tiny"), {"tasks/exam": "x"}, lambda: {"tasks/exam": "x"})
    with sealing(tasks or own, (), run.tries, method.temperature, custody) as sealed:
        return loop.improve(run, recipe or method, engine, sealed, folder, watch, stop)


def weights(run_dir):
    return next(iter(run_dir.glob("versions/r002/*.safetensors"))).read_bytes()


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        improve(small_run(tmp_path / name, seed=seed))
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_practice_and_sittings_draw_with_seeds_of_their_own(tmp_path, monkeypatch):
    """Practice draws anew each round; anchors and exam draw alike for every version, and with no seed that practice ever had."""
    parts, drawn = small_run(tmp_path, tries=2), {Practice: [], Anchor: [], Exam: []}
    kinds = {task.id: type(task) for task in (*parts[3].practice, *parts[3].anchor, *parts[3].exam)}
    sample = LocalEngine.sample

    def noted(self, prompts, how, *, seed):
        drawn[kinds[prompts[0][0]]].append(seed)
        return sample(self, prompts, how, seed=seed)

    monkeypatch.setattr(LocalEngine, "sample", noted)
    improve(parts)
    assert drawn[Practice] == ["0/1", "0/2"] and set(drawn[Anchor]) == set(drawn[Exam]) == {"sitting"}


def test_learning_changes_the_weights_and_no_op_does_not(tmp_path):
    for control in ("none", "no-op"):
        parts = small_run(tmp_path / control, control=control)
        start = {n: p.clone() for n, p in parts[2].model.named_parameters()}
        improve(parts)
        parts[2].load(tmp_path / control / "versions" / "r002")
        moved = any(not p.equal(start[n]) for n, p in parts[2].model.named_parameters())
        assert moved == (control == "none")


def test_the_fence_stands_before_learning(tmp_path):
    """A practice task that is an anchor in disguise stops the run."""
    parts = small_run(tmp_path)
    anchor = parts[3].anchor[0]
    copy = Practice("innocent", f"  {anchor.prompt} ", shots=anchor.shots, completion=True)
    with pytest.raises(SealBroken, match="held-out task"):
        improve(parts, tasks=dataclasses.replace(parts[3], practice=(copy,)))


def test_a_self_taught_recipe_cannot_open_the_vault(tmp_path):
    class Thief(TTRL):
        def verify(self, round, groups):
            round.vault.open(groups[0].task)
            return super().verify(round, groups)

    with pytest.raises(KeyError):
        improve(small_run(tmp_path), recipe=Thief(rounds=1, prompts=2, samples=2, agreement=0.0))


def test_no_recipe_may_open_an_exam(tmp_path):
    class Thief(TTRL):
        source = Source.GROUND

        def verify(self, round, groups):
            round.vault.open(sealed)
            return []

    parts = small_run(tmp_path)
    sealed = parts[3].exam[0]
    with pytest.raises(SealBroken):
        improve(parts, recipe=Thief(rounds=1, prompts=2, samples=2, agreement=0.0))


def test_verdicts_cannot_pose_as_ground_truth(tmp_path):
    class Liar(TTRL):
        def verify(self, round, groups):
            return [[Verdict(float(a.index % 2), Source.GROUND) for a in g.attempts] for g in groups]

    with pytest.raises(SealBroken, match="declares self"):
        improve(small_run(tmp_path), recipe=Liar(rounds=1, prompts=2, samples=2))


def test_a_run_that_cannot_learn_says_so_at_once(cli, tmp_path):
    tasks = digits(tmp_path / "d.jsonl", 60)
    args = ("--model", "tiny", "--tasks", tasks, "--run-dir", tmp_path / "r", "max_tokens=4", "extract=boxed")
    code, _, err = cli("run", "ttrl", *args)
    assert code == 2 and "nothing to learn from" in err and "no answer" in err
    assert not (tmp_path / "r").exists()


def test_best_by_anchors_is_the_version_that_sits_the_exam(tmp_path, monkeypatch):
    """Anchors that fall after round 1 leave r001 as the candidate, with last and best both kept."""
    parts = small_run(tmp_path)
    seen = iter([0.0, 1.0, 0.0])
    real = Sealed.take

    def scripted(self, engine, which, by=None):
        groups, graded = real(self, engine, which)
        if which is self.tasks.anchor:
            score = next(seen)
            graded = [[Verdict(score, Source.GROUND)] for _ in graded]
        return groups, graded

    monkeypatch.setattr(Sealed, "take", scripted)
    summary = improve(parts)
    assert summary["anchor_best_round"] == 1
    assert {p.name for p in (tmp_path / "versions").iterdir() if p.is_dir()} == {"r001", "r002"}
    assert {g["version"] for g in lines(tmp_path / "attempts.jsonl") if g["set"] == "exam"} == {"base", "r001", "r002"}


def test_lora_run_leaves_a_peft_adapter(cli, tmp_path):
    code, _, err = cli("run", "ttrl", *SMALL, "lora=4", "--model", "tiny", "--run-dir", tmp_path / "r")
    assert code == 0, err
    assert (tmp_path / "r/versions/r002/adapter_model.safetensors").exists()
    code, out, err = cli("eval", tmp_path / "r/versions/r002", "add2", "n_exam=10", "--json")
    assert code == 0 and json.loads(out)["n"] == 10, err


def test_python_api_has_the_names_of_the_command_line(tmp_path):
    summary = antaeus.run("ttrl", model="tiny", run_dir=tmp_path / "r", **dict(pair.split("=") for pair in SMALL))
    assert summary["status"] == "finished" and antaeus.resume(tmp_path / "r")["exam"] == json.loads(json.dumps(summary["exam"]))
    assert antaeus.report(tmp_path / "r").name == "report.html"
    assert {"ttrl", "rlvr"} <= set(antaeus.list()) and antaeus.list("ttrl")["rounds"]["low"] == 1
    assert 0 <= antaeus.eval("tiny", "add2", n_exam=10)["accuracy"] <= 1
    with pytest.raises(UserError):
        antaeus.run("nosuch")


def test_dry_run_writes_nothing(cli, tmp_path):
    code, out, _ = cli("run", "ttrl", *SMALL, "--model", "tiny", "--run-dir", tmp_path / "r", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["rendered_prompt"].startswith("22 + 50 = 72\n")
    assert not (tmp_path / "r").exists()


def test_a_gradient_that_is_not_finite_is_an_alarm_and_no_crash(tmp_path):
    run = RunDir(tmp_path)
    lost = [Trained(1.0, 2.0, 0.0, 0.0, 9), Trained(float("nan"), float("inf"), 0.0, 0.0, 9)]
    records.log(run, lambda kind, about: None, records.State(), {}, lost, alarms=["another"])
    records.log(run, lambda kind, about: None, records.State(), {}, lost[:1])
    run.close()
    first, second = lines(tmp_path / "events.jsonl")
    assert first["train"] == {"loss": None, "grad_norm": None, "clip_fraction": 0.0, "kl": 0.0, "lr": 0.0, "steps": 2}
    assert first["alarms"] == ["another", "a gradient was not finite: its step was left out"]
    assert second["train"]["loss"] == 1.0 and second["alarms"] == []


def test_the_recipe_in_contributing_works(tmp_path):
    from pathlib import Path

    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    space: dict = {"__name__": "soft_votes"}
    exec(text.split("```python\n")[1].split("```")[0], space)
    summary = improve(small_run(tmp_path), recipe=space["SoftVotes"](rounds=2, prompts=4, samples=4))
    assert summary["recipe"] == "soft_votes" and summary["tokens_trained"] > 0
