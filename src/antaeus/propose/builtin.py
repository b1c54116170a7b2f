"""Seeded arithmetic: practice, anchors and exam that share no task, not even with swapped operands.

Every family is cut once and for all (`antaeus.arithmetic`), whatever seed and sizes are asked for. Exam and anchors are prefixes of
their pools, the same for every seed, so that runs can be compared and a model trained on one run's practice has not seen another
run's exam. The seed chooses and orders the practice tasks only.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from itertools import permutations
from random import Random
from typing import TypeVar

from antaeus.arithmetic import FAMILIES, Case, Family, pools
from antaeus.errors import UserError
from antaeus.types import Anchor, Exam, Practice, Task, TaskSet, Vault

_Kind = TypeVar("_Kind", bound=Task)


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
    cases = pools(name)
    practice = _practice(FAMILIES[name], cases[Practice], seed, n_practice)
    anchor, exam = cases[Anchor][:n_anchor], cases[Exam][:n_exam]
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
