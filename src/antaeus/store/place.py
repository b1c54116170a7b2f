"""The folder of a run before it is one: chosen, found free, claimed, and given back where nothing came of it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from antaeus.errors import UserError
from antaeus.store.files import write_atomically


def fresh(recipe: str) -> Path:
    return Path("runs") / f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}"


def refuse_used(folder: Path, text: str) -> None:
    """Raise `UserError` unless `folder` is new or empty; `text` is the configuration of the run that is to lie in it."""
    there = folder / "config.toml"
    if there.exists() and there.read_text(encoding="utf-8") != text:
        raise UserError(f"{folder}: holds a run of another configuration; choose another --run-dir")
    if there.exists() and not (folder / "summary.json").exists():
        raise UserError(f"{folder}: this run has begun already; carry it on with `antaeus resume {folder}`")
    if there.exists():
        raise UserError(f"{folder}: this run is finished already; choose another --run-dir to repeat it")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not an empty folder; choose another --run-dir")


def claim(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "config.toml", text)


def release(folder: Path) -> None:
    """Remove a folder in which bad input kept the first round from happening: nothing half-written stays."""
    events = folder / "events.jsonl"
    if not events.exists() or len(events.read_text(encoding="utf-8").splitlines()) < 2:
        shutil.rmtree(folder, ignore_errors=True)
