"""What `antaeus check-grader` is asked about, and the answers it tries it with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from antaeus.errors import UserError
from antaeus.guard.grader import GOLDS, Gold, Target
from antaeus.guard.grader import golds_of as golds_of_tasks
from antaeus.overlap import text_of
from antaeus.propose.files import read_rows
from antaeus.propose.gym import gym


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
