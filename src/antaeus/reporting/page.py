"""Write report.html: gather what the templates need from the plain files, render, and put the page in place atomically."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antaeus.reporting import attempts, figures
from antaeus.reporting.against import less_control
from antaeus.reporting.attempts import Index
from antaeus.reporting.curves import best_round, learning, panels
from antaeus.reporting.figures import Interval
from antaeus.reporting.forgetting import forgetting
from antaeus.reporting.passages import studied
from antaeus.reporting.puzzles import tried
from antaeus.reporting.reading import Record, Run, read_run
from antaeus.reporting.wording import clip, duration, is_number, percent, plain, points, share, verdict, visible, way_of
from antaeus.types import Source

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
COMMAND = "antaeus run --config {path}/config.toml"
SOURCES: dict[str, str] = {
    Source.SELF: "the model's own verdicts: its votes, certainty or judgement",
    Source.PEER: "the verdicts of another model",
    Source.GROUND: "sealed answers, which the model cannot influence",
}

# action -> how its first words are shown
OUTCOMES = {"promote": "good", "reject": "bad", "undecided": "", "roll back": "bad", "stop": "bad"}
COSTS = (
    ("tokens_sampled", "tokens sampled"),
    ("tokens_trained", "tokens trained on"),
    ("wall_s", "wall time"),
    ("learn_s", "of it learning"),
)


def write_report(run_dir: Path, control: Path | None = None) -> Path:
    """Write `run_dir`/report.html from the other files there and return its path. An unfinished run gets a page too. With the folder
    of a control run, the page has the gain less the control's.

    Raises `UserError` if `run_dir` holds no run, or `control` none to compare with.
    """
    run = read_run(Path(run_dir))
    page = render("page.html.j2", _gather(run) | {"less": less_control(run.path, control) if control else None})
    return put(page, run.path / "report.html")


def put(page: str, target: Path) -> Path:
    """Write a page so that whoever looks sees the old one or the whole new one."""
    partial = target.with_suffix(f".html.{os.getpid()}.tmp")
    try:
        partial.write_text(page, encoding="utf-8", newline="\n")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _gather(run: Run) -> dict[str, Any]:
    log = run.path / "attempts.jsonl"
    found = attempts.index(log)
    candidate = _candidate(run, found)
    groups = attempts.choose(log, found, _telling_rounds(run, found))
    return {
        **_verdict(run, candidate, found),
        "exam": _exam(run, candidate),
        "learning": learning(run),
        "panels": panels(run),
        "votes": _votes(groups),
        "studied": studied(run, log, found),
        "tried": tried(run, log, found),
        "forgetting": forgetting(run),
        **_attempts(run, found, groups),
        **_lineage(run, candidate),
        "config": run.config_text,
        "prompt": clip(str(run.summary.get("rendered_prompt") or ""), 20_000)[0],
        "cost": _cost(run),
        "command": run.summary.get("command") or COMMAND.format(path=run.path.name or "RUN"),
        "software": _software(run.summary.get("software") or run.summary.get("versions")),
    }


def _candidate(run: Run, found: Index) -> str | None:
    """The version held against the base: the promoted one, else the best on the anchors, else the one that sat the exam."""
    named, at = run.summary.get("promoted_version"), best_round(run)
    if named and named != "base":
        return str(named)
    best = next((str(v["id"]) for v in run.versions if v.get("round") == at), None)
    return best or found.candidate or (None if at is None else f"r{at:03d}")


def _verdict(run: Run, candidate: str | None, found: Index) -> dict[str, Any]:
    lead, _, rest = verdict(run, candidate).partition(":")
    control = run.fact("control")
    return {
        "facts": [(name, run.fact(name)) for name in ("recipe", "model", "tasks", "seed") if run.fact(name) is not None],
        "lead": lead,
        "rest": rest.strip(),
        "outcome": OUTCOMES.get(run.summary["decision"], "") if run.finished else "unfinished",
        "why": f"{run.summary.get('why')} {way_of(run.summary)}".strip() if run.finished and run.summary.get("exam") else None,
        "control": None if control in (None, False, "", "none") else "" if control is True else str(control),
        "taught": _sources(found, "practice"),
        "decided": _sources(found, "exam"),
        "damaged": run.damaged,
    }


def _sources(found: Index, name: str) -> list[dict[str, Any]]:
    counts = found.sources.get(name) or {}
    total = sum(counts.values())
    most = sorted(counts.items(), key=lambda item: -item[1])
    return [{"source": s, "what": SOURCES.get(s, ""), "n": n, "of": total} for s, n in most]


def _exam(run: Run, candidate: str | None) -> dict[str, Any] | None:
    exam = run.summary.get("exam")
    if not exam:
        return None
    names = (("base", "before", "base"), ("last", "last", "last"), (f"best, {candidate}", "after", "truth"))
    intervals = [(name, exam.get(key), exam.get(f"{key}_ci"), style) for name, key, style in names]
    rows = [Interval(name, value, ci[0], ci[1], style) for name, value, ci, style in intervals if is_number(value) and ci]
    gain = Interval("difference", exam["after"] - exam["before"], exam["ci"][0], exam["ci"][1])
    label = f"exam accuracy of {', '.join(r.name for r in rows)}"
    return exam | {
        "rows": rows,
        "unchanged": exam["n"] - exam["wins"] - exam["losses"],
        "accuracy": _both(560, 380, lambda w: figures.interval_chart(rows, label=label, show=percent, tick=share, width=w)),
        "gain": _both(
            560,
            380,
            lambda w: figures.interval_chart([gain], label="gain in points", show=points, tick=_whole, width=w, zero=True),
        ),
    }


def _whole(difference: float) -> str:
    return points(difference).removesuffix(".0")


def _both(wide: float, narrow: float, draw: Callable[[float], str]) -> dict[str, str]:
    """One figure at two widths: scaled down to a telephone, the wide one could not be read."""
    return {"wide": draw(wide), "narrow": draw(narrow)}


def _telling_rounds(run: Run, found: Index) -> tuple[int, ...]:
    """The rounds whose attempts a reader wants first: first, best and last."""
    rounds = sorted({r for name, r in found.spots if name != "exam"})
    return tuple(r for r in dict.fromkeys((*rounds[:1], best_round(run), *rounds[-1:])) if r in rounds)


def _votes(groups: list[Record]) -> list[dict[str, Any]]:
    """The first and the last round of practice in the page: a bar of votes a prompt, so that one sees the votes close ranks."""
    practice = [g for g in groups if g["set"] == "practice" and g["sides"][0]["total"] > 1]
    rounds = sorted({g["round"] for g in practice})
    return [
        {"round": r, "rows": [(g["prompt"], figures.votes_bar(g["sides"][0]["votes"])) for g in practice if g["round"] == r][:8]}
        for r in dict.fromkeys((*rounds[:1], *rounds[-1:]))
    ]


def _attempts(run: Run, found: Index, groups: list[Record]) -> dict[str, Any]:
    totals: dict[str, dict[int, int]] = {}
    for (name, at), tasks in found.spots.items():
        totals.setdefault(name, {})[at] = len(tasks)
    data = {"groups": groups, "totals": totals, "best": best_round(run)}
    return {"data": attempts.script_json(data), "shown": len(groups), "prompts": found.prompts, "unreadable": found.unreadable}


def _lineage(run: Run, candidate: str | None) -> dict[str, Any]:
    versions = [
        {"parent": "", "kind": "", "path": "", "round": 0} | {k: x for k, x in v.items() if x is not None} for v in run.versions
    ]
    known = {v["id"] for v in versions}
    roles = [("base", "base"), (candidate, "best"), (run.summary.get("promoted_version"), "promoted")]
    roles.append((versions[-1]["id"] if versions else None, "last"))
    names: dict[str, str] = {}
    for version, role in roles:
        if version in known and role != version:
            names[version] = f"{names[version]}, {role}" if version in names else f"{version}: {role}"
        elif version in known:
            names[version] = version
    charts = _both(1000, 360, lambda w: figures.lineage_chart(versions, names, w)) if versions else None
    decisions = [dict.fromkeys(("action", "version", "why", "evidence"), "") | d for d in run.decisions]
    return {"lineage": charts, "versions": versions, "names": names, "decisions": decisions}


def _cost(run: Run) -> list[tuple[str, str]]:
    last = run.events[-1] if run.events else {}
    known = {"wall_s": last.get("time_s"), **last, **{k: v for k, v in run.summary.items() if v is not None}}
    rows = [("rounds", "rounds done", run.rounds_done)]
    rows += [(key, label, known.get(key)) for key, label in COSTS]
    written = ((label, duration(v) if key.endswith("_s") else f"{v:,}") for key, label, v in rows if is_number(v))
    return list(written)


def _software(versions: Any) -> list[tuple[str, str]]:
    return [(str(k), str(v)) for k, v in versions.items()] if isinstance(versions, Mapping) else []


def render(template: str, context: dict[str, Any]) -> str:
    """A page from its template beside this file, with the style and the script that all pages share."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _templates().get_template(template).render(**context, style=style, script=script, digest=digest)


@cache
def _templates() -> Environment:
    """Compiled once, for all pages."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    found.filters |= {"visible": visible, "percent": percent, "points": points, "scalars": _scalars, "tight": _tight}
    return found


def _tight(sentence: str) -> str:
    """No line break between a number and its unit."""
    return re.sub(r" (?=%|points)|(?<=p) (?==)|(?<==) ", "\u00a0", sentence)


def _scalars(evidence: Any) -> str:
    """The numbers and words of a decision's evidence on one line."""
    items = evidence.items() if isinstance(evidence, Mapping) else ()
    flat = ((k, plain(v) if is_number(v) else v) for k, v in items)
    return " · ".join(f"{k.replace('_', ' ')} {v}" for k, v in flat if isinstance(v, str | bool))
