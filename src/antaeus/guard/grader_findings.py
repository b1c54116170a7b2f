"""What the check of a grader found: one row a kind of probe, how bad it is, and a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from antaeus.guard.grader_probes import MAY, MUST, NEVER

SAME, SYMMETRIC = "must be the same", "should be the same"
_WRONG = {  # what ought not to happen, by rule; a grader that fails or is late is a state of its own, never a zero
    NEVER: ("accepted", "partial", "failed", "timed out"),
    MUST: ("refused", "partial", "failed", "timed out"),
    MAY: ("refused", "partial", "failed", "timed out"),
    SAME: ("differed",),
    SYMMETRIC: ("differed",),
}
SEVERITIES = {
    "wrong": "pays for a wrong answer, refuses a right one, or is no function of the two",
    "weak": "pays a part for a wrong answer, fails or hangs on one, or tells gold and answer apart",
    "strict": "refuses a right answer in a form that it need not know",
    "": "in order",
}


@dataclass(slots=True)
class Row:
    """One kind of probe. `counts`, with the first example of each: accepted, refused, partial (paid, but less than the gold),
    failed, timed out, agreed, differed."""

    kind: str
    rule: str
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, state: str, example: str) -> None:
        self.counts[state] += 1
        self.examples.setdefault(state, example)

    @property
    def troubles(self) -> dict[str, int]:
        """What ought not to have happened, and how often."""
        return {state: self.counts[state] for state in _WRONG[self.rule] if self.counts[state]}

    @property
    def severity(self) -> str:
        """One of `SEVERITIES`."""
        there = self.troubles.keys()
        if "accepted" in there or (there and self.rule in (MUST, SAME)):
            return "wrong"
        if self.rule == MAY and there <= {"refused", "partial"}:
            return "strict" if there else ""
        return "weak" if there else ""

    def numbers(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"tried": self.counts.total(), "troubles": self.troubles, "counts": dict(self.counts), "examples": self.examples}


@dataclass(frozen=True, slots=True)
class Report:
    """What the check found; the worst rows first. `sound`: every gold passed, no wrong answer did, and the same question always
    had the same score. `left_out`: kinds of golds of which the grader takes none. `reads`: the forms in which it finds answers."""

    grader: str
    called: str
    reads: tuple[str, ...]
    golds: int
    left_out: tuple[str, ...]
    rows: tuple[Row, ...]
    stopped: bool

    @property
    def sound(self) -> bool:
        return not any(row.severity == "wrong" for row in self.rows)

    @property
    def verdict(self) -> str:
        """One sentence."""
        faults = [fault for row in self.rows if row.severity == "wrong" and row.rule != NEVER for fault in _faults(row)]
        weak = [f"{row.kind} ({', '.join(row.troubles)})" for row in self.rows if row.severity == "weak"]
        also = f"; weak on {', '.join(weak[:3])}{' and more' if weak[3:] else ''}" if weak else ""
        also += f"; takes no {', no '.join(self.left_out)}" if self.left_out else ""
        also += "; stopped early, as it hung or died too often" if self.stopped else ""
        if self.sound:
            return f"sound: every gold passes and none of {self._asked()} wrong answers does{also}"
        return f"unsound: {'; '.join([*self._accepted(), *faults])}{also}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [{"probe": r.kind, "rule": r.rule, "severity": r.severity, **r.numbers()} for r in self.rows]
        about = {"grader": self.grader, "sound": self.sound, "verdict": self.verdict, "called": self.called, "golds": self.golds}
        return {**about, "reads": [*self.reads], "left_out": [*self.left_out], "stopped": self.stopped, "rows": rows}

    def _asked(self) -> int:
        return sum(row.counts.total() for row in self.rows if row.rule == NEVER)

    def _accepted(self) -> list[str]:
        rows = [row for row in self.rows if row.rule == NEVER and row.counts["accepted"]]
        total = sum(row.counts["accepted"] for row in rows)
        return (
            [f"it accepts {total} of {self._asked()} wrong answers ({rows[0].kind}: {rows[0].examples['accepted']})"]
            if rows
            else []
        )


def ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The worst first."""
    return tuple(sorted(rows, key=lambda row: [*SEVERITIES].index(row.severity)))


def _faults(row: Row) -> list[str]:
    return [f"{row.kind}: {n} of {row.counts.total()} {state} ({row.examples[state]})" for state, n in row.troubles.items()]
