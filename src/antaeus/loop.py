"""The loop: propose -> solve -> verify -> learn -> guard. Read `improve` from top to bottom; what follows are its words.

Data flows one way inside a round; the only edge back is the version the next round starts from. Every round is a function of the
configuration and the weights it starts from, so a round that was lost can be replayed to the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from antaeus.config import RunConfig
from antaeus.engine.base import Engine, Sampling, Scores, Trained
from antaeus.errors import UserError
from antaeus.guard import gate, meters
from antaeus.guard.overlap import Fence
from antaeus.recipes.base import Recipe
from antaeus.solve.rollout import ask, rollout
from antaeus.store.run import RunDir
from antaeus.types import Anchor, Decision, Exam, Group, Lesson, Practice, SealBroken, Source, TaskSet, Vault, Verdict, Version
from antaeus.verify import controls
from antaeus.verify.ground import ground

BASE = "base"
Watch = Callable[[str, Mapping[str, Any]], None]
"""Told what happens: ("start" | "round" | "exam" | "end", what there is to say)."""


class Interrupted(Exception):
    """The run was asked to stop; it is saved and can be resumed. The message is its directory."""


@dataclass
class State:
    """What the next round depends on, beside the learner's own state."""

    round: int = 0
    best: str = BASE
    best_round: int = 0
    best_correct: int = -1
    tokens_sampled: int = 0
    tokens_trained: int = 0
    learn_s: float = 0.0


def improve(
    config: RunConfig, recipe: Recipe, engine: Engine, tasks: TaskSet, run: RunDir, watch: Watch, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Run `recipe` from where `run` stands to its end and return the summary. Raises `Interrupted` once `stop()` is true."""
    fence = Fence([*tasks.anchor, *tasks.exam])
    vault = tasks.practice_vault if recipe.source is Source.GROUND else Vault(Practice, {})
    prompt = engine.render(ask(tasks.practice[0], engine.chat))
    state = restore(engine, run)
    watch("start", {"prompt": prompt, "round": state.round, "rounds": recipe.rounds})
    if state.best_correct < 0:
        log(run, watch, state, anchor=look_at_anchors(engine, tasks, run, state))

    for round in range(state.round + 1, recipe.rounds + 1):
        began, seed = time.monotonic(), f"{config.seed}/{round}"
        practice = recipe.propose(tasks, round, config.seed)
        groups = recipe.solve(engine, practice, tasks, seed)
        verdicts = verify(recipe, groups, vault, seed)
        if round == 1:
            refuse_without_signal(recipe, groups, verdicts)
        reference = reference_scores(engine, recipe, groups)
        lessons = recipe.learn(groups, verdicts, reference if recipe.kl else None)
        fence.check(lessons)
        trained = train(engine, recipe, lessons, round, tasks)

        measured = meters.measure(groups, verdicts, [row[0] for row in reference])
        state.round = round
        state.tokens_sampled += sum(len(a.ids) for g in groups for a in g.attempts)
        state.tokens_trained += sum(t.tokens for t in trained)
        state.learn_s += time.monotonic() - began
        record(run, round, "practice", version_id(round - 1), groups, verdicts)
        due = round % config.anchor_every == 0 or round == recipe.rounds
        anchor = look_at_anchors(engine, tasks, run, state) if due else None
        ringing = meters.alarms(measured, len(groups))
        log(run, watch, state, measured, trained, anchor, recipe.update(round, tasks).lr, ringing)
        if round < recipe.rounds and (stop() or run.due()):
            save(engine, run, state)
            if stop():
                raise Interrupted(str(run.path))

    return conclude(config, recipe, engine, tasks, run, state, watch, prompt)


# --- the stages' glue ---------------------------------------------------------------------------------------------------


def verify(recipe: Recipe, groups: Sequence[Group], vault: Vault, seed: str) -> list[list[Verdict]]:
    """The recipe's verdicts, or its control's. A recipe may not pass off one source of verdicts as another."""
    if recipe.control == "random":
        return [controls.random(group, seed) for group in groups]
    if recipe.control == "format":
        return [controls.format(group) for group in groups]
    verdicts = recipe.verify(groups, vault)
    if foreign := {v.source for row in verdicts for v in row} - {recipe.source}:
        raise SealBroken(f"recipe {recipe.name} declares {recipe.source} verdicts and gave {', '.join(foreign)}")
    return verdicts


def reference_scores(engine: Engine, recipe: Recipe, groups: Sequence[Group]) -> list[list[Scores]]:
    """The base's statistics of every attempt where the recipe has a KL term, else of each group's first, for the meter."""
    rows = [group.attempts if recipe.kl else group.attempts[:1] for group in groups]
    flat = iter(engine.score([a for row in rows for a in row], weights="reference", temperature=recipe.temperature))
    return [[next(flat) for _ in row] for row in rows]


def train(engine: Engine, recipe: Recipe, lessons: Sequence[Lesson], round: int, tasks: TaskSet) -> list[Trained]:
    """The round's optimiser steps, each on the lessons of its share of the prompts."""
    if recipe.control == "no-op" or not lessons:
        return []
    how = recipe.update(round, tasks)
    prompts = list(dict.fromkeys(lesson.task.id for lesson in lessons))
    shares = [set(prompts[i :: recipe.updates]) for i in range(min(recipe.updates, len(prompts)))]
    return [engine.train([lesson for lesson in lessons if lesson.task.id in share], how) for share in shares]


def refuse_without_signal(recipe: Recipe, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]]) -> None:
    """Before an hour is wasted: a first round in which no group has two different scores cannot teach."""
    if recipe.control != "none" or not all(meters.unanimous(row) for row in verdicts):
        return
    silent, total = sum(a.answer is None for g in groups for a in g.attempts), sum(len(g.attempts) for g in groups)
    unsure = sum(all(v.score is None for v in row) for row in verdicts)
    raise UserError(
        f"nothing to learn from: in the first round no prompt has attempts with different scores ({len(groups) - unsure} prompts are "
        f"unanimous, {unsure} got no verdict: {verdicts[0][0].why}; {silent} of {total} attempts have no answer; the first reads "
        f"{groups[0].attempts[0].text[:60]!r}); check prompt format and max_tokens, or raise samples or lower agreement"
    )


# --- the guard's part ---------------------------------------------------------------------------------------------------


def take(engine: Engine, which: Sequence[Anchor | Exam], vault: Vault, tasks: TaskSet) -> tuple[list[Group], list[Verdict]]:
    """Greedy attempts at sealed tasks, one each, and ground truth's verdicts on them."""
    how = Sampling(n=1, max_tokens=tasks.max_tokens, temperature=0.0, stop=tasks.stop)
    groups = rollout(engine, which, how, seed="greedy", read=tasks.extract)
    return groups, [ground(group, vault)[0] for group in groups]


def look_at_anchors(engine: Engine, tasks: TaskSet, run: RunDir, state: State) -> dict[str, Any]:
    """Measure the policy on the anchors; where no earlier look was better, it is the best and saved (a later version has learned more)."""
    groups, verdicts = take(engine, tasks.anchor, tasks.anchor_vault, tasks)
    name = version_id(state.round)
    record(run, state.round, "anchor", name, groups, [[v] for v in verdicts])
    result = gate.tally(verdicts)
    if result["correct"] >= state.best_correct:
        state.best, state.best_round, state.best_correct = name, state.round, result["correct"]
        keep(engine, run, state.round)
    return result


def conclude(
    config: RunConfig, recipe: Recipe, engine: Engine, tasks: TaskSet, run: RunDir, state: State, watch: Watch, prompt: str
) -> dict[str, Any]:
    """Open the exam, once: base, best and last version; decide; write the summary."""
    last = version_id(recipe.rounds)
    if last != state.best:
        keep(engine, run, recipe.rounds)
    results = {name: exam(engine, tasks, run, name, recipe.rounds, watch) for name in sorted({BASE, last}) if name != state.best}
    results[state.best] = exam(engine, tasks, run, state.best, recipe.rounds, watch)
    evidence = gate.compare(results[BASE], results[state.best])
    decision = gate.decide(evidence, state.best, BASE)
    run.append("decisions.jsonl", decision)
    summary = summarise(config, recipe, state, tasks, decision, gate.tally(results[last]), prompt)
    run.finish(summary, {state.best, last})
    watch("end", summary)
    return summary


def exam(engine: Engine, tasks: TaskSet, run: RunDir, name: str, round: int, watch: Watch) -> list[Verdict]:
    watch("exam", {"version": name})
    engine.load(None if name == BASE else run.version(name))
    groups, verdicts = take(engine, tasks.exam, tasks.exam_vault, tasks)
    record(run, round, "exam", name, groups, [[v] for v in verdicts])
    return verdicts


def summarise(
    config: RunConfig, recipe: Recipe, state: State, tasks: TaskSet, decision: Decision, last: Mapping[str, Any], prompt: str
) -> dict[str, Any]:
    return {
        "status": "finished",
        "recipe": recipe.name, "control": recipe.control, "source": recipe.source, "model": config.model, "tasks": tasks.name,
        "seed": config.seed, "rounds": recipe.rounds,
        "exam": {**decision.evidence, "last": last["accuracy"], "last_ci": last["ci"]},
        "anchor_best_round": state.best_round, "decision": decision.action, "why": decision.why, "promoted_version": decision.version,
        "wall_s": None, "learn_s": round_s(state.learn_s),
        "tokens_sampled": state.tokens_sampled, "tokens_trained": state.tokens_trained, "rendered_prompt": prompt,
    }  # fmt: skip


# --- records ------------------------------------------------------------------------------------------------------------


def version_id(round: int) -> str:
    return f"r{round:03d}" if round else BASE


def keep(engine: Engine, run: RunDir, round: int) -> None:
    """Save the policy as a version; the base is where it came from and is only entered in the lineage."""
    name = version_id(round)
    version = Version(name, BASE if round else None, engine.kind, round, f"versions/{name}" if round else None)
    run.add_version(version, engine.save)


def record(
    run: RunDir, round: int, which: str, version: str, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]]
) -> None:
    for group, row in zip(groups, verdicts, strict=True):
        attempts = [
            {"index": a.index, "text": a.text, "answer": a.answer, "stop": a.stop, "tokens": len(a.ids), "verdict": v}
            for a, v in zip(group.attempts, row, strict=True)
        ]
        run.append("attempts.jsonl", {"round": round, "set": which, "version": version, "task": group.task, "attempts": attempts})


def log(
    run: RunDir, watch: Watch, state: State, measured: Mapping[str, float] | None = None, trained: Sequence[Trained] = (),
    anchor: Mapping[str, Any] | None = None, lr: float = 0.0, alarms: Sequence[str] = (),
) -> None:  # fmt: skip
    """One line of events.jsonl. Of several updates in a round, the last one's norm and the means of the rest. A loss or norm that
    is not finite, after which the engine leaves the step out, is None and an alarm."""
    mean = {k: sum(getattr(t, k) for t in trained) / len(trained) for k in ("loss", "clip_fraction", "kl")} if trained else None
    update = {**mean, "grad_norm": trained[-1].grad_norm, "lr": lr} if mean else {}
    finite = {k: v if math.isfinite(v) else None for k, v in update.items()}
    lost = ["a gradient was not finite: its step was left out"] if None in finite.values() else []
    event = {
        "round": state.round,
        "time_s": round_s(state.learn_s),
        "meters": measured,
        "train": finite or None,
        "anchor": anchor,
        "tokens_sampled": state.tokens_sampled,
        "tokens_trained": state.tokens_trained,
        "alarms": [*alarms, *lost],
    }
    run.append("events.jsonl", event)
    watch("round", event)


def restore(engine: Engine, run: RunDir) -> State:
    found = run.restore()
    if found is None:
        return State()
    state, folder = found
    engine.load(folder, resumable=True)
    return State(**state)


def save(engine: Engine, run: RunDir, state: State) -> None:
    run.checkpoint(asdict(state), lambda folder: engine.save(folder, resumable=True), keep=state.best)


def round_s(seconds: float) -> float:
    return round(seconds, 2)
