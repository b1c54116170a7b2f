"""One name for a task set: a built-in family, a generator, a file or a hub dataset, with files in place of single parts.

A file whose rows have answers is split by a hash of each row's normalised text: 20 % exam, 15 % anchor, 65 % practice. A row
keeps its kind whatever else stands in the file, so a file may grow between two runs without an exam row becoming practice.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from antaeus.errors import UserError
from antaeus.overlap import Index, text_of, texts_of, tokens
from antaeus.paraphrase import Paraphrases
from antaeus.propose.arc import arc
from antaeus.propose.builtin import FAMILIES, builtin, meant, names, require_sizes
from antaeus.propose.dealing import dealt
from antaeus.propose.files import SUFFIXES, read_hub, read_rows, shown
from antaeus.propose.gym import gym
from antaeus.propose.passages import are_passages, passages
from antaeus.propose.puzzle_files import read_puzzles, reading
from antaeus.propose.rows import Row, short
from antaeus.types import Anchor, Exam, Practice, Task, TaskSet, Vault

__all__ = ["load", "names"]

PARTS: Mapping[str, type[Task]] = {"practice": Practice, "anchor": Anchor, "exam": Exam}
_EXAM, _ANCHOR = 0.20, 0.15  # shares of a file that is split
_CAPS = {"anchor": 64, "exam": 200}  # of a file that is split, unless asked otherwise: measuring costs time every few rounds


def load(
    spec: str,
    *,
    seed: int,
    practice: str | None = None,
    anchor: str | None = None,
    exam: str | None = None,
    n_practice: int | None = None,
    n_anchor: int | None = None,
    n_exam: int | None = None,
    max_tokens: int | None = None,
    stop: Sequence[str] | None = None,
    extract: str | None = None,
    deal: int = 0,
) -> TaskSet:
    """The tasks that `spec` names: "add2" (see `names`), "arc[:<characters>]", "gym:<generator>", "<file>.jsonl",
    a file of ARC puzzles or "hub:<dataset>[:<split>]".

    `practice`, `anchor` and `exam` are files (or hub: names) that stand in for a part; to a set with worked examples they get
    the same ones. Sizes default to 256, 64, 200 of what is generated; to all practice, 64 and 200 of a file that is split; to
    all of a file given for a part. `seed` chooses and orders practice only. `max_tokens` (tokens), `stop` and `extract`
    override the set's own. `deal` is of passages: 0 splits them by title, 2 keeps all as practice and deals the questions of each to
    anchors and exam, 3 to practice too. No practice task is a held-out task or near one, no anchor an exam task (by the fence's rules):
    a file that holds such rows of another file is refused, of its own they are dropped with a warning, as they are elsewhere.

    Raises `UserError` for whatever is wrong with names, files and sizes, and if there are no sealed answers to measure with.
    """
    asked = {"practice": n_practice, "anchor": n_anchor, "exam": n_exam}
    given = {part: path for part, path in (("practice", practice), ("anchor", anchor), ("exam", exam)) if path is not None}
    require_sizes(**{f"n_{part}": n for part, n in asked.items() if n is not None})
    require_sizes(**({} if max_tokens is None else {"max_tokens": max_tokens}))
    tasks = _base(spec, seed, asked, given, deal)
    for part, path in given.items() if not any(task.passage for task in tasks.practice) else ():
        rows = _in_place(tasks, part, path)
        tasks = _put(tasks, part, rows, asked[part])
        if part != "practice" and len(rows) > (asked[part] or len(rows)):
            warnings.warn(f"{shown(path)}: {asked[part]} of {len(rows)} {part} rows are used: see n_{part}", stacklevel=2)
    origin = {part: shown(given.get(part, spec)) for part in PARTS}
    tasks = _apart(tasks, origin)
    there = len(tasks.practice)
    tasks = replace(tasks, practice=_chosen(tasks.practice, seed, n_practice))
    if there > len(tasks.practice):
        warnings.warn(f"{origin['practice']}: {n_practice} of {there} practice rows are used: see n_practice", stacklevel=2)
    _warn_of_few(tasks, asked, given)
    own = {"max_tokens": max_tokens, "stop": None if stop is None else _stops(stop), "extract": extract}
    return replace(tasks, **{key: value for key, value in own.items() if value is not None})


def _base(spec: str, seed: int, asked: Mapping[str, int | None], given: Mapping[str, str], deal: int) -> TaskSet:
    sizes = {f"n_{part}": n for part, n in asked.items() if n is not None and part not in given}
    if spec in FAMILIES:
        return builtin(spec, seed, **sizes)
    if spec.partition(":")[0] == "arc":
        return arc(spec, seed, **sizes)
    if spec.startswith("gym:"):
        return gym(spec.removeprefix("gym:"), seed, **sizes)
    if not spec.startswith("hub:") and spec.lower().endswith(SUFFIXES) and are_passages(spec):
        return passages(spec, asked, given) if not deal else dealt(spec, asked, given, deal)
    if spec.startswith("hub:") or "/" in spec or "\\" in spec or Path(spec).suffix:
        return _from_rows(spec, asked, given)
    raise UserError(f"unknown tasks {short(spec)}{meant(spec, FAMILIES)}; or give FILE.jsonl, arc, gym:GENERATOR or hub:DATASET")


def _rows(source: str) -> list[Row]:
    if not source.startswith("hub:"):
        return read_puzzles(source) or read_rows(source)
    name, _, split = source.removeprefix("hub:").partition(":")
    return read_hub(name, split or "train")


def _stops(stop: Sequence[str]) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(text, str) and text for text in stops):
        raise UserError(f"stop = {list(stops)!r}: give strings that are not empty")
    return stops


# -- a file in three parts


def _from_rows(spec: str, asked: Mapping[str, int | None], given: Mapping[str, str]) -> TaskSet:
    held = [part for part in ("anchor", "exam") if part not in given]
    parts: dict[str, list[Row]] = {part: [] for part in PARTS}
    for row in _rows(spec):
        part = "practice" if row.answer is None else _part(row)
        parts[part if part in held else "practice"].append(row)
    _require_answers(shown(spec), parts, held)
    name = spec if spec.startswith("hub:") else Path(spec).name
    tasks = TaskSet(name, (), (), (), Vault(Practice, {}), Vault(Anchor, {}), Vault(Exam, {}))
    for part in PARTS.keys() - given.keys():
        tasks = _put(tasks, part, parts[part], asked[part] or _CAPS.get(part))
    if unused := sum(len(parts[part]) for part in held) - len(tasks.anchor) - len(tasks.exam):
        kept = f"{len(tasks.anchor)} anchor and {len(tasks.exam)} exam tasks"
        warnings.warn(f"{shown(spec)}: {kept} are used, {unused} more held-out rows are not: see n_anchor, n_exam", stacklevel=3)
    return tasks


def _part(row: Row) -> str:
    place = int(_digest(row.puzzle or row.prompt)[:8], 16) / 16**8  # all that one puzzle asks is of one kind
    return "exam" if place < _EXAM else "anchor" if place < _EXAM + _ANCHOR else "practice"


def _digest(prompt: Any) -> str:
    text = text_of(prompt)
    return hashlib.sha256((" ".join(tokens(text)) or text).encode()).hexdigest()


def _require_answers(name: str, parts: Mapping[str, list[Row]], held: Sequence[str]) -> None:
    missing = [part for part in held if not parts[part]]
    if not missing:
        return
    files = " and ".join(f"--{part} FILE" for part in missing)
    answered = sum(row.answer is not None for rows in parts.values() for row in rows)
    if not answered:
        raise UserError(
            f"{name}: no row has an answer, so it can only be practice; give {files} with answers: "
            "without sealed answers nothing can be promoted"
        )
    raise UserError(
        f"{name}: {answered} rows with answers are too few to split, none fell to {' and '.join(missing)}; "
        f"add rows (100 or more are sensible) or give {files}"
    )


# -- rows to tasks


def _in_place(tasks: TaskSet, part: str, path: str) -> list[Row]:
    rows = _rows(path)
    without = [row.line for row in rows if row.answer is None]
    if without and part != "practice":
        what = f"no answer ({len(without)} of {len(rows)} rows have none)"
        raise UserError(f"{shown(path)}:{without[0]}: {what}: every {part} task of {tasks.name} needs one, it is measured on")
    return rows


def _put(tasks: TaskSet, part: str, rows: Sequence[Row], n: int | None) -> TaskSet:
    """`tasks` with `rows` as its `part`: practice whole, held-out parts the first `n` in the order of their hashes."""
    if part != "practice":
        rows = sorted(rows, key=lambda row: _digest(row.prompt))[:n]
    like = next(iter((*tasks.exam, *tasks.anchor, *tasks.practice)), Exam("", ""))
    made = tuple(_task(PARTS[part], row, like) for row in rows)
    vault = Vault(PARTS[part], {row.id: row.answer for row in rows if row.answer is not None})
    return replace(
        tasks, **{part: made, f"{part}_vault": vault}, **(reading(tasks, rows) if any(row.puzzle for row in rows) else {})
    )


def _task(kind: type[Task], row: Row, like: Task) -> Task:
    if not isinstance(row.prompt, str):  # messages go through the chat template
        return kind(id=row.id, prompt=row.prompt, tags=row.tags)
    if row.puzzle:
        return kind(id=row.id, prompt=row.prompt, completion=True, check="exact")
    return kind(id=row.id, prompt=row.prompt, tags=row.tags, shots=like.shots, completion=like.completion)


def _chosen(practice: Sequence[Practice], seed: int, n: int | None) -> tuple[Practice, ...]:
    rng = Random(f"order {seed}")
    return tuple(sorted(practice, key=lambda _: rng.random())[:n])


def _warn_of_few(tasks: TaskSet, asked: Mapping[str, int | None], given: Mapping[str, str]) -> None:
    if tasks.name in FAMILIES or tasks.name.partition(":")[0] in ("gym", "arc"):
        asked = {part: asked[part] for part in given}  # of what it generates, a generator has said so itself
    sizes = {part: (len(getattr(tasks, part)), n) for part, n in asked.items() if n is not None}
    few = [f"{size} {part} tasks instead of {n}" for part, (size, n) in sizes.items() if size < n]
    if few:
        warnings.warn(f"{tasks.name}: {', '.join(few)}", stacklevel=3)


# -- apart


def _apart(tasks: TaskSet, origin: Mapping[str, str]) -> TaskSet:
    """Without anchors near exam tasks and practice near either. Compares with all held-out tasks at once, as the fence does."""
    tasks = _dropped(tasks, "anchor", {"exam": tasks.exam}, origin)
    return _dropped(tasks, "practice", {"anchor": tasks.anchor, "exam": tasks.exam}, origin)


def _dropped(tasks: TaskSet, part: str, held: Mapping[str, Sequence[Task]], origin: Mapping[str, str]) -> TaskSet:
    there = [(other, task) for other, others in held.items() for task in others]
    texts = texts_of(replace(task, id=str(i)) for i, (_, task) in enumerate(there))
    index, retold = Index(texts), Paraphrases(texts)

    def near(text: str) -> str | None:
        other = retold.hit(text)
        return index.hit(text) or (other.id if other is not None and other.sure else None)

    mine = [(task, text) for task in getattr(tasks, part) for _, text in texts_of([task])]
    hits = [(task, there[int(hit)]) for task, text in mine if (hit := near(text)) is not None]
    if origin[part].lower().endswith(SUFFIXES):  # a file can be mended, a generator or a hub dataset cannot
        across = [(task.id, theirs.id, other) for task, (other, theirs) in hits if origin[other] != origin[part]]
        _refuse_across(part, across, origin)
    dropped = {task.id for task, _ in hits}
    left = tuple(task for task in getattr(tasks, part) if task.id not in dropped)
    if not left:
        raise UserError(f"{origin[part]}: no {part} task is left that is not a held-out task or near one: give other rows")
    if dropped:
        what = f"{len(dropped)} {part} tasks near held-out ones were dropped ({_some(dropped)})"
        warnings.warn(f"{origin[part]}: {what}", stacklevel=4)
    return replace(tasks, **{part: left})


def _refuse_across(part: str, hits: Sequence[tuple[str, str, str]], origin: Mapping[str, str]) -> None:
    if not hits:
        return
    other = hits[0][2]
    pairs = ", ".join(f"{short(mine)} = {short(theirs)}" for mine, theirs, _ in hits[:3]) + (", ..." if len(hits) > 3 else "")
    what = f"{len(hits)} {part} tasks of {origin[part]} also stand in the {other} tasks of {origin[other]}"
    raise UserError(f"{what} ({part} = {other}: {pairs}): take them out of one of the two")


def _some(ids: Iterable[str]) -> str:
    chosen = sorted(ids)
    return ", ".join(map(short, chosen[:3])) + (", ..." if len(chosen) > 3 else "")
