"""Before a run: its tasks are there, its grader is sound, its lineage may judge once more, and everything that decides is sealed."""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from antaeus.config import RunConfig
from antaeus.engine.models import fetch
from antaeus.errors import UserError
from antaeus.guard import descent, grader, seals
from antaeus.guard.grader import golds_of as golds_of_tasks
from antaeus.guard.lineage import Proposal
from antaeus.propose.sets import load
from antaeus.recipes.base import Recipe
from antaeus.sitting import Custody, lineage_of
from antaeus.solve.rollout import ask
from antaeus.store.files import write_atomically
from antaeus.types import Source, TaskSet, to_json
from antaeus.verify.ground import right_answer

TRIED = 8  # exam tasks on which the grader is tried before a run


def tasks_for(settings: RunConfig, method: Recipe) -> TaskSet:
    """The run's tasks. Raises `UserError` where the recipe needs answers that they do not have."""
    tasks = method.prepare(load_tasks(settings, method.deal))
    if method.source is Source.GROUND and Source.GROUND in method.sources:
        without = [t.id for t in tasks.practice if t.id not in tasks.practice_vault]
        if without:
            raise UserError(
                f"{method.name} learns from sealed answers, and {len(without)} of {len(tasks.practice)} practice tasks have none "
                f"(first: {without[0]!r}); add an answer to each, or use a recipe that needs none, such as ttrl"
            )
    return tasks


def others_for(settings: RunConfig) -> tuple[TaskSet, ...]:
    """The task sets on which a promoted version may not fall; of the same sizes as the run's own."""
    names = [name.strip() for name in settings.also.split(",") if name.strip()]
    if twice := [name for name in names if name == settings.tasks or names.count(name) > 1]:
        raise UserError(f"also={settings.also!r}: {twice[0]} is there already; name other task sets, each once")
    return tuple(load_tasks(replace(settings, tasks=name, practice="", anchor="", exam="")) for name in names)


def refuse_mitigation(settings: RunConfig, method: Recipe) -> None:
    """Raises `UserError` for labels or a mitigation that this recipe cannot follow, before anything runs."""
    curriculum = settings.curriculum != "all" or (settings.on_alarm == "rollback" and settings.mitigation == "curriculum")
    if curriculum and not method.counted:
        raise UserError(
            f"curriculum: recipe {method.name} writes texts, not answers by which tasks could be chosen; leave it out"
        )
    if settings.labels == "fixed" and method.source is Source.GROUND:
        raise UserError(f"labels=fixed: recipe {method.name} has no votes that labels could stand for; take ttrl")
    if settings.labels == "fixed" and not method.rewarded:
        raise UserError(
            f"labels=fixed: recipe {method.name} learns from no reward, so that labels would change nothing; take ttrl"
        )
    if settings.on_alarm != "rollback":
        return
    if settings.mitigation == "agreement" and not hasattr(method, "agreement"):
        raise UserError(f"mitigation=agreement: recipe {method.name} has no agreement threshold; take lr or curriculum")
    if settings.mitigation == "labels" and not method.rewarded:
        raise UserError(f"mitigation=labels: recipe {method.name} learns from no reward; take lr or curriculum")
    if settings.mitigation == "labels" and method.source is Source.GROUND:
        raise UserError(f"mitigation=labels: recipe {method.name} learns from sealed answers already; take lr or curriculum")


def refuse_long(tasks: TaskSet, engine: Any, practised: int) -> None:
    """Raises `UserError` where a prompt leaves no room for its answer in the model's context: of `practised` tokens in practice (0: none is
    given). Better now than at the exam."""
    for which, room in ((tasks.practice if practised else (), practised), ((*tasks.anchor, *tasks.exam), tasks.max_tokens)):
        for task in which:
            prompt = ask(task, engine.chat)
            if len(engine.render(prompt).encode()) + room < engine.context:
                continue  # no token is shorter than a byte
            with contextlib.suppress(UserError):
                if len(engine.encode(prompt, "")[0]) + room <= engine.context:
                    continue
            raise UserError(
                f"{tasks.name}: {type(task).__name__.lower()} task {task.id!r} and an answer of {room} tokens exceed the model's "
                f"context of {engine.context}; leave it out or shorten it, or lower max_tokens"
            )


def load_tasks(settings: RunConfig, deal: int = 0) -> TaskSet:
    """The tasks that the settings name; `deal`: see `propose.sets.load`."""
    return load(
        settings.tasks, seed=settings.seed, practice=settings.practice or None, anchor=settings.anchor or None, exam=settings.exam or None,
        n_practice=settings.n_practice or None, n_anchor=settings.n_anchor or None, n_exam=settings.n_exam or None,
        max_tokens=settings.max_tokens or None, stop=[settings.stop] if settings.stop else None, extract=settings.extract or None,
        deal=deal,
    )  # fmt: skip


def refuse_unsound_grader(tasks: TaskSet) -> None:
    """Raises `UserError` where a grader of these tasks refuses one of their answers or accepts what is plainly wrong."""
    for check, golds in golds_of_tasks(tasks.exam[:TRIED], tasks.exam_vault).items():
        for failure in grader.quick(tasks.name, partial(right_answer, check), golds):
            warnings.warn(failure, stacklevel=2)


def refuse_spent_lineage(settings: RunConfig, tasks: TaskSet) -> None:
    """Raises `UserError` where the lineage could not judge what this run is to bring: better now than after learning."""
    if lineage := lineage_of(settings):
        custody = Custody(fetch(settings.model), seals.seals(tasks), dict)
        to_come = Proposal("the version to come", descent.weights_hash(custody.base), custody.instruments)
        if why := lineage.refusal(to_come):
            raise UserError(why)


def refuse_changed_tasks(folder: Path, tasks: TaskSet) -> None:
    """Raises `UserError` where the tasks are not those that the run in `folder` began with."""
    if not (file := folder / "seals.json").exists():
        return  # it was killed before anything was sealed or learned
    found = seals.broken(json.loads(file.read_text(encoding="utf-8"))["start"], seals.seals(tasks))
    if any(finding.where.startswith(("tasks", "answers", "reading", "template/shots")) for finding in found):
        raise UserError(f"{folder}: the tasks have changed since the run was started; restore their files, or start a new run")


def custody_of(settings: RunConfig, method: Recipe, tasks: TaskSet, engine: Any, folder: Path) -> Custody:
    """The seals of the run's start, on the disk before anything is learned, and how to take them again."""
    file = folder / "seals.json"

    def seal(tasks: TaskSet) -> dict[str, str]:
        return seals.seals(tasks, {"prompt": engine.render(ask(tasks.practice[0], engine.chat))})

    def now() -> dict[str, str]:
        with warnings.catch_warnings(action="ignore"):  # said when they were read first
            return seal(tasks_for(settings, method))

    if not file.exists():
        write_atomically(file, to_json({"start": seal(tasks)}))
    return Custody(fetch(settings.model), json.loads(file.read_text(encoding="utf-8"))["start"], now)
