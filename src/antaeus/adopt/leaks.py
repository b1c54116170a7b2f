"""Does somebody's training set contain what the guard measures on? Read as text, or decoded where only token ids are left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from antaeus.errors import UserError
from antaeus.guard.overlap import overlaps
from antaeus.overlap import text_of, tokens
from antaeus.types import Practice, Task, TaskSet

SHORT = 8  # tokens: below this the rule of `antaeus.overlap` is equality alone
SHORTEST = 2  # tokens: a task of one word is not looked for inside other texts


def refuse_leaks(dataset: Any, tokenizer: Any, tasks: TaskSet) -> None:
    """Raises `UserError` if a row of `dataset` is, contains or nearly is an anchor or exam task of `tasks`, or cannot be read."""
    if not hasattr(dataset, "__len__"):
        raise UserError(
            "the training set is a stream, which cannot be checked for anchors and exam tasks: give a dataset with a length"
        )
    where: dict[str, int] = {}
    for number, row in enumerate(dataset):
        for text in texts(row, tokenizer):
            where.setdefault(text, number)
    if hits := leaks(where, [*tasks.anchor, *tasks.exam]):
        text, theirs = hits[0]
        raise UserError(
            f"row {where[text]} of the training set is the held-out task {theirs!r} or contains it or nearly is it "
            f"({len(hits)} such texts in all): take these rows out, or measure on other tasks"
        )


def leaks(training: Iterable[str], held_out: Iterable[Task]) -> list[tuple[str, str]]:
    """(text, held-out id) of every text that gives a held-out task away: by the rule of `antaeus.overlap`, and a short task also
    by standing there word for word ("34 + 57 =" in "34 + 57 = 91")."""
    held, training = list(held_out), list(training)
    found = dict(overlaps([Practice(text, text) for text in training], held))
    words = {task.id: tokens(text_of(task.prompt)) for task in held}
    short = {w: name for name, w in words.items() if SHORTEST <= len(w) < SHORT}
    for text in training:
        if text not in found and (theirs := _within(tokens(text), short)) is not None:
            found[text] = theirs
    return list(found.items())


def _within(words: tuple[str, ...], short: Mapping[tuple[str, ...], str]) -> str | None:
    windows = (words[i : i + n] for n in {len(w) for w in short} for i in range(len(words) - n + 1))
    return next((short[window] for window in windows if window in short), None)


def texts(row: Any, tokenizer: Any) -> Iterator[str]:
    """All texts of one row: strings, what each message says, token ids decoded (columns whose name ends in "ids")."""
    if not isinstance(row, Mapping):
        raise UserError(f"a row of the training set is a {type(row).__name__}, not a mapping of columns: it cannot be checked")
    for name, value in row.items():
        value = value.tolist() if hasattr(value, "tolist") else value
        if isinstance(value, str):
            yield value
        elif isinstance(value, list) and value and name.endswith("ids") and isinstance(value[0], int):
            yield tokenizer.decode(value, skip_special_tokens=True)
        elif isinstance(value, list):
            yield from (_said(turn) for turn in value if isinstance(turn, Mapping))


def _said(turn: Mapping[str, Any]) -> str:
    content = turn.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text") or "" for part in content)
