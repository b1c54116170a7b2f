"""Puzzles that were practised on: drawn, with the settings that self-edits chose, what became of each, and what its adapter answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antaeus.grids import Puzzle, parse, puzzle_of
from antaeus.learn import self_edit
from antaeus.learn.bounds import Bounds, Settings
from antaeus.reporting.attempts import Index
from antaeus.reporting.boards import board
from antaeus.reporting.edits import baselines, parts_of, practised, score, short, tries, verdict_of
from antaeus.reporting.reading import Record, Run
from antaeus.reporting.wording import plain

PUZZLES = 12  # shown, evenly over the run
PAIRS = 6  # demonstrations drawn of each
EDITS = 16  # different self-edits of each
ANSWER = 80  # pixels: the longest side of an answer, which stand in a table below one another
CHARACTERS = 240  # of an edit that could not be read, of a reason, of an answer that is no grid
ANYTHING = Bounds(lowest_rate=-1e300, highest_rate=1e300, most_epochs=10**300)  # what was refused is shown as well
FATES = ("kept", "not kept", "refused")


def tried(run: Run, log: Path, found: Index) -> dict[str, Any] | None:
    """For the page, of a run with self-edits for puzzles; None for another."""
    lines, of = practised(log, found, PUZZLES)
    puzzles = [(line, puzzle) for line in lines if (puzzle := puzzle_of(line["task"].get("prompt")))]
    if not any(_is_edit(a) for line, _ in puzzles for a in tries(line)):
        return None
    return {"puzzles": [_puzzle(*pair) for pair in puzzles], "of": of, "baselines": baselines(run.summary)}


def _puzzle(line: Record, puzzle: Puzzle) -> dict[str, Any]:
    rows = _edits(tries(line))
    return {
        "round": line.get("round"), "id": short(line["task"].get("id"), 80), "question": board(puzzle.question, "the question's input"),
        "pairs": [(board(a, "input"), board(b, "output")) for a, b in puzzle.pairs[:PAIRS]], "more_pairs": len(puzzle.pairs) - PAIRS,
        "edits": rows[:EDITS], "more_edits": len(rows) - EDITS,
        "kept": sum(row["times"] for row in rows if row["fate"] == "kept"), "tries": len(tries(line)),
    }  # fmt: skip


def _edits(attempts: Sequence[Record]) -> list[dict[str, Any]]:
    """One row for equal self-edits, which shared an adapter; those that were kept first, those that were refused last."""
    rows: dict[str, dict[str, Any]] = {}
    for attempt in attempts:
        same = repr([attempt.get(key) for key in ("text", "answer", "stop", "verdict")])
        rows.setdefault(same, _edit(attempt))["times"] += 1
    return sorted(rows.values(), key=lambda row: FATES.index(row["fate"]))


def _edit(attempt: Record) -> dict[str, Any]:
    verdict, settings = verdict_of(attempt), _settings(attempt)
    return {
        "chosen": _in_words(settings) if settings else "", "text": "" if settings else short(attempt.get("text"), CHARACTERS),
        "score": score(verdict.get("score")), "fate": _fate(attempt), "why": short(verdict.get("why"), CHARACTERS),
        "answer": _answer(attempt.get("answer")), "times": 0,
    }  # fmt: skip


def _fate(attempt: Record) -> str:
    """As `learn.demonstrations.kept` has it: what is right and came to an end is imitated, unless it was refused."""
    if "refused" in parts_of(attempt):
        return "refused"
    return "kept" if verdict_of(attempt).get("score") == 1.0 and attempt.get("stop") != "length" else "not kept"


def _answer(answer: Any) -> dict[str, str]:
    grid = parse(answer) if isinstance(answer, str) else None
    return {
        "drawn": board(grid, "answer", ANSWER) if grid else "",
        "said": "no answer" if answer is None else short(answer, CHARACTERS),
    }


def _is_edit(attempt: Record) -> bool:
    return "refused" in parts_of(attempt) or _settings(attempt) is not None


def _settings(attempt: Record) -> Settings | None:
    read = self_edit.read(str(attempt.get("text") or ""), ANYTHING)
    return read if isinstance(read, Settings) else None


def _in_words(settings: Settings) -> str:
    made = f"augmented by {', '.join(settings.augmentations)}" if settings.augmentations else "not augmented"
    passes = f"{settings.epochs:g} epoch{'s' if settings.epochs != 1 else ''}"
    return f"{made}; loss on {'all tokens' if settings.loss == 'all' else 'the output'}; rate {plain(settings.learning_rate)}; {passes}"
