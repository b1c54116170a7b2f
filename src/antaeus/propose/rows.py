"""What a row is, and everything that can be wrong with one or with a set of them.

A row has `prompt` (a string, or a list of messages) or `messages` ({role, content}), and may have `answer`, `id` and `tags`;
other columns are ignored. Repairs are said as a warning: repeated rows collapse, prompts with chat-template tokens are named.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from antaeus.errors import UserError
from antaeus.types import Message, Prompt, to_json

T = TypeVar("T")
_TEMPLATE = re.compile(r"<\|[^|<>\s]{1,40}\|>|<｜[^｜<>\s]{1,40}｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
_UNFIT = re.compile("[\ud800-\udfff\0]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `line` counts from 1: where it begins in its file, or its position in a hub dataset. `puzzle` is the id of the ARC puzzle
    that it belongs to, where it is of one."""

    id: str
    prompt: Prompt
    answer: str | None
    tags: tuple[str, ...]
    line: int
    puzzle: str = ""


class Bad(ValueError):
    """What is wrong with one row, without its place."""


class Number(str):
    """A number as it was written: 27.0 stays "27.0", and 2**70 does not overflow."""


def collect(name: str, records: Iterable[tuple[int, Any]]) -> list[Row]:
    """The rows of (line, parsed value or the `Bad` in its place). Raises one `UserError` that counts all bad rows of `name`."""
    rows = _unrepeated(name, gathered(name, records, _row, '{"prompt": "2 + 2 =", "answer": "4"}'))
    _refuse_equal_ids(name, rows)
    _warn_of_templates(name, rows)
    return rows


def gathered(name: str, records: Iterable[tuple[int, Any]], row: Callable[[Any, int], T], example: str) -> list[T]:
    """What `row` makes of each (value, line). Raises one `UserError` that counts all bad rows of `name`, or shows an `example` where there
    are none at all."""
    rows: list[T] = []
    bad: list[tuple[int, Bad]] = []
    for line, record in records:
        try:
            if isinstance(record, Bad):
                raise record
            rows.append(row(record, line))
        except Bad as error:
            bad.append((line, error))
    if bad:
        more = f" ({len(bad)} bad rows in all, lines {_first([line for line, _ in bad])})" if len(bad) > 1 else ""
        raise UserError(f"{name}:{bad[0][0]}: {bad[0][1]}{more}")
    if not rows:
        raise UserError(f"{name} has no rows: write one object a line, such as {example}")
    return rows


def content_id(prompt: Prompt) -> str:
    """A stable id made of the prompt alone: 16 hexadecimal digits."""
    return hashlib.sha256(to_json(prompt).encode()).hexdigest()[:16]


def short(text: str) -> str:
    """Text of a user in a one-line message: quoted, cut, without control characters."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")


# -- one row


def _row(record: Any, line: int) -> Row:
    if not isinstance(record, Mapping):
        raise Bad(f"expected an object with 'prompt' or 'messages', found {kind_of(record)}")
    prompt, given, answer = _prompt(record), record.get("id"), record.get("answer")
    return Row(
        id=content_id(prompt) if given is None else text_in(given, "id", numbers=True),
        prompt=prompt,
        answer=None if answer is None else text_in(answer, "answer", numbers=True),
        tags=_tags(record.get("tags")),
        line=line,
    )


def _prompt(record: Mapping[str, Any]) -> Prompt:
    there = [key for key in ("prompt", "messages") if record.get(key) is not None]
    if len(there) == 2:
        raise Bad("both 'prompt' and 'messages': keep one")
    if not there:
        raise Bad(f"no 'prompt' and no 'messages' (columns: {', '.join(map(short, list(record)[:8])) or 'none'})")
    value = record[there[0]]
    if isinstance(value, list):
        return _messages(value, there[0])
    if there == ["messages"]:
        raise Bad(f"'messages' is {kind_of(value)}, not a list of messages")
    return text_in(value, "prompt")


def _messages(values: Sequence[Any], field: str) -> tuple[Message, ...]:
    messages = tuple(_message(value, f"{field}[{i}]") for i, value in enumerate(values))
    roles = [m.role for m in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if roles.count("system") > 1:
        raise Bad(f"'{field}' has {roles.count('system')} system messages: at most one")
    if "system" in turns:
        raise Bad(f"'{field}': the system message must come first")
    if turns[-1:] != ["user"]:
        raise Bad(f"'{field}': the last message must be the user's, found {turns[-1] if turns else 'none'}")
    if turns != (["user", "assistant"] * len(turns))[: len(turns)]:
        raise Bad(f"'{field}': roles out of order: user and assistant take turns, found {', '.join(turns[:6])}")
    return messages


def _message(value: Any, field: str) -> Message:
    if not isinstance(value, Mapping):
        raise Bad(f"'{field}' is {kind_of(value)}, not an object with 'role' and 'content'")
    role = value.get("role")
    if role not in ("system", "user", "assistant"):
        said = short(role) if isinstance(role, str) else kind_of(role)
        raise Bad(f"'{field}.role' is {said}: known are system, user and assistant")
    return Message(str(role), text_in(value.get("content"), f"{field}.content"))


def text_in(value: Any, field: str, numbers: bool = False) -> str:
    if not isinstance(value, str) or (isinstance(value, Number) and not numbers):
        raise Bad(f"'{field}' is {kind_of(value)}, not a {'string or number' if numbers else 'string'}")
    if isinstance(value, Number) and value.lstrip("-")[:3] in ("nan", "inf"):
        raise Bad(f"'{field}' is {value}, which is no number")
    if unfit := _UNFIT.search(value):
        what = "a NUL character" if unfit[0] == "\0" else f"half a character (lone surrogate \\u{ord(unfit[0]):04x})"
        raise Bad(f"'{field}' holds {what} at position {unfit.start() + 1}")
    if not value.strip():
        raise Bad(f"'{field}' is empty" + (": leave it out where there is none" if numbers else ""))
    return str(value)


def _tags(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | None):
        raise Bad(f"'tags' is {kind_of(value)}, not a list of strings")
    return tuple(text_in(tag, f"tags[{i}]") for i, tag in enumerate(value or ()))


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Number | int | float):
        return "a number"
    names = {str: "a string", list: "a list", dict: "an object", type(None): "missing or null"}
    return names.get(type(value), type(value).__name__)


# -- a set of rows


def _unrepeated(name: str, rows: Sequence[Row]) -> list[Row]:
    """One row a prompt, the first; it takes the answer of a later one where it has none. Different answers are refused."""
    kept: dict[Prompt, Row] = {}
    for row in rows:
        first = kept.setdefault(row.prompt, row)
        if first.answer is None:
            kept[row.prompt] = replace(first, answer=row.answer)
        elif row.answer not in (None, first.answer):
            answers = f"{short(first.answer)} and {short(str(row.answer))}"
            raise UserError(f"{name}:{row.line}: the prompt of line {first.line} again, with another answer: {answers}; keep one")
    if len(kept) < len(rows):
        repeats = len(rows) - len(kept)
        warnings.warn(f"{name}: {repeats} of {len(rows)} rows repeat an earlier prompt and were collapsed", stacklevel=2)
    return list(kept.values())


def _refuse_equal_ids(name: str, rows: Sequence[Row]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        if row.id in seen:
            raise UserError(f"{name}:{row.line}: the id {short(row.id)} stands on line {seen[row.id]} too: ids must be unique")
        seen[row.id] = row.line


def _warn_of_templates(name: str, rows: Sequence[Row]) -> None:
    lines = [row.line for row in rows if any(map(_TEMPLATE.search, _contents(row.prompt)))]
    if lines:
        what = f"{len(lines)} prompts hold chat-template tokens such as <|im_start|>"
        warnings.warn(f"{name}: {what} (lines {_first(lines)})", stacklevel=2)


def _contents(prompt: Prompt) -> list[str]:
    return [prompt] if isinstance(prompt, str) else [m.content for m in prompt]


def _first(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:3])) + (", ..." if len(lines) > 3 else "")
