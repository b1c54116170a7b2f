"""Puzzles to practise on, made of one puzzle's own demonstrations: each is the question once, the others explain it (2411.07279)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from random import Random

from antaeus.grids import Grid, Puzzle
from antaeus.moves import LARGER, SYMMETRIES, recoloured, shifted

Solved = tuple[Puzzle, Grid]
"""A puzzle with its output."""


def leave_one_out(puzzle: Puzzle, most: int, seed: str) -> list[Solved]:
    """At most `most` of them, in an order to learn in: each demonstration left out as it is, then moved ones, turned, flipped, shifted or
    larger, in other colours and with their demonstrations in another order. None of one demonstration alone."""
    if len(puzzle.pairs) < 2:
        return []
    rng, plain = Random(seed), [_without(puzzle, i) for i in range(len(puzzle.pairs))]
    made = list(islice(chain(plain, _moved(plain, rng)), most))
    rng.shuffle(made)
    return made


def reordered(puzzle: Puzzle, rng: Random) -> Puzzle:
    """Its demonstrations in another order."""
    return Puzzle(tuple(rng.sample(puzzle.pairs, len(puzzle.pairs))), puzzle.question)


def _without(puzzle: Puzzle, i: int) -> Solved:
    question, answer = puzzle.pairs[i]
    return Puzzle(puzzle.pairs[:i] + puzzle.pairs[i + 1 :], question), answer


def _moved(plain: Sequence[Solved], rng: Random) -> Iterator[Solved]:
    """Without end: each of them under every move, and again in other colours."""
    moves = [*SYMMETRIES, *LARGER, shifted(rng.randint(1, 3), rng.randint(1, 3))]
    while True:
        for move in rng.sample(moves, len(moves)):
            for puzzle, answer in plain:
                both = move.then(recoloured(rng.sample(range(10), 10)))
                yield both.on(reordered(puzzle, rng)), both.do(answer)
