"""Passages to be read for good: all are practice, and the questions about each are dealt in turn to anchors, exam and, if wanted, practice.

So what is measured is knowledge of the very texts that were read; the questions are sealed. A question names its passage by a tag, and
not by its text, which may be learned from.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from antaeus.errors import UserError
from antaeus.propose.files import shown
from antaeus.propose.passages import MAX_TOKENS, Question, Row, id_of, question_task, read_passages, sealed
from antaeus.types import Anchor, Exam, Practice, TaskSet, Vault

_Kind = TypeVar("_Kind", Anchor, Exam)


def dealt(spec: str, asked: Mapping[str, int | None], given: Mapping[str, str], parts: int) -> TaskSet:
    """The tasks of a file of passages, of each of which `parts` (2 or 3) kinds of tasks are made. Raises `UserError` where no passage has
    so many questions."""
    if strays := [*given, *(f"n_{part}" for part in ("anchor", "exam") if asked[part])]:
        raise UserError(
            f"{shown(spec)}: the questions of each passage are dealt to anchors and exam; leave out {', '.join(strays)}"
        )
    rows = read_passages(spec)
    whole = [row for row in rows if len(row.questions) >= parts]
    if not whole:
        raise UserError(f"{shown(spec)}: no passage has {parts} questions or more, and each is measured with its own; add some")
    if len(whole) < len(rows):
        warnings.warn(
            f"{shown(spec)}: {len(rows) - len(whole)} passages have fewer than {parts} questions and are left out", stacklevel=5
        )
    hands = {kind: [(row, row.questions[i::parts]) for row in whole] for i, kind in enumerate((Anchor, Exam, Practice)[:parts])}
    anchor, anchors = _asked(Anchor, hands[Anchor])
    exam, exams = _asked(Exam, hands[Exam])
    return TaskSet(
        Path(spec).name,
        tuple(Practice(id_of(row), row.passage.whole, check="passage", passage=row.passage) for row in whole),
        anchor, exam,
        Vault(Practice, {id_of(row): sealed(questions) for row, questions in hands.get(Practice, [])}),
        Vault(Anchor, anchors), Vault(Exam, exams),
        max_tokens=MAX_TOKENS, stop=("\n",), extract="line",
    )  # fmt: skip


def of_passages(tasks: TaskSet, n: int) -> TaskSet:
    """The first `n` passages, and the questions about them."""
    kept = tasks.practice[:n]
    names = {task.id for task in kept}
    anchor, exam = (tuple(t for t in of if names & set(t.tags)) for of in (tasks.anchor, tasks.exam))
    return replace(tasks, practice=kept, anchor=anchor, exam=exam)


def _asked(kind: type[_Kind], hand: Sequence[tuple[Row, Sequence[Question]]]) -> tuple[tuple[_Kind, ...], dict[str, str]]:
    tasks, answers = [], {}
    for row, questions in hand:
        for i, question in enumerate(questions):
            name = f"{id_of(row)}/{kind.__name__.lower()} {i}"
            tasks.append(replace(question_task(kind, name, row.passage, question.text), passage=None, tags=(id_of(row),)))
            answers[name] = "\n".join(question.answers)
    return tuple(tasks), answers
