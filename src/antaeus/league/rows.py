"""The league table: what each method gained, and how much of that is its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from antaeus import stats
from antaeus.league.plans import CONTROLS, REFERENCE, Entry, control_of
from antaeus.reporting.against import finished, sat
from antaeus.reporting.reading import Run

Runs = Mapping[tuple[str, str, str], Sequence[tuple[Entry, Run]]]
"""The finished runs of each (tasks, recipe, control), seed by seed."""


def table(entries: Sequence[Entry], under: Path, refused: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row for each recipe on each set of tasks, the largest gain less its control's first. Gains are of the version that was best
    by anchors, on the exam; a task's gains are averaged over the seeds first, so that intervals are over tasks."""
    runs: dict[tuple[str, str, str], list[tuple[Entry, Run]]] = defaultdict(list)
    for entry in entries:
        if (entry.folder(under) / "summary.json").is_file():
            runs[entry.tasks, entry.recipe, entry.control].append((entry, finished(entry.folder(under))))
    rows = [row(tasks, recipe, runs) for tasks, recipe, control in runs if control == "none"]
    return sorted(
        rows, key=lambda r: (entries_order(entries, r["tasks"]), -r["less_control"]["difference"] if r["less_control"] else 9.0)
    )


def entries_order(entries: Sequence[Entry], tasks: str) -> int:
    return list(dict.fromkeys(entry.tasks for entry in entries)).index(tasks)


def row(tasks: str, recipe: str, runs: Runs) -> dict[str, Any]:
    own = runs[tasks, recipe, "none"]
    gain, summaries = gains(own), [run.summary for _, run in own]
    whole = estimate(gains(runs.get((tasks, REFERENCE, "none"), ())))
    found = estimate(gain)
    return {
        "tasks": tasks, "recipe": recipe, "seeds": len(own), "before": fmean(s["exam"]["before"] for s in summaries),
        "gain": found, "each_seed": [s["exam"]["after"] - s["exam"]["before"] for s in summaries],
        "last": fmean(s["exam"]["last"] - s["exam"]["before"] for s in summaries),
        "less_control": None if recipe == REFERENCE else less_control(gain, tasks, recipe, runs),
        "recovered": found["difference"] / whole["difference"] if whole and whole["ci"][0] > 0 else None,
        "first_alarm": median(alarms) if (alarms := [at for _, run in own if (at := first_alarm(run))]) else None, "alarms": len(alarms),
        "pass_at_n": estimate(gains(own, share=max)) if summaries[0]["exam"].get("tries", 1) > 1 else None,
        "other_ability": estimate(gains(own, "also")), "decisions": [s["decision"] for s in summaries],
        "rounds": fmean(s["rounds"] for s in summaries),
        "tokens": fmean(s["tokens_sampled"] + s["tokens_trained"] for s in summaries),
        "seconds": fmean(s["learn_s"] for s in summaries), "command": own[0][0].command,
    }  # fmt: skip


def gains(runs: Sequence[tuple[Entry, Run]], which: str = "exam", share: Any = fmean) -> dict[str, float]:
    """Each task's gain, averaged over the seeds in which it was graded before and after."""
    found: dict[str, list[float]] = defaultdict(list)
    for _, run in runs:
        if versions := sat(run, which, share):
            before, after = versions["base"], list(versions.values())[-1]
            for task in before.keys() & after.keys():
                found[task].append(after[task] - before[task])
    return {task: fmean(values) for task, values in found.items()}


def less_control(own: Mapping[str, float], tasks: str, recipe: str, runs: Runs) -> dict[str, Any] | None:
    """The gain less that of the control which gained most: the hardest one counts."""
    tried = {c: gains(held) for c in CONTROLS if (held := runs.get((tasks, control_of(recipe), c)))}
    if not tried:
        return None
    name = max(tried, key=lambda c: fmean(tried[c].values()))
    difference = estimate({task: own[task] - tried[name][task] for task in own.keys() & tried[name].keys()})
    return {**difference, "control": f"{control_of(recipe)} control={name}"}


def estimate(values: Mapping[str, float]) -> dict[str, Any]:
    """Mean and 95 % interval over tasks; empty where there are none."""
    each = sorted(values.values())
    return {"difference": fmean(each), "ci": stats.difference_interval(each), "n": len(each)} if each else {}


def first_alarm(run: Run) -> int | None:
    rounds: Iterable[int] = (event["round"] for event in run.events if event.get("alarms"))
    return next(iter(rounds), None)
