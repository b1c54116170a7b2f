"""Passages with questions about them: rows of `title`, `context` and `questions`, each with `question` and `answer` or `answers`.

A practice task is a passage, its sealed answer the list of its questions with their answers. Anchors and exam tasks are questions; the
passage that one is about stands on the task, and not in its prompt. Passages of one title are of one kind, by a hash of the title:
20 % exam, 15 % anchor, 65 % practice; or a file is given for a part. A passage without questions is practice, whatever its title.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from antaeus.answers.spans import normal
from antaeus.asking import put
from antaeus.errors import UserError
from antaeus.overlap import tokens
from antaeus.propose.files import first_record, read, shown
from antaeus.propose.rows import Bad, content_id, gathered, kind_of, text_in
from antaeus.types import Anchor, Exam, Passage, Practice, Task, TaskSet, Vault

_Kind = TypeVar("_Kind", bound=Task)
SHOTS = (
    "Each question is answered in a few words.\n\nTopic: Ice\nQuestion: What is ice made of?\nAnswer: water\n\n"
    "Topic: Paris\nQuestion: Which river flows through Paris?\nAnswer: the Seine\n\n"
)
MAX_TOKENS = 32  # of an answer
LONGEST = 1000  # characters of a question, or of an answer
_SHARES = {"exam": 0.20, "anchor": 0.35}  # up to where a title's place belongs to each part
_CAPS = {"anchor": 64, "exam": 200}  # questions, unless asked otherwise


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its accepted answers."""

    text: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a passage, its questions, the line where it begins."""

    passage: Passage
    questions: tuple[Question, ...]
    line: int
    completions: tuple[str, ...] = ()  # self-edits of somebody's, where there are any


def are_passages(path: str) -> bool:
    """Whether the file's first row is a passage."""
    row = first_record(path)
    if not isinstance(row, Mapping) or "context" not in row:
        return False
    return {"title", "questions"} <= row.keys() or not {
        "prompt",
        "messages",
    } & row.keys()  # SEAL's records hold the prompt of their edits


def read_passages(path: str | Path) -> list[Row]:
    """The rows of a file of passages. Raises `UserError` for whatever is wrong with one, and warns of what is odd."""
    name = shown(path)
    rows = _unrepeated(name, read(path, lambda name, records: gathered(name, records, _row, EXAMPLE)))
    odd = [row.line for row in rows for q in row.questions if not any(normal(a) in normal(row.passage.text) for a in q.answers)]
    if odd:
        what = f"{len(odd)} questions have an answer that does not stand in their passage (first: line {odd[0]})"
        warnings.warn(f"{name}: {what}: they are kept; mend them where answers are meant to be words of it", stacklevel=2)
    return rows


EXAMPLE = '{"title": "Rivers", "context": "The Elbe ...", "questions": [{"question": "Where ...?", "answer": "Dresden"}]}'


def passages(spec: str, asked: Mapping[str, int | None], given: Mapping[str, str]) -> TaskSet:
    """The tasks of a file of passages; `asked` holds the numbers of passages to practise on and of questions to measure with, `given` files
    that stand in for a part, and are not split. Raises `UserError` where a part stays without."""
    parts: dict[str, list[Row]] = {"practice": [], "anchor": [], "exam": []}
    for row in read_passages(spec):
        part = part_of(row.passage.title) if row.questions else "practice"
        parts["practice" if part in given else part].append(row)
    parts |= {part: _given(part, path) for part, path in given.items()}
    if missing := [part for part, rows in parts.items() if not rows]:
        raise UserError(
            f"{shown(spec)}: of its {len({r.passage.title for rows in parts.values() for r in rows})} titles none fell to "
            f"{' and '.join(missing)}; passages are split by title, add some (30 or more titles are sensible), or give a file for each part"
        )
    _warn_of_shared_titles(parts)
    whole = {part: sum(len(row.questions) for row in parts[part]) for part in given}
    held = {part: _first(parts[part], asked[part] or whole.get(part, cap)) for part, cap in _CAPS.items()}
    for part, rows in held.items():
        if unused := sum(len(r.questions) for r in parts[part]) - sum(len(r.questions) for r in rows):
            warnings.warn(f"{shown(spec)}: {unused} more {part} questions are not used: see n_{part}", stacklevel=4)
    return TaskSet(
        Path(spec).name,
        tuple(Practice(id_of(r), r.passage.whole, check="passage", passage=r.passage) for r in parts["practice"]),
        tuple(task for row in held["anchor"] for task in _asked(Anchor, row)),
        tuple(task for row in held["exam"] for task in _asked(Exam, row)),
        Vault(Practice, {id_of(r): sealed(r.questions) for r in parts["practice"] if r.questions}),
        Vault(Anchor, {t.id: "\n".join(q.answers) for r in held["anchor"] for t, q in zip(_asked(Anchor, r), r.questions, strict=True)}),
        Vault(Exam, {t.id: "\n".join(q.answers) for r in held["exam"] for t, q in zip(_asked(Exam, r), r.questions, strict=True)}),
        max_tokens=MAX_TOKENS, stop=("\n",), extract="line",
    )  # fmt: skip


def question_task(kind: type[_Kind], name: str, passage: Passage, question: str) -> _Kind:
    """The task of answering a question without its passage."""
    return kind(name, put(passage.title, question), shots=SHOTS, completion=True, check="span", passage=passage)


def opened(sealed: str) -> list[Question]:
    """The questions of a practice passage, from its sealed answer."""
    return [Question(text, tuple(answers)) for text, answers in json.loads(sealed)]


def part_of(title: str) -> str:
    """Which part the passages of a title belong to."""
    place = int(hashlib.sha256(" ".join(tokens(title)).encode()).hexdigest()[:8], 16) / 16**8
    return next((part for part, share in _SHARES.items() if place < share), "practice")


def _asked(kind: type[_Kind], row: Row) -> list[_Kind]:
    return [question_task(kind, f"{id_of(row)}/{i}", row.passage, q.text) for i, q in enumerate(row.questions)]


def _given(part: str, path: str) -> list[Row]:
    rows = read_passages(path)
    if part != "practice" and (without := [row for row in rows if not row.questions]):
        what = f"{len(without)} of {len(rows)} passages have no questions"
        raise UserError(f"{shown(path)}:{without[0].line}: {what}: every {part} passage needs some, they are measured on")
    return rows


def _warn_of_shared_titles(parts: Mapping[str, Sequence[Row]]) -> None:
    titles = {part: {" ".join(tokens(row.passage.title)) for row in rows} for part, rows in parts.items()}
    for part in ("anchor", "exam"):
        if both := sorted(titles["practice"] & titles[part]):
            what = f"{len(both)} titles (first: {both[0]!r}) stand in practice and {part}: texts on one thing share facts"
            warnings.warn(f"{what}, so that {part} tells less of other texts", stacklevel=5)


def sealed(questions: Iterable[Question]) -> str:
    """The sealed answer of a practice passage, see `opened`."""
    return json.dumps([[q.text, q.answers] for q in questions], ensure_ascii=False)


def id_of(row: Row) -> str:
    """Of the passage as a task; made of what it says."""
    return content_id(row.passage.whole)


def _first(rows: Sequence[Row], n: int) -> list[Row]:
    """Passages with `n` questions together, in the order of their ids; of the last one as many as are wanting."""
    kept: list[Row] = []
    for row in sorted(rows, key=id_of):
        kept += [replace(row, questions=row.questions[:n])] if n > 0 else []
        n -= len(row.questions)
    return kept


def _row(record: Any, line: int) -> Row:
    if not isinstance(record, Mapping):
        raise Bad(f"expected an object with 'title' and 'context', found {kind_of(record)}")
    listed = record.get("questions")
    if not isinstance(listed, list | None):
        raise Bad(f"'questions' is {kind_of(listed)}, not a list")
    edits = record.get("completions")
    if not isinstance(edits, list | None):
        raise Bad(f"'completions' is {kind_of(edits)}, not a list of texts")
    title, text = text_in(record.get("title"), "title").strip(), text_in(record.get("context"), "context").strip()
    return Row(
        Passage(" ".join(title.split()), text),
        tuple(dict.fromkeys(_question(q, f"questions[{i}]") for i, q in enumerate(listed or ()))),
        line,
        tuple(text_in(x, f"completions[{i}]") for i, x in enumerate(edits or ())),
    )


def _question(value: Any, field: str) -> Question:
    if not isinstance(value, Mapping):
        raise Bad(f"'{field}' is {kind_of(value)}, not an object with 'question' and 'answer'")
    given = value.get("answers") if value.get("answer") is None else [value["answer"]]
    if not isinstance(given, list) or not given:
        raise Bad(f"'{field}' has no answer: give 'answer', or a list of 'answers', or leave the question out")
    answers = tuple(" ".join(text_in(a, f"{field}.answer", numbers=True).split()) for a in given)
    question = " ".join(text_in(value.get("question"), f"{field}.question").split())
    if (longest := max(map(len, (question, *answers)))) > LONGEST:
        raise Bad(f"'{field}' has {longest:,} characters: a question or a short answer has at most {LONGEST:,}")
    return Question(question, tuple(dict.fromkeys(answers)))


def _unrepeated(name: str, rows: Sequence[Row]) -> list[Row]:
    """One row a text; the questions of a later one are added to the first."""
    kept: dict[str, Row] = {}
    for row in rows:
        key = " ".join(tokens(row.passage.text))
        first = kept.get(key, replace(row, questions=(), completions=()))
        both = {k: tuple(dict.fromkeys((*getattr(first, k), *getattr(row, k)))) for k in ("questions", "completions")}
        kept[key] = replace(first, **both)
    if len(kept) < len(rows):
        what = f"{len(rows) - len(kept)} of {len(rows)} rows repeat an earlier passage: their questions were added to it"
        warnings.warn(f"{name}: {what}", stacklevel=3)
    return [*kept.values()]


def given_edits(path: str) -> dict[Passage, tuple[str, ...]]:
    """The self-edits that somebody wrote, `completions` of a file of passages. Raises `UserError` where it holds none."""
    found = {row.passage: row.completions for row in read_passages(path) if row.completions}
    if not found:
        raise UserError(f"{shown(path)}: no row has 'completions', a list of texts; give a file of self-edits")
    return found
