"""Moves on grids that can be taken back: what makes many puzzles of one (test-time training on ARC, 2411.07279; SEAL, 2506.10943)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

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


def _wider(grid: Grid) -> Grid:
    return tuple(tuple(c for c in row for _ in range(2)) for row in grid)


def _taller(grid: Grid) -> Grid:
    return tuple(row for row in grid for _ in range(2))


def _every_other_row(grid: Grid) -> Grid:
    return grid[::2]


def _every_other_column(grid: Grid) -> Grid:
    return tuple(row[::2] for row in grid)


def _left(grid: Grid) -> Grid:
    return tuple(row[: (len(row) + 1) // 2] for row in grid)


def _right(grid: Grid) -> Grid:
    return tuple(row[len(row) // 2 :] for row in grid)


def _top(grid: Grid) -> Grid:
    return grid[: (len(grid) + 1) // 2]


def _bottom(grid: Grid) -> Grid:
    return grid[len(grid) // 2 :]


WIDER = Move("wider", _wider, _every_other_column, whole=False)
TALLER = Move("taller", _taller, _every_other_row, whole=False)
DOUBLED = replace(TALLER.then(WIDER), name="doubled")
REPEATED = Move("repeated", lambda g: tuple(row + row for row in g), _left, whole=False)
REPEATED_DOWN = Move("repeated below", lambda g: g + g, _top, whole=False)
REFLECTED = Move("reflected", lambda g: tuple(row + row[::-1] for row in g), _left, whole=False)

REFLECTIONS = (
    REFLECTED,
    Move("reflected to the left", lambda g: tuple(row[::-1] + row for row in g), _right, whole=False),
    Move("reflected below", lambda g: g + g[::-1], _top, whole=False),
    Move("reflected above", lambda g: g[::-1] + g, _bottom, whole=False),
)

LARGER = (DOUBLED, REPEATED, REFLECTED)
"""To larger grids: to learn from only, since not every answer is one of theirs."""

AUGMENTERS = {
    "basic": (*SYMMETRIES[1:7], *REFLECTIONS),
    "size": (DOUBLED, TALLER, WIDER),
    "chain": tuple(move.then(DOUBLED) for move in SYMMETRIES[1:7]),
    "repeat": (REPEATED_DOWN, REPEATED, replace(REPEATED.then(REPEATED_DOWN), name="repeated both ways")),
}
"""The four groups that a self-edit switches on or off (SEAL, 2506.10943); to the basic ones comes a random shift, see `augmenters`."""


def augmenters(group: str, rng: Random) -> tuple[Move, ...]:
    """Those of a group: 11 "basic", 3 "size", 6 "chain", 3 "repeat"."""
    shift = (shifted(rng.randint(1, 3), rng.randint(1, 3)),) if group == "basic" else ()
    return (*AUGMENTERS[group], *shift)


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
