"""Questions about a passage, put to an adapter that studied it, and ground truth's verdicts on the answers."""

from __future__ import annotations

from collections.abc import Sequence

from antaeus.answers import extract
from antaeus.engine.base import Sampling
from antaeus.propose.passages import MAX_TOKENS, Question, question_task
from antaeus.recipes.study import Studied, about
from antaeus.types import Practice, Task, Verdict
from antaeus.verify.ground import graded

ANSWERING = Sampling(1, MAX_TOKENS, 0.0, stop=("\n",))


def questions(task: Task, asked: Sequence[Question]) -> list[Practice]:
    """The questions about a task's passage."""
    return [question_task(Practice, f"{task.id}/{i}", about(task), q.text) for i, q in enumerate(asked)]


def said(done: Studied) -> list[str | None]:
    """The answer to each question."""
    return [extract(row[0].text, "line") for row in done.answers]


def marked(done: Studied, asked: Sequence[Question]) -> list[Verdict]:
    """Ground truth's verdict on each answer: exact match, with its F1."""
    return [graded("span", "\n".join(q.answers), a) for q, a in zip(asked, said(done), strict=True)]
