"""A round's training; where it is to stay for good in a policy that knows other things, the guard looks at it before it stays."""

from __future__ import annotations

from collections.abc import Sequence

from antaeus.engine.base import Engine, Trained
from antaeus.guard import forgetting
from antaeus.recipes.base import Recipe
from antaeus.recipes.round import Round
from antaeus.records import State, record, version_id
from antaeus.sitting import Sealed
from antaeus.store.run import RunDir
from antaeus.types import Decision, Lesson


def train(
    recipe: Recipe, round: Round, lessons: Sequence[Lesson], engine: Engine, sealed: Sealed, run: RunDir, state: State
) -> list[Trained]:
    """What the recipe trains on these lessons. One that merges is held against what was known, on the anchors: what harms that is undone,
    and its version refused."""
    if not lessons or recipe.control == "no-op":
        return []
    if not recipe.merges:
        return recipe.train(round, lessons)
    version, studied = version_id(round.number), frozenset(lesson.task.id for lesson in lessons)
    with engine.trial() as trial:
        trained = recipe.train(round, lessons)
        groups, rows = sealed.take(engine, sealed.tasks.anchor, recipe)
        record(run, round.number, "merge", version, groups, rows)
        if not (why := forgetting.harm(state.known, groups, rows, studied)):
            trial.keep()
            state.known = forgetting.remembered(state.known, groups, rows, studied)
    if why:
        run.append("decisions.jsonl", Decision("roll back", state.policy, f"{version} is not merged: {why}"))
        state.refused.append(version)
    return trained
