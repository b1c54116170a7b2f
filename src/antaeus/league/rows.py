"""The league table: what each method gained, and how much of that is its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from antaeus import stats
from antaeus.answers import plurality
from antaeus.league.plans import CONTROLS, REFERENCE, Entry, control_of
from antaeus.reporting.against import finished, sat
from antaeus.reporting.reading import Run, records

Gains = Mapping[tuple[str, str, str], Mapping[str, float]]
"""Task by task, the gain of each (tasks, entrant, control)."""


def table(entries: Sequence[Entry], under: Path) -> list[dict[str, Any]]:
    """One row for each entrant on each set of tasks, the largest gain less its control's first. Gains are of the version that was best
    by anchors, on the exam; a task's gains are averaged over the seeds first, so that intervals are over tasks."""
    runs: dict[tuple[str, str, str], list[tuple[Entry, Run]]] = defaultdict(list)
    for entry in entries:
        if (entry.folder(under) / "summary.json").is_file():
            runs[entry.tasks, entry.entrant, entry.control].append((entry, finished(entry.folder(under))))
    gained = {what: gains(held) for what, held in runs.items()}
    order = list(dict.fromkeys(entry.tasks for entry in entries))
    tested = {entry.entrant for entry in entries if entry.control != "none"}
    rows = [row(own, gained, control_of(own[0][0].entrant, tested)) for (_, _, control), own in runs.items() if control == "none"]
    return sorted(rows, key=lambda r: (order.index(r["tasks"]), -r["less_control"]["difference"] if r["less_control"] else 9.0))


def row(own: Sequence[tuple[Entry, Run]], gained: Gains, tester: str | None) -> dict[str, Any]:
    """What an entrant did on a set of tasks; `tester` is the entrant whose controls it is held against."""
    tasks, entrant, summaries = own[0][0].tasks, own[0][0].entrant, [run.summary for _, run in own]
    found, whole = estimate(gained[tasks, entrant, "none"]), estimate(gained.get((tasks, REFERENCE, "none"), {}))
    alarms, tries = [at for _, run in own if (at := first_alarm(run))], summaries[0]["exam"].get("tries", 1)
    return {
        "tasks": tasks, "entrant": entrant, "seeds": len(own), "before": fmean(s["exam"]["before"] for s in summaries),
        "gain": found, "each_seed": [s["exam"]["after"] - s["exam"]["before"] for s in summaries],
        "last": fmean(s["exam"]["last"] - s["exam"]["before"] for s in summaries),
        "less_control": less_control(tasks, entrant, gained, tester) if tester else None,
        "recovered": found["difference"] / whole["difference"] if whole and whole["ci"][0] > 0 else None,
        "first_alarm": median(alarms) if alarms else None, "alarms": len(alarms),
        "pass_at_n": estimate(gains(own, share=max)) if tries > 1 else None, "sharpening": sharpening(own) if tries > 1 else None,
        "other_ability": estimate(gains(own, "also")), "decisions": [s["decision"] for s in summaries],
        "rounds": fmean(s["rounds"] for s in summaries),
        "tokens": fmean(s["tokens_sampled"] + s["tokens_trained"] for s in summaries),
        "seconds": fmean(s["learn_s"] for s in summaries), "answer_tokens": fmean(answer_tokens(run) for _, run in own),
        "command": own[0][0].command,
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


def sharpening(runs: Sequence[tuple[Entry, Run]]) -> dict[str, dict[str, Any]]:
    """The gain on exam tasks of which the base's majority has the right answer, and on the others: what is known is sharpened, and so is
    what is mistaken (URLVR, 2603.08660). Every second try of the base is for the majority, the others for its accuracy: the same
    draws for both would make majorities that are right by luck fall, and wrong ones rise, without any learning."""
    found: dict[bool, dict[str, list[float]]] = {True: defaultdict(list), False: defaultdict(list)}
    for _, run in runs:
        versions, known = sat(run, share=lambda scores: fmean(list(scores)[1::2])), majorities(run)
        before, after = versions["base"], list(versions.values())[-1]
        for task in before.keys() & after.keys():
            found[known[task]][task].append(after[task] - before[task])
    of = {side: estimate({task: fmean(values) for task, values in tasks.items()}) for side, tasks in found.items()}
    return {"majority_right": of[True], "majority_wrong": of[False]}


def majorities(run: Run) -> dict[str, bool]:
    """Whether the most frequent answer among every second try of the base is right, by exam task."""
    known = {}
    for _, record in records(run.path / "attempts.jsonl"):
        if record is not None and record.get("set") == "exam" and record["version"] == "base":
            tried = record["attempts"][::2]
            labels, winner, _ = plurality([attempt["answer"] for attempt in tried])
            known[record["task"]["id"]] = winner is not None and tried[labels.index(winner)]["verdict"]["score"] == 1.0
    return known


def less_control(tasks: str, entrant: str, gained: Gains, tester: str) -> dict[str, Any] | None:
    """The gain less that of the control which gained most: the hardest one counts."""
    own = gained[tasks, entrant, "none"]
    tried = {control: found for control in CONTROLS if (found := gained.get((tasks, tester, control)))}
    if not tried:
        return None
    name = max(tried, key=lambda control: fmean(tried[control].values()))
    difference = estimate({task: own[task] - tried[name][task] for task in own.keys() & tried[name].keys()})
    return {**difference, "control": f"{tester} control={name}"}


def answer_tokens(run: Run) -> float:
    """Tokens that went into an exam attempt, what adapting or many paths took included; of the version that sat it last."""
    seen = [record for _, record in records(run.path / "attempts.jsonl") if record is not None and record.get("set") == "exam"]
    return fmean(a["tokens"] for record in seen if record["version"] == seen[-1]["version"] for a in record["attempts"])


def estimate(values: Mapping[str, float]) -> dict[str, Any]:
    """Mean and 95 % interval over tasks; empty where there are none."""
    each = sorted(values.values())
    return {"difference": fmean(each), "ci": stats.difference_interval(each), "n": len(each)} if each else {}


def first_alarm(run: Run) -> int | None:
    rounds: Iterable[int] = (event["round"] for event in run.events if event.get("alarms"))
    return next(iter(rounds), None)
