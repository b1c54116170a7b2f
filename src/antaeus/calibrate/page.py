"""The error rates as tables and pictures for docs/guard.md. Everything is computed from the records and from simulation, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antaeus.calibrate import rates
from antaeus.calibrate.picture import bars, curves
from antaeus.calibrate.runs import Record
from antaeus.errors import UserError
from antaeus.guard import rules, simulate

BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"
NAMES: dict[str, str] = {
    "ours": "Antaeus",
    "new > old on 200": "new > old on 200 tasks",
    "p < 0.05 each": "p < 0.05, each on its own",
}


def figures(records: Sequence[Record], lineages: int = 2000) -> dict[str, Any]:
    """All that the page shows, as JSON."""
    models = sorted({r["model"] for r in records})
    of = {model: [r for r in records if r["model"] == model] for model in models}
    return {
        "runs": {model: len(mine) for model, mine in of.items()},
        "alarms": {model: {part: rates.alarm_rates(runs) for part, runs in rates.parts(mine).items()} for model, mine in of.items()},
        "gate": {model: rates.gate_rates(mine) for model, mine in of.items()},
        "simulated": {kind: simulate.false_promotions(kind, lineages) for kind in ("resampled", "retrained")},
        "published": rules.published(),
        "power": simulate.power(lineages=lineages),
        "peeking": [simulate.peeking(gain=gain) for gain in (0.0, 0.05, 0.1)],
    }  # fmt: skip


def write(page: Path, found: Mapping[str, Any]) -> None:
    """Put the figures between the two marks of `page`, and the pictures beside it. Raises `UserError` where the marks are missing."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if BEGIN not in text or END not in text:
        raise UserError(f"{page}: has no lines {BEGIN!r} and {END!r} to write the figures between; put them there")
    parts = (_gate(found), _power(found), _alarms(found))
    head, tail = text[: text.index(BEGIN)], text[text.index(END) :]
    page.write_text(f"{head}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{tail}", encoding="utf-8")
    ever = found["simulated"]["retrained"]["rules"]
    page.with_name("guard-rules.svg").write_text(
        bars({NAMES.get(str(name), str(name)): row["ever"]["share"] for name, row in ever.items()}), encoding="utf-8"
    )
    page.with_name("guard-power.svg").write_text(curves(found["power"]), encoding="utf-8")


# --- tables -------------------------------------------------------------------------------------------------------------


def _gate(found: Mapping[str, Any]) -> str:
    simulated, first = found["simulated"], next(iter(found["simulated"].values()))
    real = {model: row for model, row in found["gate"].items() if row["others"]}
    head = ["rule", *(f"simulated, {kind}: a proposal" for kind in simulated), *(f"{kind}: a lineage" for kind in simulated)]
    head += [f"real, {model} against itself" for model in real]
    rows = [
        [NAMES.get(name, name), *(_share(s["rules"][name]["each"]) for s in simulated.values()),
         *(_share(s["rules"][name]["ever"]) for s in simulated.values()), *(_share(r["others"][name]) for r in real.values())]
        for name in first["rules"]
    ]  # fmt: skip
    best = ", ".join(f"{_share(s['best of ten'])} ({kind})" for kind, s in simulated.items())
    said = [
        f"How often a rule accepts what is no better, over {first['lineages']:,} simulated lineages of {first['proposals']} proposals on "
        f"{first['tasks']} tasks, and between real runs of one and the same model. "
        f"The best of ten proposals beats the incumbent in {best}.",
        _table(head, rows),
        "![Share of lineages with a false promotion, by rule](guard-rules.svg)",
        *(_real(model, row) for model, row in found["gate"].items()),
    ]
    return "\n\n".join(said)


def _real(model: str, row: Mapping[str, Any]) -> str:
    return (
        f"**{model}**, real runs: {_of(row['no_op'])} whole no-op runs and {_of(row['resampled'])} pairs of one model sampled anew were "
        f"promoted. Of all runs, driven into ruin or not, {_of(row['promoted'])} were promoted, and {_of(row['harmed'])} handed out a "
        "version significantly worse than the base."
    )


def _power(found: Mapping[str, Any]) -> str:
    rows = [r for r in found["power"] if round(r["gain"], 2) in (0.02, 0.03, 0.05, 0.08)]
    head = ["true gain, points", "tasks that change", "alone", "one of 50", "all 50"]
    table = _table(
        head,
        [[f"{100 * r['gain']:.0f}", f"{r['discordance']:.0%}", *(_share(r[k]) for k in ("alone", "one", "all"))] for r in rows],
    )
    peeks = _table(
        ["true gain, points", "e-process, a look after each task", "the exact test, repeated", "the exact test, once"],
        [
            [f"{100 * p['gain']:.0f}", *(_share(p[k]) for k in ("e-process", "repeated test", "test at the end"))]
            for p in found["peeking"]
        ],
    )
    return "\n\n".join((
        "How often a true gain on 400 tasks is promoted: as the only proposal, as one of fifty of a lineage, and where all fifty have it.",
        table, "![Power by gain and discordance](guard-power.svg)",
        "One proposal, looked at while its exam is going on (a fifth of the tasks change, level 5 %):", peeks,
    ))  # fmt: skip


def _alarms(found: Mapping[str, Any]) -> str:
    head = [
        "model",
        "runs",
        "ruined runs",
        "rang before",
        "where it could: of those not ruined by their first update",
        "by then",
        "never",
        "rounds ahead, median",
        "sound runs",
        "rang for nothing",
    ]
    rows = [
        [model, part, str(r["ruined"]), _of(r["before"]), _of(r["before_possible"]), _of(r["by_then"]), str(r["never"]),
         str(r["rounds_ahead"]), str(r["false"]["n"]), _of(r["false"])]
        for model, parts in found["alarms"].items() for part, r in parts.items()
    ]  # fmt: skip
    kinds = [
        [model, kind, str(k["n"]), str(k["ruined_at"]), f"{k['before']} of {k['n']}", f"{k['by_then']} of {k['n']}", str(k["ahead"])]
        for model, parts in found["alarms"].items() for kind, k in parts["fresh"]["kinds"].items()
    ]  # fmt: skip
    return "\n\n".join((
        "Alarms. A run is ruined that ends five points or more below the base on its anchors; the loss is the first round after which it "
            "stood there. Runs that were looked at when the alarms were made, and fresh ones, made afterwards. Kinds are of fresh runs.",
            _table(head, rows),
        _table(["model", "driven by", "ruined", "at round, median", "rang before", "by then", "rounds ahead, median"], kinds),
    ))  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _share(row: Mapping[str, Any]) -> str:
    return f"{100 * row['share']:.1f} % ({100 * row['ci'][0]:.1f}–{100 * row['ci'][1]:.1f})"


def _of(row: Mapping[str, Any]) -> str:
    return f"{row['k']} of {row['n']} ({100 * row['ci'][0]:.0f}–{100 * row['ci'][1]:.0f} %)"
