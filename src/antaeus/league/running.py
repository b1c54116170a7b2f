"""Running what is missing of a league, one run after another; what is there stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from antaeus import api
from antaeus import config as configuration
from antaeus.errors import UserError
from antaeus.league.plans import Entry


def run_all(entries: Sequence[Entry], under: Path, say: Callable[[str], None], stop: Callable[[], bool]) -> dict[str, str]:
    """Make every run that is not finished yet, carrying on those that were interrupted. Returns why a recipe could not be run on some
    tasks, by "tasks/recipe"; its further seeds are not tried."""
    texts = {entry: _configuration(entry) for entry in entries}  # all settings are looked at before the first run
    waiting = [entry for entry in entries if not _done(entry, under, texts[entry])]
    refused: dict[str, str] = {}
    began = time.monotonic()
    for number, entry in enumerate(waiting, 1):
        if _place(entry) in refused:
            continue
        try:
            said = _run(entry, entry.folder(under), stop)
        except UserError as why:
            refused[_place(entry)] = said = str(why)
        left = (time.monotonic() - began) / number * (len(waiting) - number)
        say(f"{number} of {len(waiting)}: {_place(entry)}, seed {entry.seed}: {said}; {_duration(left)} left")
    return refused


def _run(entry: Entry, folder: Path, stop: Callable[[], bool]) -> str:
    """Make one run, or carry it on, and say what came of it."""
    begun = (folder / "config.toml").is_file()
    summary = (
        api.resume(folder, interrupt=stop) if begun else api.run(entry.recipe, run_dir=folder, interrupt=stop, **entry.settings)
    )
    exam = summary["exam"]
    return f"{exam['before']:.1%} -> {exam['after']:.1%}, {summary['decision']}"


def _done(entry: Entry, under: Path, text: str) -> bool:
    """Whether the run is finished. Raises `UserError` where another one lies in its place."""
    folder = entry.folder(under)
    there = folder / "config.toml"
    if there.is_file() and there.read_text(encoding="utf-8") != text:
        raise UserError(f"{folder}: holds a run of another configuration; choose another --out, or remove it")
    return (folder / "summary.json").is_file()


def _configuration(entry: Entry) -> str:
    try:
        return configuration.write(*configuration.configure(entry.recipe, entry.settings))
    except UserError as why:
        raise UserError(f"{entry.entrant}: {why} (settings of one recipe: {entry.recipe}.key=value)") from None


def _place(entry: Entry) -> str:
    control = "" if entry.control == "none" else f" control={entry.control}"
    return f"{entry.tasks}/{entry.entrant}{control}"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
