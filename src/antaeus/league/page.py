"""The league as a page: the table, gains with intervals, and every run's curve on its anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antaeus.league.plans import Entry, control_of
from antaeus.reporting.figures import Curve, Interval, interval_chart, line_chart
from antaeus.reporting.page import put, render
from antaeus.reporting.reading import read_run
from antaeus.reporting.wording import percent, points, share
from antaeus.store.files import write_atomically
from antaeus.types import to_json

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def write(found: Mapping[str, Any], entries: Sequence[Entry], under: Path) -> Path:
    """Write league.json and league.html under `under`, and return the page."""
    under.mkdir(parents=True, exist_ok=True)
    write_atomically(under / "league.json", to_json(found) + "\n")
    tasks = list(dict.fromkeys(row["tasks"] for row in found["rows"]))
    parts = [_part(name, [row for row in found["rows"] if row["tasks"] == name], entries, under) for name in tasks]
    return put(render("league.html.j2", {**found, "parts": parts}), under / "league.html")


def _part(name: str, rows: Sequence[Mapping[str, Any]], entries: Sequence[Entry], under: Path) -> dict[str, Any]:
    """What the page shows of one set of tasks."""
    curves = {row["entrant"]: _panel(row["entrant"], name, entries, under) for row in rows}
    gains = {"wide": _gains(rows, 900), "narrow": _gains(rows, 400)}
    return {"tasks": name, "rows": rows, "table": columns([cells(row) for row in rows]), "gains": gains, "curves": curves}


def _gains(rows: Sequence[Mapping[str, Any]], width: float) -> str:
    """Gains with intervals, each above its gain less the control's."""
    drawn = []
    for row in rows:
        drawn.append(Interval(row["entrant"], row["gain"]["difference"], *row["gain"]["ci"], style="base"))
        if less := row["less_control"]:
            drawn.append(Interval("less control", less["difference"], *less["ci"]))
    return interval_chart(
        drawn, label="gain on the exam, and less the control's", show=points, tick=points, width=width, zero=True
    )


def _panel(entrant: str, tasks: str, entries: Sequence[Entry], under: Path) -> str:
    """Accuracy on anchors against tokens: this entrant's runs, and those of its controls."""
    curves, tester = [], control_of(entrant, {entry.entrant for entry in entries if entry.control != "none"})
    for entry in entries:
        own = entry.entrant == entrant and entry.control == "none"
        if entry.tasks == tasks and (own or (entry.entrant == tester and entry.control != "none")):
            curves += _curve(entry, under, "truth" if own else "proxy")
    last = max((c.points[-1][0] for c in curves), default=1.0)
    label = f"{entrant} on {tasks}: accuracy on anchors against tokens"
    return line_chart(
        sorted(curves, key=lambda c: c.style), label=label, rounds=(0, last), size=(320, 170), y=SHARES, show=share,
        margins=(44, 12), unit="k tokens",
    )  # fmt: skip


def _curve(entry: Entry, under: Path, style: str) -> list[Curve]:
    folder = entry.folder(under)
    events = read_run(folder).events if (folder / "config.toml").is_file() else ()
    seen = [((e["tokens_sampled"] + e["tokens_trained"]) / 1000, e["anchor"]["accuracy"]) for e in events if e.get("anchor")]
    return [Curve("", seen, style, end=" ")] if seen else []


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the table as text, in the order of `HEAD`; the terminal shows the same."""
    alarm = f"round {row['first_alarm']:g} ({row['alarms']} of {row['seeds']})" if row["alarms"] else "none"
    known = row["sharpening"] or {}
    optional = (
        row["less_control"],
        row["pass_at_n"],
        known.get("majority_right"),
        known.get("majority_wrong"),
        row["other_ability"],
    )
    less, passed, right, wrong, other = map(_points, optional)
    return [
        row["tasks"], row["entrant"], percent(row["before"]), _points(row["gain"]), " ".join(points(g) for g in row["each_seed"]), less,
        NOTHING if row["recovered"] is None else f"{100 * row['recovered']:.0f} %", points(row["last"]), alarm, passed, right, wrong, other,
        f"{row['decisions'].count('promote')} of {row['seeds']}", f"{row['tokens'] / 1000:,.0f}k", f"{row['answer_tokens']:,.0f}",
        f"{row['seconds']:.0f}",
    ]  # fmt: skip


def columns(table: Sequence[Sequence[str]]) -> list[list[str]]:
    """`HEAD` and the rows of one set of tasks, without its name, and without columns in which no row says anything."""
    shown = [i for i in range(1, len(HEAD)) if any(row[i] != NOTHING for row in table)]
    return [[row[i] for i in shown] for row in (HEAD, *table)]


NOTHING = "–"
HEAD = (
    "tasks", "recipe", "before", "gain, points", "each seed", "less the control", "of rlvr's gain", "last version", "first alarm",
    "pass@n", "majority right", "majority wrong", "other ability", "promoted", "tokens", "tokens an answer", "seconds",
)  # fmt: skip


def _points(found: Mapping[str, Any] | None) -> str:
    return f"{points(found['difference'])} ({points(found['ci'][0])} to {points(found['ci'][1])})" if found else NOTHING
