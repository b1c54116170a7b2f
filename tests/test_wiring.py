"""Guards that nothing calls protect nobody. For each promise: a whole run that keeps it, and the same run with the guard's call taken
out, in which the promise must be seen to break. `killed = total` is printed, and asserted.

Everything runs through `api.run`, the way a user's run does, on the tiny model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from helpers import lines

from antaeus import api, sitting, steering
from antaeus.errors import UserError
from antaeus.guard import alarms, evidence, forgetting, gate, grader, overlap, seals, service
from antaeus.guard.fingerprint import Registry, WrongWeights
from antaeus.guard.lineage import Lineage
from antaeus.recipes import RECIPES
from antaeus.recipes.ttrl import TTRL
from antaeus.types import Decision, Practice, SealBroken, Source, Verdict
from antaeus.verify import controls

SMALL = {"model": "tiny", "rounds": 2, "prompts": 4, "samples": 4, "anchor_every": 1, "n_exam": 20, "n_anchor": 10, "lr": 1e-3}


@dataclass(frozen=True)
class Promise:
    """`keeps(folder)` makes a run and raises AssertionError if the promise is broken; `without` is where its call stands, and what
    stands there instead."""

    keeps: Callable[[Path, pytest.MonkeyPatch], None]
    without: tuple[object, str, object]


def run(folder: Path, **given: object) -> dict:
    return api.run("ttrl", run_dir=folder / "run", **{**SMALL, "tasks": "add2", "agreement": 0.0, "on_alarm": "note", **given})


PROMISES: dict[str, Promise] = {}


def promise(owner: object, name: str, instead: object) -> Callable[[Callable], Callable]:
    def enter(keeps: Callable) -> Callable:
        PROMISES[keeps.__name__] = Promise(keeps, (owner, name, instead))
        return keeps

    return enter


# --- the gate


@promise(gate, "decide", lambda seen, version, base, *_, **__: Decision("promote", version, "", seen))
def a_version_that_learned_nothing_is_not_promoted(folder, patch):
    assert run(folder, control="no-op")["promoted_version"] == "base"


@promise(evidence, "_only_ground", lambda verdicts: None)
def verdicts_of_the_model_do_not_promote(folder, patch):
    patch.setattr(
        service.ScoreService, "mark", lambda self, groups: [[Verdict(1.0, Source.SELF)] * len(g.attempts) for g in groups]
    )
    with pytest.raises(SealBroken, match="only ground truth"):
        run(folder)


# --- alarms


def ruin(patch):
    """A policy that has forgotten half of what it was sure of."""
    patch.setattr(Registry, "retention", lambda self, engine: 0.5)


@promise(alarms, "ringing", lambda *_, **__: {})
def an_alarm_stops_learning(folder, patch):
    ruin(patch)
    summary = run(folder, on_alarm="stop", rounds=6, anchor_every=6)
    assert summary["status"] == "stopped" and summary["rounds"] < 6 and "lost much of the sureness" in summary["stopped"]
    assert lines(folder / "run/events.jsonl")[-1]["anchor"]  # what rings is looked at, in case it only learned fast


@promise(steering, "react", lambda *_: None)
def an_alarm_rolls_back_to_the_best_version(folder, patch):
    ruin(patch)
    summary = run(folder, on_alarm="rollback", rounds=3, lr=1e-2)
    back = [d for d in lines(folder / "run/decisions.jsonl") if d["action"] == "roll back"]
    assert summary["rollbacks"] >= 1 and back


@promise(steering, "milder", lambda config, recipe, tasks, state: (recipe, tasks))
def after_rolling_back_the_rate_is_lower(folder, patch):
    ruin(patch)
    run(folder, on_alarm="rollback", mitigation="lr", rounds=4, schedule="constant")
    rates = [e["train"]["lr"] for e in lines(folder / "run/events.jsonl") if e["train"]]
    assert rates[-1] < rates[0] / 2


# --- sealed answers and the fence


@promise(service.ScoreService, "seal", lambda self, tasks: tasks)
def no_recipe_finds_a_sealed_answer(folder, patch):
    found = []

    class Thief(TTRL):
        def propose(self, round):
            tasks = round.tasks
            found.extend(t.id for t in (*tasks.anchor, *tasks.exam) if t.id in tasks.anchor_vault or t.id in tasks.exam_vault)
            return super().propose(round)

    patch.setitem(RECIPES, "ttrl", Thief)
    run(folder)
    assert not found


@promise(overlap.Fence, "check", lambda self, lessons: None)
def a_disguised_anchor_is_not_learned_from(folder, patch):
    real = TTRL.propose

    def planted(self, round):
        anchor = round.tasks.anchor[0]
        copy = Practice("innocent", f"  {anchor.prompt} ", shots=anchor.shots, completion=True)
        return [copy, *real(self, round)]

    patch.setattr(TTRL, "propose", planted)
    with pytest.raises(SealBroken, match="held-out task"):
        run(folder)


@promise(overlap.Fence, "tainted", lambda self, groups: {})
def an_attempt_that_recites_an_anchor_teaches_nothing(folder, patch):
    from antaeus import loop as room

    real = TTRL.solve

    def reciting(self, round, practice):
        said = round.tasks.anchor[0].prompt
        return [replace(g, attempts=(replace(g.attempts[0], text=said), *g.attempts[1:])) for g in real(self, round, practice)]

    patch.setattr(TTRL, "solve", reciting)
    patch.setattr(room, "refuse_without_signal", lambda *_: None)
    run(folder)
    groups = [g for g in lines(folder / "run/attempts.jsonl") if g["set"] == "practice"]
    assert all(g["attempts"][0]["verdict"]["score"] is None for g in groups)


# --- controls


@promise(controls, "random", lambda group, seed: [Verdict(float(a.index % 2), Source.SELF) for a in group.attempts])
def the_random_control_hands_out_coins(folder, patch):
    run(folder, control="random")
    assert {v["why"] for v in practice_verdicts(folder)} == {"control: a coin"}


@promise(controls, "shuffled", lambda verdicts, group, seed: list(verdicts))
def the_shuffled_control_parts_verdicts_from_attempts(folder, patch):
    run(folder, control="shuffled-labels")
    assert {v["why"] for v in practice_verdicts(folder)} == {"control: another attempt's verdict"}


def practice_verdicts(folder: Path) -> list[dict]:
    groups = [g for g in lines(folder / "run/attempts.jsonl") if g["set"] == "practice"]
    return [a["verdict"] for g in groups for a in g["attempts"]]


# --- which weights


@promise(Registry, "check", lambda self, engine, version: None)
def stale_weights_do_not_sit_the_exam(folder, patch):
    from antaeus.engine.local import LocalEngine

    real = LocalEngine.load
    patch.setattr(
        LocalEngine, "load", lambda self, where, **how: real(self, None, **how)
    )  # whatever is asked for, the base comes
    with pytest.raises(WrongWeights):
        run(folder, lr=1e-2)


# --- nothing changes under the run


def edited(name):
    """A seal that is another one every time it is taken."""
    count = iter(range(9))
    real = seals.seals
    return lambda *given, **more: {**real(*given, **more), name: str(next(count))}


@promise(seals, "broken", lambda before, after: [])
def a_grader_edited_during_the_run_decides_nothing(folder, patch):
    patch.setattr(seals, "seals", edited("grader/answers/find.py"))
    promoting(patch)
    summary = run(folder)
    assert summary["decision"] == "undecided" and "decides right and wrong" in summary["why"]


def promoting(patch):
    """A gate that would promote anything: what stands behind it must hold."""
    patch.setattr(gate, "decide", lambda seen, version, base, *_, **__: Decision("promote", version, "", dict(seen)))


@promise(sitting, "unsteady", lambda *_: [])
def a_grader_that_changes_its_mind_decides_nothing(folder, patch):
    turns = iter(range(10**9))
    real = service.ScoreService.mark

    def moody(self, groups):
        return [[replace(v, score=float(next(turns) % 3 == 0)) for v in row] for row in real(self, groups)]

    patch.setattr(service.ScoreService, "mark", moody)
    assert "different scores" in run(folder, rounds=3)["why"]


@promise(sitting.descent, "weights_hash", lambda folder: "the same")
def weights_edited_on_the_disk_do_not_sit_the_exam(folder, patch):
    real = sitting.sit

    def tampered(recipe, engine, sealed, run, state, watch, level):
        for file in run.path.glob("versions/r*/model.safetensors"):
            data = bytearray(file.read_bytes())
            data[-1] ^= 1  # a bit of the last weight: no probe could see it
            file.write_bytes(data)
        return real(recipe, engine, sealed, run, state, watch, level)

    patch.setattr(sitting, "sit", tampered)
    with pytest.raises(WrongWeights, match="changed while the run lasted"):
        run(folder)


# --- what was known


@promise(forgetting, "harm", lambda *_: "")
def a_merge_that_harms_what_was_known_is_undone(folder, patch):
    """Everything is right until the first merge, nothing after it: no version may stay, and the policy is the base to the bit."""
    questions = [{"question": f"What is known of {i}?", "answer": "number"} for i in range(12)]
    rows = [{"title": f"T{n}", "context": f"Of number {n} nothing is known.", "questions": questions} for n in range(2)]
    folder.mkdir(exist_ok=True)
    (folder / "passages.json").write_text(json.dumps(rows), encoding="utf-8")
    looks, left = iter([1.0]), []

    def mark(self, groups):
        score = next(looks, 0.0)
        return [[Verdict(score, Source.GROUND)] for _ in groups]

    patch.setattr(service.ScoreService, "mark", mark)
    patch.setattr("antaeus.loop.conclude", lambda *given: left.append((engine_moved(given[2]), given[5].refused)) or {})
    api.run(
        "continual", run_dir=folder / "run", tasks=str(folder / "passages.json"), model="tiny", dtype="float32", rounds=2, edit_tokens=8,
        epochs=1, anchor_every=9, keep="merge",
    )  # fmt: skip
    assert left == [(False, ["r001", "r002"])]
    assert all("6 are answered worse than they were known" in d["why"] for d in lines(folder / "run/decisions.jsonl"))


# --- other abilities, and a lineage


@promise(sitting.Sealed, "abilities", property(lambda self: (self,)))
def a_version_that_loses_another_ability_is_not_promoted(folder, patch):
    real = sitting.Sealed.take

    def scripted(self, engine, which, by=None):
        groups, rows = real(self, engine, which)
        taught = engine_moved(engine)
        score = float(taught) if self.tasks.name == "add2" else float(not taught)  # learns the one, forgets the other
        return groups, [[Verdict(score, Source.GROUND) for _ in row] for row in rows]

    patch.setattr(sitting.Sealed, "take", scripted)
    summary = run(folder, also="sub2")
    assert summary["decision"] == "reject" and "another ability fell: sub2" in summary["why"]


def engine_moved(engine) -> bool:
    return any(not p.equal(engine._reference[n].to(p.dtype)) for n, p in engine._trainable.items())


@promise(Lineage, "open", lambda self, proposal: gate.ALPHA)
def every_opening_of_a_lineages_exam_is_on_its_ledger(folder, patch):
    patch.setattr(Lineage, "enter", lambda self, proposal, decision: decision)
    run(folder, lineage=str(folder / "lineage"))
    kinds = [e["kind"] for e in lines(folder / "lineage/ledger.jsonl")] if (folder / "lineage/ledger.jsonl").exists() else []
    assert "opened" in kinds


@promise(Lineage, "refusal", lambda self, proposal: None)
def a_lineage_whose_budget_is_spent_opens_no_exam(folder, patch):
    run(folder / "first", lineage=str(folder / "lineage"), proposals=1)
    with pytest.raises(UserError, match="budget"):
        run(folder / "second", lineage=str(folder / "lineage"), proposals=1, seed=1)
    assert not (folder / "second/run/attempts.jsonl").exists()


@promise(grader, "quick", lambda *_: ())
def a_grader_that_pays_for_junk_is_found_before_the_run(folder, patch):
    patch.setattr("antaeus.verify.ground.judge", lambda *, gold, answer: True)
    with pytest.raises(UserError, match="its grader accepts"):
        run(folder)


# --- the suite


@pytest.mark.parametrize("name", PROMISES)
def test_the_promise_is_kept(name, tmp_path, monkeypatch):
    PROMISES[name].keeps(tmp_path, monkeypatch)


def test_each_promise_breaks_without_its_call(tmp_path, record_property):
    killed = {name: breaks(promise, tmp_path / name) for name, promise in PROMISES.items()}
    record_property("told", f"wiring: {sum(killed.values())} of {len(killed)} removed guard calls were noticed")
    assert all(killed.values()), [name for name, noticed in killed.items() if not noticed]


def breaks(broken: Promise, folder: Path) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*broken.without)
        try:
            broken.keeps(folder, patch)
        except (AssertionError, pytest.fail.Exception):
            return True
    return False
