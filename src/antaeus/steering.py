"""What turns a run off its straight way: gentler settings that the user asked for, an alarm, the end of budget or patience."""

from __future__ import annotations

from dataclasses import replace

from antaeus.config import RunConfig
from antaeus.engine.base import Engine
from antaeus.errors import UserError
from antaeus.guard import mitigation
from antaeus.recipes.base import Recipe
from antaeus.recipes.round import Round
from antaeus.records import BASE, State, record, version_id
from antaeus.sitting import Sealed
from antaeus.store.run import RunDir
from antaeus.types import Decision, Source, TaskSet, Verdict
from antaeus.verify.ground import ground
from antaeus.verify.vote import leading


def begin(config: RunConfig, recipe: Recipe, engine: Engine, tasks: TaskSet, run: RunDir, state: State) -> None:
    """Before the first round: ask the base about all practice tasks, where its labels or a curriculum are wanted."""
    if config.labels == "fixed" or config.curriculum != "all":
        state.survey = survey(config, recipe, engine, tasks, run, state)


def survey(
    config: RunConfig, recipe: Recipe, engine: Engine, tasks: TaskSet, run: RunDir, state: State
) -> dict[str, tuple[str | None, float]]:
    """The policy's majority answer to each practice task with its share of the votes; for the curriculum by pass rate, the share of
    right answers instead, which takes practice tasks with answers (SRT, 2505.21444, section 5)."""
    asking = Round(-state.round, config.seed, engine, tasks)  # no round of learning draws its numbers
    groups = recipe.solve(asking, tasks.practice)
    state.tokens_sampled += sum(a.cost for g in groups for a in g.attempts)
    asked = [[Verdict(None, Source.SELF, "asked for its majority")] * len(g.attempts) for g in groups]
    record(run, state.round + 1, "survey", state.policy, groups, asked)
    groups = [group for group in groups if not group.task.about]
    found = {group.task.id: leading(group) for group in groups}
    if config.curriculum != "pass_rate":
        return found
    if without := [t.id for t in tasks.practice if t.id not in tasks.practice_vault]:
        raise UserError(
            f"curriculum=pass_rate: {len(without)} practice tasks have no answer (first: {without[0]!r}); take curriculum=agreement"
        )
    right = {g.task.id: sum(v.score or 0.0 for v in ground(g, tasks.practice_vault)) / len(g.attempts) for g in groups}
    return {task: (answer, right[task]) for task, (answer, _) in found.items()}


def labels(config: RunConfig, state: State) -> mitigation.Survey:
    """The labels of a fixed version, where these are to be compared with instead of the learner's own votes."""
    wanted = config.labels == "fixed" or (config.mitigation == "labels" and state.rollbacks)
    return state.survey if wanted else {}


def milder(config: RunConfig, recipe: Recipe, tasks: TaskSet, state: State) -> tuple[Recipe, TaskSet]:
    """The recipe and the tasks as curriculum and mitigation leave them, after as many alarms as there were."""
    how = config.mitigation if state.rollbacks else ""
    if how == "lr":
        recipe = replace(recipe, lr=recipe.lr * mitigation.CUT**state.rollbacks)
    if how == "agreement":
        raised = min(mitigation.HIGHEST, getattr(recipe, how) + mitigation.STEP * state.rollbacks)
        recipe = replace(recipe, **{how: raised})
    if how == "curriculum" or config.curriculum != "all":
        tasks = replace(tasks, practice=mitigation.easiest(tasks.practice, state.survey))
    return recipe, tasks


def follow(config: RunConfig, engine: Engine, round: int) -> None:
    """Move the KL term's reference after a round, where it is not the base."""
    if config.reference == "average":
        engine.follow(1 / config.reference_rounds)
    if config.reference == "reset" and round % config.reference_rounds == 0:
        engine.follow(1.0)


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
    if config.reference != "base":
        engine.follow(1.0)
    then = f"back to {state.best}, from now on {mitigation.MITIGATIONS[config.mitigation]}"
    run.append(
        "decisions.jsonl", Decision("roll back", state.best, f"alarm in round {state.round}: {why}: {then}", state.history[-1])
    )
    state.rollbacks, state.policy, state.parent = state.rollbacks + 1, state.best, state.best
    state.history = [m for m in state.history if m["round"] <= state.best_round]
    state.known = dict(state.known_best)
    state.refused += [version_id(n) for n in range(state.best_round + 1, state.round + 1) if version_id(n) not in state.refused]
    if config.mitigation in ("curriculum", "labels"):
        state.survey = survey(config, recipe, engine, sealed.tasks, run, state)


def done(config: RunConfig, recipe: Recipe, state: State) -> float:
    """The share of learning that lies behind: of the budget where there is one, or of the rounds."""
    spent = (state.tokens_sampled + state.tokens_trained) / config.budget if config.budget else 0.0
    return min(1.0, max(spent, state.round / recipe.rounds))


def tire(config: RunConfig, state: State) -> None:
    """Stop learning after `patience` looks at the anchors without a better one."""
    if config.patience and not state.stopped and state.round - state.best_round >= config.patience * config.anchor_every:
        state.stopped = f"the anchors were no better in {config.patience} looks"


def over(config: RunConfig, recipe: Recipe, state: State) -> bool:
    """Whether learning has come to its end: what is left is the exam."""
    return bool(state.stopped) or done(config, recipe, state) == 1.0
