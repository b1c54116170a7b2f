"""What was studied: of some passages the edits with their scores, what was kept and why; the baselines; how much was noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antaeus.reporting.figures import Interval
from antaeus.reporting.reading import Record, Run, records
from antaeus.reporting.wording import clip, is_number, percent, points, visible

PASSAGES = 12  # shown, evenly over the run
CHARACTERS = 400  # of an edit


def studied(run: Run, log: Path) -> dict[str, Any] | None:
    """For the page, of a run on passages; None for another."""
    found: list[Record] = []
    for _, line in records(log):
        if line and line.get("set") == "practice":
            if not (line.get("task") or {}).get("passage"):
                return None  # the log of another run may be long: no more of it is read
            found.append(line)
    if not found:
        return None
    every = max(1, -(-len(found) // PASSAGES))
    return {
        "passages": [_passage(line) for line in found[::every]], "of": len(found),
        "baselines": _baselines(run.summary), "noise": _noise((run.summary.get("noise") or {}).get("run") or {}),
    }  # fmt: skip


def _passage(line: Record) -> dict[str, Any]:
    passage, attempts = line["task"]["passage"], line.get("attempts") or []
    edits = [_edit(a.get("text") or "", a.get("verdict") or {}) for a in attempts]
    base = next((v["parts"]["base"] for a in attempts if "base" in ((v := a.get("verdict") or {}).get("parts") or {})), None)
    title, text = (visible(passage.get(key) or "") for key in ("title", "text"))
    return {"round": line.get("round"), "title": title, "text": text, "edits": edits, "base": _share(base)}


def _edit(text: str, verdict: Record) -> dict[str, Any]:
    seeds = [_share(x) for name, x in (verdict.get("parts") or {}).items() if name.startswith("seed ")]
    why = visible(verdict.get("why") or "")
    return {
        "text": visible(clip(text, CHARACTERS)[0]), "score": _share(verdict.get("score")), "seeds": ", ".join(seeds), "why": why,
        "kept": why.startswith("kept"),
    }  # fmt: skip


def _share(value: Any) -> str:
    return f"{value:.2f}" if is_number(value) else "none"


def _baselines(summary: Record) -> list[Interval]:
    told, exam = summary.get("baselines") or {}, summary.get("exam") or {}
    own = {"untrained edits (base)": "before", "learned edits (best)": "after"}
    rows = [(name, exam.get(key), exam.get(f"{key}_ci")) for name, key in own.items()]
    rows = [*((name, each.get("accuracy"), each.get("ci")) for name, each in told.items()), *rows]
    return [Interval(visible(name), value, ci[0], ci[1]) for name, value, ci in rows if is_number(value) and ci] if told else []


def _noise(found: Record) -> str:
    if not found:
        return ""
    edits, seeds, seems, true, low, high = map(
        points, (*(found[key] for key in ("sd_edits", "sd_seeds", "apparent_gain", "true_gain")), *found["true_gain_ci"])
    )
    return (
        f"Rewards differ by {edits} between edits of a passage and by {seeds} between seeds of one edit (standard deviations). The best of "
        f"{found['edits']} edits seems to be worth {seems} more than their mean; judged by seeds that had no part in the choice, it is "
        f"{true} (95 % interval {low} to {high}; {found['passages']} passages, {found['seeds']} seeds). The mean of all edits is "
        f"{percent(found['mean'])}."
    )
