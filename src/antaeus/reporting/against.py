"""Runs side by side, and each gain less what a control gains: the part of it that the verdicts are owed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from antaeus import stats
from antaeus.errors import UserError
from antaeus.reporting.reading import Run, read_run, records

Outcomes = Mapping[str, float]
"""Share of right tries by exam task; tasks whose grading failed are left out."""


def table(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """One row a finished run, in the order given: what it is, its exam, its gain, and for each control run among them on the same
    model and exam the gain less the control's, paired task by task.

    Raises `UserError` for a folder that holds no finished run.
    """
    runs = [finished(folder) for folder in folders]
    outcomes = [_after(run) for run in runs]
    rows = [_row(run) for run in runs]
    for run, own, row in zip(runs, outcomes, rows, strict=True):
        if row["control"] == "none":
            others = [(r, theirs) for r, theirs in zip(runs, outcomes, strict=True) if _control(r) != "none" and _same(run, r)]
            row["less_control"] = [_less(own, theirs) | {"control": _control(r), "run": r.path.name} for r, theirs in others]
    return rows


def less_control(folder: Path, control: Path) -> dict[str, Any]:
    """One run's gain less that of one control run. Raises `UserError` where the two cannot be compared."""
    run, other = finished(folder), finished(control)
    if _control(other) == "none":
        raise UserError(f"{control}: not a control run; repeat the run with control=random or control=format and give that one")
    if not _same(run, other):
        raise UserError(f"{control}: another model or other exam tasks than {folder}; repeat the control with the same settings")
    return _less(_after(run), _after(other)) | {"control": _control(other), "run": other.path.name}


def _less(own: Outcomes, control: Outcomes) -> dict[str, Any]:
    d = [own[task] - control[task] for task in own if task in control]
    return {"n": len(d), "difference": fmean(d) if d else 0.0, "ci": stats.difference_interval(d)}


def _row(run: Run) -> dict[str, Any]:
    exam, known = run.summary["exam"], ("recipe", "model", "tasks", "seed", "decision", "promoted_version")
    figures = {k: exam[k] for k in ("n", "before", "after", "last", "ci", "p_value")}
    costs = {k: run.summary[k] for k in ("tokens_sampled", "tokens_trained", "learn_s")}
    row = {"run": str(run.path), "control": _control(run), **{k: run.summary[k] for k in known}, **figures, **costs}
    return row | {"gain": exam["after"] - exam["before"], "less_control": []}


def _control(run: Run) -> str:
    return str(run.summary.get("control") or "none")


def _same(run: Run, other: Run) -> bool:
    keys = ("model", "tasks")
    return all(run.summary[k] == other.summary[k] for k in keys) and set(_after(run)) == set(_after(other))


def _after(run: Run) -> Outcomes:
    """The exam of the version that was held against the base, the last that sat it, by task."""
    return list(sat(run).values() or [{}])[-1]


def sat(run: Run, which: str = "exam", share: Callable[[Iterable[float]], float] = fmean) -> Mapping[str, Outcomes]:
    """What each version gave at the exam ("also": at other abilities), in the order they sat: the last is the one that was held
    against the base. `share` makes one number of a task's tries (each 1 or 0)."""
    seen: dict[str, dict[str, float]] = {}
    for _, record in records(run.path / "attempts.jsonl"):
        if record is not None and record.get("set") == which:
            scores = [float(a["verdict"]["score"] == 1.0) for a in record["attempts"] if a["verdict"]["score"] is not None]
            of_version = seen.setdefault(record["version"], {})
            of_version.update({record["task"]["id"]: share(scores)} if scores else {})
    return seen


def finished(folder: Path) -> Run:
    run = read_run(folder)
    if not run.summary.get("exam"):
        raise UserError(f"{folder}: the run is not finished; carry it on with `antaeus resume {folder}`")
    return run
