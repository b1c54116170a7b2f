"""Seeded arithmetic: practice, anchors and exam that share no task, not even with swapped operands.

The domain of a family is cut once and for all by a fixed permutation: half of it can only ever be exam, a sixth anchor, a third
practice, whatever seed and sizes are asked for. Exam and anchors are prefixes of their pools, the same for every seed, so that
runs can be compared and a model trained on one run's practice has not seen another run's exam. The seed chooses and orders
the practice tasks only. Operands in another order are the same case: {34, 57} belongs to one kind for good.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from random import Random
from typing import TypeVar

from antaeus.errors import UserError
from antaeus.types import Anchor, Exam, Practice, Task, TaskSet, Vault

Case = tuple[int, ...]
"""The operands of one task, in the order in which they are shown."""

_Kind = TypeVar("_Kind", bound=Task)
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

    def shown(self) -> str:
        """The worked examples, one a line: text that stands before every prompt."""
        return "".join(f"{self.prompt(case)} {self.answer(case)}\n" for case in self.shots)


FAMILIES = {
    "add2": Family("two-digit addition", 10, 99, "+", ((22, 50), (58, 68), (20, 53), (28, 70))),
    "add3": Family("three-digit addition", 100, 999, "+", ((217, 425), (360, 113), (648, 236), (552, 871))),
    "mul2": Family("two-digit products", 10, 99, "×", ((12, 14), (60, 13), (48, 36), (25, 71))),
    "sub2": Family("two-digit subtraction, never below zero", 10, 99, "-", ((42, 17), (73, 60), (84, 36), (91, 52))),
    "sum3": Family("three one-digit numbers", 0, 9, "+", ((2, 5, 1), (8, 7, 6), (4, 0, 9), (3, 3, 8))),
    "times": Family("the times table from 0 to 12", 0, 12, "×", ((9, 7), (0, 7), (7, 8), (8, 6))),
}


def names() -> dict[str, str]:
    """Built-in families: name -> one line about it."""
    return {name: family.about for name, family in FAMILIES.items()}


def builtin(name: str, seed: int, n_practice: int = 256, n_anchor: int = 64, n_exam: int = 200) -> TaskSet:
    """A built-in family as completion tasks with four fixed worked examples; its answers are sealed as decimal strings.

    Where the practice pool has fewer cases than asked for, its cases are shown in every order of their operands. Where a
    pool is still too small ("times": 30 practice cases, 14 anchors, 43 exam tasks) all of it is used, with a warning that
    says the sizes. Raises `UserError` for an unknown name or a size below 1.
    """
    if name not in FAMILIES:
        raise UserError(f"there are no built-in tasks {name!r}{meant(name, FAMILIES)}")
    require_sizes(n_practice=n_practice, n_anchor=n_anchor, n_exam=n_exam)
    pools = _pools(name)
    practice = _practice(FAMILIES[name], pools[Practice], seed, n_practice)
    anchor, exam = pools[Anchor][:n_anchor], pools[Exam][:n_exam]
    got, asked = (len(practice), len(anchor), len(exam)), (n_practice, n_anchor, n_exam)
    if got != asked:
        warnings.warn(f"{name} is small: {got} practice, anchor and exam tasks instead of {asked}", stacklevel=2)
    return TaskSet(
        name=name,
        practice=_tasks(Practice, name, practice),
        anchor=_tasks(Anchor, name, anchor),
        exam=_tasks(Exam, name, exam),
        practice_vault=_vault(Practice, name, practice),
        anchor_vault=_vault(Anchor, name, anchor),
        exam_vault=_vault(Exam, name, exam),
        max_tokens=8,
        stop=("\n",),
        extract="number",
    )


def require_sizes(**sizes: int) -> None:
    """Raises `UserError` for the first of `sizes` that is not a whole number of at least 1."""
    for field, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UserError(f"{field} = {size!r}: give a whole number of at least 1")


def meant(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what may have been meant, else all there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else f"; there are {', '.join(known)}"


@cache
def _pools(name: str) -> dict[type[Task], tuple[Case, ...]]:
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


def _practice(family: Family, pool: tuple[Case, ...], seed: int, n: int) -> list[Case]:
    if n > len(pool) and family.swaps:
        pool = tuple(dict.fromkeys(order for case in pool for order in permutations(case)))
    rng = Random(f"practice {seed}")
    return sorted(pool, key=lambda _: rng.random())[:n]


def _tasks(kind: type[_Kind], name: str, cases: Iterable[Case]) -> tuple[_Kind, ...]:
    family, shots = FAMILIES[name], FAMILIES[name].shown()
    return tuple(kind(id=_id(name, c), prompt=family.prompt(c), shots=shots, completion=True) for c in cases)


def _vault(kind: type[Task], name: str, cases: Iterable[Case]) -> Vault:
    return Vault(kind, {_id(name, case): FAMILIES[name].answer(case) for case in cases})


def _id(name: str, case: Case) -> str:
    return f"{name}:{FAMILIES[name].sign.join(map(str, case))}"
