"""What recipes share that learn passages by heart: documents are studied by an adapter of their own, which is then asked about the passage.

Nothing stays: the policy is what it was. All adapters of a call are trained together, `engine.adapters`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from antaeus.answers import extract
from antaeus.engine.base import Engine, Sampling, Tuning
from antaeus.errors import UserError
from antaeus.learn.documents import course, documents
from antaeus.recipes.answering import charged
from antaeus.solve.rollout import ask, rollout
from antaeus.solve.templates import filled
from antaeus.types import Attempt, Exam, Group, Lesson, Passage, Task

TOGETHER = 64  # adapters that are held at once


@dataclass(frozen=True)
class Study:
    """What one adapter is to learn, how, and the questions it is then asked; without documents they are asked of the policy."""

    documents: tuple[str, ...]
    questions: Sequence[Task]
    how: Tuning


@dataclass(frozen=True)
class Studied:
    """What came of it: the attempts at each question, the tokens that took, and why it failed, if it did."""

    answers: list[list[Attempt]]
    spent: int = 0
    failed: str = ""


def study(
    engine: Engine, studies: Sequence[Study], how: Sampling, *, seed: str, sparing: Sequence[Lesson] = (), share: float = 0.0
) -> list[Studied]:
    """`how.n` attempts at each question of each study. One that fails has its reason, and harms none of the others. `sparing` and `share`:
    see `Engine.adapters`."""
    parts = [studies[i : i + TOGETHER] for i in range(0, len(studies), TOGETHER)]
    return [done for part in parts for done in _together(engine, part, how, seed, sparing, share)]


def _together(
    engine: Engine, studies: Sequence[Study], how: Sampling, seed: str, sparing: Sequence[Lesson], share: float
) -> list[Studied]:
    read = [_read(engine, each) for each in studies]
    courses = [lessons for lessons, _ in read]
    adapters = engine.adapters(courses, [each.how for each in studies], sparing=sparing, share=share)
    asked = [
        (i if lessons else None, q.id, ask(q, engine.chat))
        for i, (each, (lessons, _)) in enumerate(zip(studies, read, strict=True)) for q in each.questions
    ]  # fmt: skip
    drawn = iter(adapters.sample(asked, how, seed=seed))
    told: list[Studied] = []
    for each, (lessons, failed), went in zip(studies, read, adapters.courses, strict=True):
        answers = [next(drawn) for _ in each.questions]
        trained = each.how.epochs * sum(len(lesson.prompt_ids) + len(lesson.ids) for lesson in lessons)
        lost = f"{len(went.skipped)} steps of its training were not finite" if went.skipped else ""
        told.append(Studied(answers, trained + sum(len(a.ids) for row in answers for a in row), failed or lost))
    return told


def _read(engine: Engine, each: Study) -> tuple[list[Lesson], str]:
    if not each.documents:
        return [], ""
    try:
        return course(engine, each.questions[0], each.documents), ""
    except UserError as err:
        return [], str(err)


def asking(text: str, passage: Passage) -> Exam:
    """The request for a self-edit of a passage, by a template's text; never learned from."""
    return Exam("", filled(text, passage), passage=passage)


def by_passage(tasks: Iterable[Task]) -> list[Passage]:
    """The passages that tasks are about, each once."""
    return list(dict.fromkeys(task.passage for task in tasks if task.passage is not None))


def written(engine: Engine, passages: Sequence[Passage], text: str, tokens: int, seed: str) -> dict[Passage, Attempt]:
    """A greedy self-edit of each passage."""
    asked = [(f"edit {i}", ask(asking(text, passage), engine.chat)) for i, passage in enumerate(passages)]
    drawn = engine.sample(asked, Sampling(1, tokens, 0.0), seed=f"{seed}/edit") if asked else []
    return {passage: attempts[0] for passage, attempts in zip(passages, drawn, strict=True)}


def taught(
    engine: Engine,
    tasks: Sequence[Task],
    edits: Mapping[Passage, Attempt | str],
    tuning: Tuning,
    how: Sampling,
    *,
    seed: str,
    read: str,
) -> list[Group]:
    """Questions, each answered by an adapter that studied its passage and the edit of it; what that took is charged to the answers. Tasks
    about no passage are answered by the policy."""
    about = {passage: [task for task in tasks if task.passage == passage] for passage in by_passage(tasks)}
    studies = [Study(to_read(edits[passage], passage), asked, tuning) for passage, asked in about.items()]
    plain = [task for task in tasks if task.passage is None]
    found = {group.task.id: group for group in rollout(engine, plain, how, seed=seed, read=read)} if plain else {}
    for (passage, asked), done in zip(about.items(), study(engine, studies, how, seed=seed), strict=True):
        edit = edits[passage]
        before = (
            done.spent - sum(len(a.ids) for row in done.answers for a in row) + (0 if isinstance(edit, str) else len(edit.ids))
        )
        for task, row in zip(asked, done.answers, strict=True):
            found[task.id] = charged(Group(task, _answered(row, read)), before / len(asked))
    return [found[task.id] for task in tasks]


def to_read(edit: Attempt | str, passage: Passage, uncut: bool = False) -> tuple[str, ...]:
    """The documents of an edit (it alone, if it is not to be cut), and the passage behind them."""
    text = edit if isinstance(edit, str) else edit.text
    return (*([f"{passage.title}\n{text.strip()}"] if uncut and text.strip() else documents(text, passage)), passage.whole)


def about(task: Task) -> Passage:
    """The passage that a task is about."""
    assert task.passage is not None, "refused before the run"
    return task.passage


def _answered(attempts: Sequence[Attempt], read: str) -> tuple[Attempt, ...]:
    return tuple(replace(a, answer=extract(a.text, read)) for a in attempts)


def refuse_long(engine: Engine, tasks: Iterable[Task], texts: Iterable[str], tokens: int) -> None:
    """Raises `UserError` for a passage that exceeds the model's context, or does so in one of the templates with an edit of so many
    tokens."""
    for passage, text in product(by_passage(tasks), texts):
        named = f"passage {passage.title[:40]!r} {passage.text[:40]!r}..."
        try:
            read, _ = engine.encode(ask(asking(text, passage), engine.chat), "")
            engine.encode("", passage.whole)
        except UserError as err:
            raise UserError(f"{named}: {err}") from None
        if len(read) + tokens > engine.context:
            raise UserError(
                f"{named}: {len(read)} tokens of prompt and edit_tokens={tokens} exceed the model's context of {engine.context}; split the "
                "passage into several rows, or lower edit_tokens"
            )
