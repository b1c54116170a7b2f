"""Is somebody reading the answers out of a score? Patterns in the queries to a service that says how many of n answers are right.

Each score tells at most log2(n + 1) bits of the key. One answer flipped at a time tells that answer; halves of the flips, halved
again, find the wrong ones (Blum and Hardt 2015 treat the general case). Honest use is few submissions that differ in much.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from antaeus.guard.findings import Finding

RULE = "queries"
FLIPS = 3  # submissions that differ from an earlier one in a single answer; two corrections may be honest
HALVINGS = 3  # submissions in a row that each change half of what the one before changed
TILES = 4  # submissions in a row that change as many answers each, none twice
SWEEP, SWEEP_SHARE = 6, 0.05  # submissions that differ from an earlier one in at most this share of the answers

Answers = Mapping[str, str]


def probing(log: Sequence[Answers] | None) -> list[Finding]:
    """Findings about the submissions of one candidate in order of time, each task id -> answer. No log (None) is fatal."""
    if log is None:
        return [Finding(RULE, "fatal", "there is no log of what was submitted to the score service")]
    changes = [_changes(log, k) for k in range(1, len(log))]
    nearest = [min(row, key=len) for row in changes]
    n = max((len(answers) for answers in log), default=0)
    return [*_flips(nearest), *_blocks(changes), *_sweeps(nearest, n), *_bits(len(set(map(_frozen, log))), n)]


def reopened(openings: Iterable[str] | None) -> list[Finding]:
    """A fatal finding for each candidate in `openings` (one entry each time the exam was opened) that sat the exam more than once."""
    if openings is None:
        return [Finding("exam", "fatal", "there is no record of who sat the exam")]
    again = {name: times for name, times in Counter(openings).items() if times > 1}
    return [
        Finding("exam", "fatal", f"sat the exam {times} times: the best of several sittings is luck", name)
        for name, times in again.items()
    ]


def _changes(log: Sequence[Answers], k: int) -> list[frozenset[str]]:
    """Task ids on which submission k differs from each earlier one that is not the same."""
    rows = [frozenset(t for t in log[k].keys() | old.keys() if log[k].get(t) != old.get(t)) for old in log[:k]]
    return [row for row in rows if row] or [frozenset(log[k])]


def _flips(nearest: Sequence[frozenset[str]]) -> list[Finding]:
    single = [change for change in nearest if len(change) == 1]
    if len(single) < FLIPS:
        return []
    return [
        Finding(
            RULE,
            "fatal",
            f"{len(single)} submissions differ from an earlier one in a single answer, whose truth each score tells",
        )
    ]


def _blocks(changes: Sequence[Sequence[frozenset[str]]]) -> list[Finding]:
    """Against the first submission: blocks of changed answers that halve, or that tile the tasks."""
    blocks = [row[0] for row in changes if len(row[0]) > 1]
    pairs = list(pairwise(blocks))
    halving = 1 + _longest(b < a and 0.3 <= len(b) / len(a) <= 0.7 for a, b in pairs)
    tiling = 1 + _longest(not (a & b) and abs(len(a) - len(b)) <= 1 for a, b in pairs)
    found = []
    if halving >= HALVINGS:
        found.append(
            Finding(RULE, "fatal", f"{halving} submissions in a row halve a block of changed answers: a search for wrong ones")
        )
    if tiling >= TILES:
        found.append(Finding(RULE, "fatal", f"{tiling} submissions in a row change blocks of equal size, none of them twice"))
    return found


def _sweeps(nearest: Sequence[frozenset[str]], n: int) -> list[Finding]:
    near = [change for change in nearest if len(change) <= max(2, SWEEP_SHARE * n)]
    if len(near) < SWEEP:
        return []
    return [
        Finding(RULE, "fatal", f"{len(near)} submissions differ from an earlier one in at most {SWEEP_SHARE:.0%} of the answers")
    ]


def _bits(queries: int, n: int) -> list[Finding]:
    told = queries * math.log2(n + 1)
    if not n or told < n:
        return []
    return [Finding(RULE, "warning", f"{queries} scores of {n} answers tell up to {told:.0f} bits: enough to learn every answer")]


def _longest(signs: Iterable[bool]) -> int:
    best = run = 0
    for sign in signs:
        run = run + 1 if sign else 0
        best = max(best, run)
    return best


def _frozen(answers: Answers) -> frozenset[tuple[str, str]]:
    return frozenset(answers.items())
