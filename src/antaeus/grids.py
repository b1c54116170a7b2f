"""Puzzles of coloured grids (ARC, 1911.01547) as text, and back: pairs of grids by one hidden rule, and a grid to apply it to.

A grid stands in one line, a digit a cell, a bar around each row: |077|770|. So an attempt at it ends with its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Grid = tuple[tuple[int, ...], ...]
"""Rows of colours, 0 to 9; none of them empty, all equally long."""
LARGEST = 30  # rows, and columns, of a grid of ARC

_GRID = r"\|(?:[0-9]+\|)+"
_PAIR = re.compile(rf"Input: ({_GRID})\nOutput: ({_GRID})\n\n")
_QUESTION = re.compile(rf"Input: ({_GRID})\nOutput:")


@dataclass(frozen=True, slots=True)
class Puzzle:
    """Demonstrations (input, output), and the input whose output is asked for."""

    pairs: tuple[tuple[Grid, Grid], ...]
    question: Grid


def oversized(puzzle: Puzzle, *others: Grid) -> Grid | None:
    """The first grid with more than 30 rows or columns; None where there is none."""
    grids = (*(grid for pair in puzzle.pairs for grid in pair), puzzle.question, *others)
    return next((grid for grid in grids if max(len(grid), len(grid[0])) > LARGEST), None)


def show(grid: Grid) -> str:
    """A grid's line."""
    return "|" + "".join("".join(map(str, row)) + "|" for row in grid)


def parse(text: str) -> Grid | None:
    """The grid that `text` is; None where it is no grid, or its rows are not equally long."""
    if not re.fullmatch(_GRID, line := text.strip()):
        return None
    rows = tuple(tuple(map(int, row)) for row in line.strip("|").split("|"))
    return rows if len({len(row) for row in rows}) == 1 else None


def prompt_of(puzzle: Puzzle) -> str:
    """The text that is to be continued with the question's output."""
    shown = "".join(f"Input: {show(a)}\nOutput: {show(b)}\n\n" for a, b in puzzle.pairs)
    return f"{shown}Input: {show(puzzle.question)}\nOutput:"


def puzzle_of(prompt: object) -> Puzzle | None:
    """The puzzle that a prompt is, as `prompt_of` writes it; None where it is none."""
    if not isinstance(prompt, str):
        return None
    end = 0
    pairs = []
    while pair := _PAIR.match(prompt, end):
        pairs.append((parse(pair[1]), parse(pair[2])))
        end = pair.end()
    asked = _QUESTION.fullmatch(prompt, end)
    grids = [*(g for pair in pairs for g in pair), asked and parse(asked[1])]
    if not pairs or None in grids:
        return None
    return Puzzle(tuple(pairs), grids[-1])  # type: ignore[arg-type]
