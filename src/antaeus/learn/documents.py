"""A self-edit to the documents it is learned as: the text that a model wrote, cut where it wrote several things (SEAL, 2506.10943).

Rules: lines of dashes part documents, and so does every line; of an edit that holds "Question 1:", each question with its answer is a
document instead (what stands before the first one too, if it holds an answer: the prompt may have ended in "Question 1:"). A first line
that only leads to a list ("Here is a list:", then "1. ...") is left out. Each document begins with the title.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from antaeus.engine.base import Engine
from antaeus.types import Lesson, Passage, Task

_PARTED = re.compile(r"^\s*-{3,}\s*$", re.MULTILINE)
_QUESTION = re.compile(r"^(?=\s*\**Question\s*\d*\s*\**:)", re.MULTILINE | re.IGNORECASE)
_ANSWERED = re.compile(r"^\s*\**Answer\s*\d*\s*\**:", re.MULTILINE | re.IGNORECASE)
_FIRST_ITEM = re.compile(r"\s*\**1[.)]")
_WORD = re.compile(r"\w")


def documents(edit: str, passage: Passage) -> list[str]:
    """The edit's own documents, in order, without the passage; none where it holds no word."""
    parts = _QUESTION.split(edit)
    if any(map(_QUESTION.match, parts)):
        parts = [part for part in parts if _QUESTION.match(part) or _ANSWERED.search(part)]
    else:
        parts = [line for part in _PARTED.split(edit) for line in _lines(part)]
    return [f"{passage.title}\n{part.strip()}" for part in parts if _WORD.search(part)]


def course(engine: Engine, task: Task, texts: Sequence[str]) -> list[Lesson]:
    """Lessons of documents, for an adapter all of whose tokens count. Raises `UserError` for one that exceeds the model's context."""
    return [Lesson(task, *engine.encode("", text), 1.0) for text in texts]


def _lines(part: str) -> list[str]:
    lines = [line for line in part.splitlines() if line.strip()]
    return lines[1:] if len(lines) > 1 and _FIRST_ITEM.match(lines[1]) and not _FIRST_ITEM.match(lines[0]) else lines
