"""Files of ARC puzzles in the public format: one JSON object, {"id": {"train": [{"input", "output"}, ...], "test": [...]}, ...}.

Outputs of test inputs stand in the file itself, or beside it in the file of the same name with "solutions" for "challenges"; without
either, a puzzle is one that nobody knows the answer of.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from antaeus.errors import UserError
from antaeus.grids import LARGEST, Grid, Puzzle, prompt_of, show
from antaeus.propose.files import shown
from antaeus.propose.rows import Row, short
from antaeus.types import TaskSet

_MOST = 64 << 20  # bytes
_SUFFIXES = (".json", ".json.gz")  # one object, which lines of rows are not


def read_puzzles(path: str) -> list[Row] | None:
    """A row for every test input of every puzzle; None where the file is none of this format. Raises `UserError` that names the grid, for
    grids that are none of 1 x 1 to 30 x 30 colours from 0 to 9, puzzles without demonstrations, solutions of another number."""
    found = _object(Path(path))
    if not found or not all(isinstance(task, dict) and "train" in task and "test" in task for task in found.values()):
        return None
    beside = Path(path).with_name(Path(path).name.replace("challenges", "solutions"))
    solutions = (_object(beside) if beside != Path(path) else None) or {}
    return [row for name, task in found.items() for row in _rows(shown(path), name, task, solutions.get(name))]


def reading(tasks: TaskSet, rows: Sequence[Row]) -> dict[str, Any]:
    """How a set that gets these rows reads answers: a grid is one line."""
    known = tasks.max_tokens if tasks.extract == "line" else 0
    return {"max_tokens": max(known, *(2 + len(row.answer or "") for row in rows)), "stop": ("\n",), "extract": "line"}


def _object(path: Path) -> dict[str, Any] | None:
    name = path.name.lower()
    if not path.is_file() or not name.endswith(_SUFFIXES) or path.stat().st_size > _MOST:
        return None
    try:
        with gzip.open(path) if name.endswith(".gz") else path.open("rb") as file:
            found = json.loads(file.read(_MOST))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return None  # whoever reads it for rows says what is wrong
    return found if isinstance(found, dict) else None


def _rows(file: str, name: str, task: dict[str, Any], solutions: Any) -> Iterator[Row]:
    where = f"{file}: puzzle {short(name)}"
    for part in ("train", "test"):
        if not isinstance(task[part], list) or not all(isinstance(pair, dict) for pair in task[part]) or not task[part]:
            raise UserError(f"{where} has no {'demonstrations' if part == 'train' else 'test input'}: '{part}' must list some")
    if solutions is not None and (not isinstance(solutions, list) or len(solutions) != len(task["test"])):
        raise UserError(f"{where} has {len(task['test'])} test inputs, and its solutions are not as many")
    pairs = tuple(
        (
            _grid(f"{where}, demonstration {i}, input", pair.get("input")),
            _grid(f"{where}, demonstration {i}, output", pair.get("output")),
        )
        for i, pair in enumerate(task["train"], 1)
    )
    for i, pair in enumerate(task["test"]):
        prompt = prompt_of(Puzzle(pairs, _grid(f"{where}, test {i + 1}, input", pair.get("input"))))
        given = pair.get("output") if solutions is None else solutions[i]
        answer = None if given is None else show(_grid(f"{where}, test {i + 1}, output", given))
        yield Row(f"{name}/{i}", prompt, answer, (), 0, puzzle=name)


def _grid(where: str, value: Any) -> Grid:
    rows = value if isinstance(value, list) and value and all(isinstance(row, list) and row for row in value) else None
    if rows is None or len({len(row) for row in rows}) > 1:
        raise UserError(f"{where}: no grid; write rows of equal length, such as [[0, 1], [2, 3]]")
    if max(len(rows), len(rows[0])) > LARGEST:
        raise UserError(f"{where}: {len(rows)} x {len(rows[0])}, and grids have at most {LARGEST} x {LARGEST}")
    if strays := [cell for row in rows for cell in row if type(cell) is not int or not 0 <= cell <= 9]:
        raise UserError(f"{where}: {repr(strays[0])[:40]} is no colour; colours are whole numbers from 0 to 9")
    return tuple(tuple(row) for row in rows)
