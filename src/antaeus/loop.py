"""The loop: propose -> solve -> verify -> learn -> guard. Read `improve` from top to bottom; what follows are its words.

Data flows one way inside a round; the only edge back is the version the next round starts from. Every round is a function of the
configuration and the weights it starts from, so a round that was lost can be replayed to the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from antaeus.config import RunConfig
from antaeus.engine.base import Engine, Scores, Trained
from antaeus.errors import UserError
from antaeus.guard import alarms, meters, mitigation
from antaeus.guard.overlap import Fence
from antaeus.guard.trends import trends
from antaeus.recipes.base import Recipe
from antaeus.records import BASE, State, Watch, log, record, restore, save, version_id
from antaeus.sitting import Sealed, conclude, look_at_anchors
from antaeus.solve.rollout import ask
from antaeus.store.run import RunDir
from antaeus.types import Decision, Group, Lesson, Practice, SealBroken, Source, TaskSet, Vault, Verdict
from antaeus.verify import controls
from antaeus.verify.vote import fixed, leading


class Interrupted(Exception):
    """The run was asked to stop; it is saved and can be resumed. The message is its directory."""


def improve(
    config: RunConfig, recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, watch: Watch, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Run `recipe` from where `run` stands to its end and return the summary. Raises `Interrupted` once `stop()` is true."""
    fence = Fence([t for each in (sealed, *sealed.others) for t in (*each.tasks.anchor, *each.tasks.exam)])
    vault = sealed.tasks.practice_vault if recipe.source is Source.GROUND else Vault(Practice, {})
    prompt = engine.render(ask(sealed.tasks.practice[0], engine.chat))
    state = restore(engine, run)
    watch("start", {"prompt": prompt, "round": state.round, "rounds": recipe.rounds})
    if state.best_correct < 0:
        log(run, watch, state, anchor=look_at_anchors(engine, sealed, run, state))

    for round in range(state.round + 1, recipe.rounds + 1):
        began, seed = time.monotonic(), f"{config.seed}/{round}"
        method, tasks = milder(recipe, sealed.tasks, config.mitigation, state)
        practice = method.propose(tasks, round, config.seed)
        groups = method.solve(engine, practice, tasks, seed)
        verdicts = verify(method, groups, vault, seed, state.survey if config.mitigation == "labels" else {})
        verdicts = without_tainted(fence, groups, verdicts)
        if round == 1:
            refuse_without_signal(method, groups, verdicts)
        reference = reference_scores(engine, method, groups)
        lessons = method.learn(groups, verdicts, reference if method.kl else None)
        fence.check(lessons)
        trained = train(engine, method, lessons, round, tasks)

        measured = {**meters.measure(groups, verdicts, reference), "retention": state.registry.retention(engine)}
        state.round = round
        state.history.append({**measured, "round": round})
        measured |= trends(state.history)
        state.tokens_sampled += sum(len(a.ids) for g in groups for a in g.attempts)
        state.tokens_trained += sum(t.tokens for t in trained)
        state.learn_s += time.monotonic() - began
        record(run, round, "practice", state.policy, groups, verdicts)
        state.policy = version_id(round)
        due = round % config.anchor_every == 0 or round == recipe.rounds
        anchor = look_at_anchors(engine, sealed, run, state) if due else None
        ringing = alarms.ringing(state.history, len(groups))
        log(run, watch, state, measured, trained, anchor, method.update(round, tasks).lr, list(ringing.values()))
        if ringing and config.on_alarm != "note" and round < recipe.rounds:
            react(config, method, engine, sealed, run, state, ringing)
        if state.stopped:
            break
        if round < recipe.rounds and (stop() or run.due()):
            save(engine, run, state)
            if stop():
                raise Interrupted(str(run.path))

    return conclude(config, recipe, engine, sealed, run, state, watch, prompt)


# --- the stages' glue ---------------------------------------------------------------------------------------------------


def verify(recipe: Recipe, groups: Sequence[Group], vault: Vault, seed: str, survey: mitigation.Survey) -> list[list[Verdict]]:
    """The recipe's verdicts, its control's, or, after an alarm, those of labels from a fixed version. A recipe may not pass off
    one source of verdicts as another."""
    if recipe.control == "random":
        return [controls.random(group, seed) for group in groups]
    if recipe.control == "format":
        return [controls.format(group) for group in groups]
    verdicts = [fixed(g, survey[g.task.id][0]) for g in groups] if survey else recipe.verify(groups, vault)
    if foreign := {v.source for row in verdicts for v in row} - {recipe.source}:
        raise SealBroken(f"recipe {recipe.name} declares {recipe.source} verdicts and gave {', '.join(foreign)}")
    if recipe.control == "shuffled-labels":
        return [controls.shuffled(row, group, seed) for row, group in zip(verdicts, groups, strict=True)]
    return verdicts


def without_tainted(fence: Fence, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]]) -> list[list[Verdict]]:
    """The verdicts, but none on attempts whose text gives a held-out task away: from these nothing may be learned."""
    tainted = fence.tainted(groups)
    return [
        [
            replace(v, score=None, why=why) if (why := tainted.get((a.task_id, a.index))) else v
            for a, v in zip(g.attempts, row, strict=True)
        ]
        for g, row in zip(groups, verdicts, strict=True)
    ]


def reference_scores(engine: Engine, recipe: Recipe, groups: Sequence[Group]) -> list[list[Scores]]:
    """The base's statistics of every attempt where the recipe has a KL term, else of each group's first ones, for the meters."""
    rows = [group.attempts if recipe.kl else group.attempts[: meters.SCORED] for group in groups]
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


# --- what an alarm changes ----------------------------------------------------------------------------------------------


def react(
    config: RunConfig, recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, state: State, ringing: dict[str, str]
) -> None:
    """End learning, or go back to the best version by anchors and go on with the mitigation chosen."""
    why = "; ".join(ringing.values())
    if config.on_alarm == "stop" or state.rollbacks == mitigation.MOST:
        state.stopped = why
        run.append("decisions.jsonl", Decision("stop", state.best, f"alarm in round {state.round}: {why}", state.history[-1]))
        return
    engine.load(None if state.best == BASE else run.version(state.best))
    state.registry.check(engine, state.best)
    then = f"back to {state.best}, from now on {mitigation.MITIGATIONS[config.mitigation]}"
    run.append(
        "decisions.jsonl", Decision("roll back", state.best, f"alarm in round {state.round}: {why}: {then}", state.history[-1])
    )
    state.rollbacks, state.policy, state.parent = state.rollbacks + 1, state.best, state.best
    state.history = [m for m in state.history if m["round"] <= state.best_round]
    if config.mitigation in ("curriculum", "labels"):
        groups = recipe.solve(engine, sealed.tasks.practice, sealed.tasks, f"{config.seed}/survey/{state.rollbacks}")
        state.survey = {group.task.id: leading(group) for group in groups}


def milder(recipe: Recipe, tasks: TaskSet, how: str, state: State) -> tuple[Recipe, TaskSet]:
    """The recipe and the tasks as the mitigation leaves them, after as many alarms as there were."""
    if state.rollbacks and how == "lr":
        return replace(recipe, lr=recipe.lr * mitigation.CUT**state.rollbacks), tasks
    if state.rollbacks and how == "agreement":
        raised = min(mitigation.HIGHEST, getattr(recipe, how) + mitigation.STEP * state.rollbacks)
        return replace(recipe, **{how: raised}), tasks
    if state.rollbacks and how == "curriculum":
        return recipe, replace(tasks, practice=mitigation.easiest(tasks.practice, state.survey))
    return recipe, tasks
