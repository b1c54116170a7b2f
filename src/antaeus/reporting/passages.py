"""What was studied: of some passages the edits with their scores, what was kept and why; the baselines; how much was noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antaeus.reporting.attempts import Index
from antaeus.reporting.edits import baselines, parts_of, practised, score, short, tries, verdict_of
from antaeus.reporting.reading import Record, Run, inside
from antaeus.reporting.wording import is_number, percent, points

PASSAGES = 12  # shown, evenly over the run
LONGEST = 8_000  # characters of a passage
CHARACTERS = 400  # of an edit, of a reason
NOISE = ("sd_edits", "sd_seeds", "apparent_gain", "true_gain", "mean", "edits", "passages", "seeds")


def studied(run: Run, log: Path, found: Index) -> dict[str, Any] | None:
    """For the page, of a run on passages; None for another."""
    lines, of = practised(log, found, PASSAGES)
    passages = [_passage(line) for line in lines if isinstance(line["task"].get("passage"), dict)]
    noise = _noise(inside(run.summary, "noise", "run"))
    return {"passages": passages, "of": of, "baselines": baselines(run.summary), "noise": noise} if passages else None


def _passage(line: Record) -> dict[str, Any]:
    passage, attempts = line["task"]["passage"], tries(line)
    base = next((parts["base"] for a in attempts if "base" in (parts := parts_of(a))), None)
    title, text = (short(passage.get(key), LONGEST) for key in ("title", "text"))
    return {"round": line.get("round"), "title": title, "text": text, "edits": [_edit(a) for a in attempts], "base": score(base)}


def _edit(attempt: Record) -> dict[str, Any]:
    seeds = [score(x) for name, x in parts_of(attempt).items() if name.startswith("seed ")]
    verdict = verdict_of(attempt)
    why = short(verdict.get("why"), CHARACTERS)
    return {
        "text": short(attempt.get("text"), CHARACTERS), "score": score(verdict.get("score")), "seeds": ", ".join(seeds), "why": why,
        "kept": why.startswith("kept"),
    }  # fmt: skip


def _noise(found: Record) -> str:
    ci = found.get("true_gain_ci")
    told = [*(found.get(key) for key in NOISE), *(ci if isinstance(ci, list) else ())]
    if len(told) != len(NOISE) + 2 or not all(map(is_number, told)):
        return ""
    edits, seeds, seems, true, low, high = map(points, (*told[:4], *told[-2:]))
    return (
        f"Rewards differ by {edits} between edits of a passage and by {seeds} between seeds of one edit (standard deviations). The best of "
        f"{found['edits']} edits seems to be worth {seems} more than their mean; judged by seeds that had no part in the choice, it is "
        f"{true} (95 % interval {low} to {high}; {found['passages']} passages, {found['seeds']} seeds). The mean of all edits is "
        f"{percent(found['mean'])}."
    )
