"""What is made sure of before a run: its grader is sound, its lineage may judge once more, and everything that decides is sealed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from antaeus.config import RunConfig
from antaeus.engine.models import fetch
from antaeus.errors import UserError
from antaeus.guard import descent, grader, seals
from antaeus.guard.grader import GOLDS, Gold, Target
from antaeus.guard.grader import golds_of as golds_of_tasks
from antaeus.guard.lineage import Lineage, Proposal
from antaeus.overlap import text_of
from antaeus.propose.files import read_rows
from antaeus.propose.gym import gym
from antaeus.sitting import Custody
from antaeus.solve.rollout import ask
from antaeus.store.files import write_atomically
from antaeus.types import TaskSet, to_json
from antaeus.verify.ground import right_answer

TRIED = 8  # exam tasks on which the grader is tried before a run


def refuse_unsound_grader(tasks: TaskSet) -> None:
    """Raises `UserError` where a grader of these tasks refuses one of their answers or accepts what is plainly wrong."""
    for check, golds in golds_of_tasks(tasks.exam[:TRIED], tasks.exam_vault).items():
        for failure in grader.quick(tasks.name, partial(right_answer, check), golds):
            warnings.warn(failure, stacklevel=2)


def refuse_spent_lineage(settings: RunConfig, tasks: TaskSet) -> None:
    """Raises `UserError` where the lineage could not judge what this run is to bring: better now than after learning."""
    if settings.lineage:
        custody = Custody(fetch(settings.model), seals.seals(tasks), dict)
        lineage = Lineage(Path(settings.lineage), proposals=settings.proposals)
        to_come = Proposal("the version to come", descent.fingerprint(custody.base), custody.instruments)
        if why := lineage.refusal(to_come):
            raise UserError(why)


def custody_of(settings: RunConfig, tasks: Callable[[], TaskSet], engine: Any, folder: Path) -> Custody:
    """The seals of the run's start, on the disk before anything is learned, and how to take them again. `tasks` reads them anew."""
    file = folder / "seals.json"

    def now() -> dict[str, str]:
        with warnings.catch_warnings(action="ignore"):  # said when they were read first
            anew = tasks()
        return seals.seals(anew, {"prompt": engine.render(ask(anew.practice[0], engine.chat))})

    if not file.exists():
        write_atomically(file, to_json({"start": now()}))
    return Custody(fetch(settings.model), json.loads(file.read_text(encoding="utf-8"))["start"], now)


# --- `antaeus check-grader` ---------------------------------------------------------------------------------------------


def grader_named(name: str) -> Target:
    """Where a grader is that `antaeus check-grader` is asked about. Raises `UserError` where there is none."""

    if name in ("math", "exact") or name.startswith("reasoning-gym:"):
        return Target("antaeus.verify.ground", "grade_text", {"check": name})
    file, _, function = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    if not file.endswith(".py"):
        raise UserError(f"unknown grader {name!r}: give math, exact, reasoning-gym:NAME, FILE.py or FILE.py:FUNCTION")
    if not Path(file).is_file():
        raise UserError(f"there is no file {file}")
    return Target(file, function)


def golds_of(grader: str, data: str | Path | None) -> Sequence[Gold]:
    """Right answers to try it with: the user's own, the generator's, or the built-in list."""

    if grader.startswith("reasoning-gym:"):
        if data:
            raise UserError(f"--data {data}: {grader} grades its own tasks only; leave the file out")
        return _gym_golds(grader.removeprefix("reasoning-gym:"))
    if not data:
        return GOLDS

    golds = [Gold(row.answer, prompt=text_of(row.prompt)) for row in read_rows(data) if row.answer is not None]
    if not golds:
        raise UserError(f'{data}: no row has an answer; each needs one, such as {{"prompt": "2 + 2 =", "answer": "4"}}')
    return golds[:: -(-len(golds) // 40)]  # 40 golds, from all over the file, are some 4000 questions


def _gym_golds(name: str) -> Sequence[Gold]:
    tasks = gym(name, 0, n_practice=1, n_anchor=1, n_exam=12)
    golds = [gold for found in golds_of_tasks(tasks.exam, tasks.exam_vault).values() for gold in found if gold.text]
    if not golds:
        raise UserError(f"reasoning-gym:{name} gives no answers of its own that could be tried")
    return golds
