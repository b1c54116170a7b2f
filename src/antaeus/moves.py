"""Moves on grids that can be taken back: what makes many puzzles of one (test-time training on ARC, 2411.07279)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from antaeus.grids import Grid, Puzzle


@dataclass(frozen=True)
class Move:
    """`undo(do(g))` is `g`, for every grid. A `whole` move takes all grids to all grids, so that `do(undo(g))` is `g` too: what was
    answered under it can be taken back whatever it is."""

    name: str
    do: Callable[[Grid], Grid]
    undo: Callable[[Grid], Grid]
    whole: bool = True

    def on(self, puzzle: Puzzle) -> Puzzle:
        """The puzzle with every grid moved."""
        return Puzzle(tuple((self.do(a), self.do(b)) for a, b in puzzle.pairs), self.do(puzzle.question))

    def then(self, other: Move) -> Move:
        """First this one, then the other."""
        return Move(
            f"{self.name}+{other.name}",
            lambda g: other.do(self.do(g)),
            lambda g: self.undo(other.undo(g)),
            self.whole and other.whole,
        )


def _transpose(grid: Grid) -> Grid:
    return tuple(zip(*grid, strict=True))


def _flip(grid: Grid) -> Grid:
    return grid[::-1]


def _mirror(grid: Grid) -> Grid:
    return tuple(row[::-1] for row in grid)


def _turn(grid: Grid) -> Grid:
    return _transpose(_flip(grid))


def _back(grid: Grid) -> Grid:
    return _flip(_transpose(grid))


def _half_turn(grid: Grid) -> Grid:
    return _mirror(_flip(grid))


def _other_transpose(grid: Grid) -> Grid:
    return _half_turn(_transpose(grid))


SYMMETRIES = (
    Move("as it is", lambda g: g, lambda g: g),
    Move("turned", _turn, _back),
    Move("turned twice", _half_turn, _half_turn),
    Move("turned back", _back, _turn),
    Move("flipped", _flip, _flip),
    Move("mirrored", _mirror, _mirror),
    Move("transposed", _transpose, _transpose),
    Move("transposed the other way", _other_transpose, _other_transpose),
)
"""Those of the square, the identity first."""


def _doubled(grid: Grid) -> Grid:
    return tuple(tuple(c for c in row for _ in range(2)) for row in grid for _ in range(2))


def _halved(grid: Grid) -> Grid:
    return tuple(row[::2] for row in grid[::2])


def _left(grid: Grid) -> Grid:
    return tuple(row[: (len(row) + 1) // 2] for row in grid)


LARGER = (
    Move("doubled", _doubled, _halved, whole=False),
    Move("repeated", lambda g: tuple(row + row for row in g), _left, whole=False),
    Move("reflected", lambda g: tuple(row + row[::-1] for row in g), _left, whole=False),
)
"""To larger grids: to learn from only, since not every answer is one of theirs."""


def shifted(down: int, right: int) -> Move:
    """Every cell moved, round the edge."""

    def by(down: int, right: int) -> Callable[[Grid], Grid]:
        def roll(grid: Grid) -> Grid:
            rows = _rolled(grid, down)
            return tuple(_rolled(row, right) for row in rows)

        return roll

    return Move(f"shifted {down},{right}", by(down, right), by(-down, -right))


def _rolled(cells, by: int):
    at = -by % len(cells)
    return cells[at:] + cells[:at]


def recoloured(colours: Sequence[int]) -> Move:
    """Colour c becomes colours[c]; a permutation of 0 to 9."""
    back = [0] * len(colours)
    for old, new in enumerate(colours):
        back[new] = old

    def through(table: Sequence[int]) -> Callable[[Grid], Grid]:
        return lambda grid: tuple(tuple(table[c] for c in row) for row in grid)

    return Move("recoloured", through(colours), through(back))
