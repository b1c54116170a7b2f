"""How much a score may tell: the Ladder (Blum and Hardt 2015, arXiv 1502.04585, algorithm 1), with noise and a budget.

Whoever may ask for scores as often as he likes reads the answers out of them: change one answer, see whether the score moves.
Rounding does not help, since a submission can be parked where one answer more tips it over. Here

* a score is told only if it beats the best told so far by a step, and then rounded to a whole number of steps; otherwise the
  best is told again, so that a worse submission teaches nothing but that it is no better;
* a step is two standard errors of a share: [root of n] steps for n tasks. Luck alone seldom climbs one;
* noise of up to half a step is added before that, from a secret and the submission: nobody can park at an edge he cannot see;
* the budget is finite. Told again for the same submission, a score is the same and costs nothing.

What T questions can tell about the answers is one of the rising paths of T levels in 0 ... L: log2 C(T + L, L) bits, never more
than T log2(L + 1). The gain of an attack is therefore bounded whatever it does: k bits make what was a chance of p at most 2^k p.
Of two hundred tasks and 20 questions these are 30 bits; what known attacks make of them stands in `tests/test_service.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Callable, Mapping

from antaeus.errors import UserError


class Ladder:
    """Tells scores of submissions at `tasks` tasks, `budget` times. Keep it where the answers are."""

    def __init__(self, tasks: int, budget: int) -> None:
        self.levels = levels(tasks)
        self.left = budget
        self._tasks, self._budget = tasks, budget
        self._best = 0  # in steps
        self._told: dict[bytes, float] = {}
        self._secret = secrets.token_bytes(32)

    def tell(self, submission: Mapping[str, str], right: Callable[[], int]) -> float:
        """The share to report, in whole steps. `right` counts the right answers; it is asked, and the budget charged, only for a
        submission that is new. Raises `UserError` once the budget is spent."""
        key = hashlib.blake2b(json.dumps(submission, sort_keys=True).encode(), key=self._secret).digest()
        if key not in self._told:
            if self.left == 0:
                raise UserError(f"the budget of {self._budget} scores is spent: no new submission is scored")
            self.left -= 1
            share = right() / self._tasks * self.levels + self._noise(key)
            if share >= self._best + 1:
                self._best = min(math.floor(share + 0.5), self.levels)
            self._told[key] = self._best / self.levels
        return self._told[key]

    def _noise(self, key: bytes) -> float:
        """Uniform in +-1/2 step. Not known without the secret, though the submission is."""
        return int.from_bytes(key[:8], "big") / 2**64 - 0.5


def levels(tasks: int) -> int:
    """Steps from 0 to 1: one is two standard errors of a share of one half, 2 * 0.5 / sqrt(tasks)."""
    return max(1, round(math.sqrt(tasks)))


def bits(tasks: int, budget: int) -> float:
    """What all scores together can tell about the answers, in bits: log2 of the number of paths that never fall."""
    return math.log2(math.comb(budget + levels(tasks), budget))
