"""A round's training; where it is to stay for good in a policy that knows other things, the guard looks at it before it stays."""

from __future__ import annotations

from collections.abc import Sequence

from antaeus.engine.base import Trained
from antaeus.guard import forgetting
from antaeus.recipes.base import Recipe
from antaeus.recipes.round import Round
from antaeus.records import State, record, version_id
from antaeus.sitting import Sealed
from antaeus.store.run import RunDir
from antaeus.types import Decision, Lesson


def train(
    recipe: Recipe, round: Round, lessons: Sequence[Lesson], sealed: Sealed, run: RunDir, state: State, on_alarm: str
) -> tuple[list[Trained], list[str]]:
    """What the recipe trains on these lessons. One that merges is held against what was known, on the anchors: what harms that is undone,
    and its version refused, unless alarms are only to be noted. Returns the updates, and what there is to say of harm."""
    if not lessons or recipe.control == "no-op":
        return [], []
    if not recipe.merges:
        return recipe.train(round, lessons), []
    version, studied = version_id(round.number), frozenset(lesson.task.id for lesson in lessons)
    with round.engine.trial() as trial:
        trained = recipe.train(round, lessons)
        groups, rows = sealed.take(round.engine, sealed.tasks.anchor, recipe)
        record(run, round.number, "merge", version, groups, rows)
        why = forgetting.harm(state.known, groups, rows, studied)
        if stays := not why or on_alarm == "note":
            trial.keep()
            state.known = forgetting.remembered(state.known, groups, rows, studied)
    if not stays:
        run.append("decisions.jsonl", Decision("roll back", state.policy, f"{version} is not merged: {why}"))
        state.refused.append(version)
    return trained, [f"what was known is harmed: {why}"] if why else []
