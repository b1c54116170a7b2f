"""What the sections on self-edits share: practised tasks evenly over the run, a verdict in words, ways of answering side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antaeus.reporting.attempts import Index, read_at
from antaeus.reporting.figures import Interval
from antaeus.reporting.reading import Record, inside
from antaeus.reporting.wording import clip, is_number, visible

OWN = {"untrained edits (base)": "before", "learned edits (best)": "after"}


def practised(log: Path, found: Index, most: int) -> tuple[list[Record], int]:
    """At most `most` lines of practice, evenly over the run, and how many there are."""
    spots = [
        spot for (name, _), tasks in found.spots.items() if name == "practice" for of in tasks.values() for spot in of.values()
    ]
    return read_at(log, spots[:: max(1, -(-len(spots) // most))]), len(spots)


def tries(line: Record) -> list[Record]:
    return line.get("attempts") or []


def verdict_of(attempt: Record) -> Record:
    return inside(attempt, "verdict")


def parts_of(attempt: Record) -> Record:
    return inside(attempt, "verdict", "parts")


def score(value: Any) -> str:
    return f"{value:.2f}" if is_number(value) else "none"


def short(text: Any, most: int) -> str:
    """Text of a log, to show: whatever it is, clipped and made visible."""
    return visible(clip(str("" if text is None else text), most)[0])


def baselines(summary: Record) -> list[Interval]:
    """Ways of answering the exam that were never judged, and the run's own; none where no other way was measured."""
    told, exam = inside(summary, "baselines"), inside(summary, "exam")
    rows = [(name, inside(told, name).get("accuracy"), inside(told, name).get("ci")) for name in told]
    rows += [(name, exam.get(key), exam.get(f"{key}_ci")) for name, key in OWN.items()]
    drawn = [_interval(*row) for row in rows]
    return [row for row in drawn if row] if told else []


def _interval(name: str, value: Any, ci: Any) -> Interval | None:
    low, high = ci if isinstance(ci, list) and len(ci) == 2 else (None, None)
    return Interval(short(name, 80), value, low, high) if is_number(value) and is_number(low) and is_number(high) else None
