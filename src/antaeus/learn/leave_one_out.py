"""Puzzles to practise on, made of one puzzle's own demonstrations: each is the question once, the others explain it (2411.07279; which
augmenters, SEAL leaves to a self-edit, 2506.10943)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice, permutations
from random import Random

from antaeus.grids import Grid, Puzzle, oversized
from antaeus.moves import LARGER, SYMMETRIES, Move, augmenters, recoloured, shifted

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


def left_out(puzzle: Puzzle, groups: Sequence[str], most: int, seed: str) -> list[Solved]:
    """At most `most` of them, in an order to learn in: one demonstration left out, and two, one of which is the question; these under
    every augmenter of the `groups`; and all again in other colours and another order of demonstrations. Grids are at most 30 x 30. Where
    there are more, those as they are come first, and chance chooses among the rest."""
    rng, n = Random(seed), len(puzzle.pairs)
    left = [(i,) for i in range(n) if n > 1] + [pair for pair in permutations(range(n), 2) if n > 2]
    plain = [_without(puzzle, *out) for out in left]
    moves = [None, *(move for group in groups for move in augmenters(group, rng))]
    rest = [(case, move, again) for again in (False, True) for move in moves for case in plain if again or move]
    varied = (_varied(*each, rng) for each in rng.sample(rest, len(rest)))
    made = list(islice((case for case in chain(plain, varied) if not oversized(case[0], case[1])), most))
    rng.shuffle(made)
    return made


def reordered(puzzle: Puzzle, rng: Random) -> Puzzle:
    """Its demonstrations in another order."""
    return Puzzle(tuple(rng.sample(puzzle.pairs, len(puzzle.pairs))), puzzle.question)


def _without(puzzle: Puzzle, i: int, *others: int) -> Solved:
    """Demonstration `i` as the question, without it and the `others`."""
    question, answer = puzzle.pairs[i]
    return Puzzle(tuple(pair for j, pair in enumerate(puzzle.pairs) if j not in (i, *others)), question), answer


def _varied(case: Solved, move: Move | None, again: bool, rng: Random) -> Solved:
    """Moved, if there is a move; `again`: in other colours and another order of demonstrations."""
    puzzle, answer = case
    if again:
        colours = recoloured(rng.sample(range(10), 10))
        puzzle, answer = colours.on(reordered(puzzle, rng)), colours.do(answer)
    return (move.on(puzzle), move.do(answer)) if move else (puzzle, answer)


def _moved(plain: Sequence[Solved], rng: Random) -> Iterator[Solved]:
    """Without end: each of them under every move, and again in other colours."""
    moves = [*SYMMETRIES, *LARGER, shifted(rng.randint(1, 3), rng.randint(1, 3))]
    while True:
        for move in rng.sample(moves, len(moves)):
            for puzzle, answer in plain:
                both = move.then(recoloured(rng.sample(range(10), 10)))
                yield both.on(reordered(puzzle, rng)), both.do(answer)
