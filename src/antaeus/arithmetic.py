"""Families of sums, and the one cut of each into what may be learned from and what is only measured on.

The domain of a family is cut once and for all by a fixed permutation: half of it can only ever be exam, a sixth anchor, a third
practice. Operands in another order are the same case: {34, 57} belongs to one kind for good.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from random import Random

from antaeus.types import Anchor, Exam, Practice, Task

Case = tuple[int, ...]
"""The operands of one task, in the order in which they are shown."""

_DRAWS = 20_000  # the domain is what so many draws find: every case of a small one, as many as anyone needs of a large one


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of sum: operands from `low` to `high`, joined by `sign`. `shots` are the operands of its worked examples."""

    about: str
    low: int
    high: int
    sign: str
    shots: tuple[Case, Case, Case, Case]

    @property
    def swaps(self) -> bool:
        return self.sign != "-"

    def draw(self, rng: Random) -> Case:
        """One case. `Random.random` is the one method whose sequence Python promises to keep."""
        case = tuple(self.low + int(rng.random() * (self.high + 1 - self.low)) for _ in self.shots[0])
        return case if self.swaps else tuple(sorted(case, reverse=True))  # differences are never negative

    def prompt(self, case: Case) -> str:
        return f" {self.sign} ".join(map(str, case)) + " ="

    def answer(self, case: Case) -> str:
        return str({"+": sum, "-": lambda c: c[0] - c[1], "×": math.prod}[self.sign](case))

    def lines(self, cases: Iterable[Case]) -> str:
        """Cases with their answers, one a line."""
        return "".join(f"{self.prompt(case)} {self.answer(case)}\n" for case in cases)

    def shown(self) -> str:
        """The worked examples: text that stands before every prompt."""
        return self.lines(self.shots)


FAMILIES = {
    "add2": Family("two-digit addition", 10, 99, "+", ((22, 50), (58, 68), (20, 53), (28, 70))),
    "add3": Family("three-digit addition", 100, 999, "+", ((217, 425), (360, 113), (648, 236), (552, 871))),
    "mul2": Family("two-digit products", 10, 99, "×", ((12, 14), (60, 13), (48, 36), (25, 71))),
    "sub2": Family("two-digit subtraction, never below zero", 10, 99, "-", ((42, 17), (73, 60), (84, 36), (91, 52))),
    "sum3": Family("three one-digit numbers", 0, 9, "+", ((2, 5, 1), (8, 7, 6), (4, 0, 9), (3, 3, 8))),
    "times": Family("the times table from 0 to 12", 0, 12, "×", ((9, 7), (0, 7), (7, 8), (8, 6))),
}


@cache
def pools(name: str) -> dict[type[Task], tuple[Case, ...]]:
    """All cases of the family `name`, by the kind of task they may become."""
    family, rng = FAMILIES[name], Random(f"antaeus {name}")
    domain: dict[Case, Case] = {}  # sorted operands -> as first drawn, which is how they are shown
    for _ in range(_DRAWS):
        case = family.draw(rng)
        domain.setdefault(tuple(sorted(case)), case)
    for shot in family.shots:
        domain.pop(tuple(sorted(shot)), None)
    # A double is drawn half as often as a pair, so it is found later: mixed again, every pool has its share.
    cases = tuple(sorted(domain.values(), key=lambda _: rng.random()))
    half, sixth = len(cases) // 2, len(cases) // 6
    return {Exam: cases[:half], Anchor: cases[half : half + sixth], Practice: cases[half + sixth :]}
