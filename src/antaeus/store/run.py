"""A run's directory: append-only JSONL of what happened, versions, and checkpoints from which it can be carried on.

A checkpoint is a folder written aside and then named by `checkpoint.json`, which is replaced atomically and also holds how long
each JSONL file was: resuming cuts them back to that point and replays the rounds since. Killing at any instant loses nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from antaeus.errors import UserError
from antaeus.store.files import damaged, digest, sync, write_atomically
from antaeus.types import Version, to_json

LOGS = ("events.jsonl", "attempts.jsonl", "decisions.jsonl", "versions/lineage.jsonl", "versions/sha256.jsonl")
SHARE = 0.05  # checkpoints may cost this share of the run's time
FIRST_GUESS_S = 2.0  # what the first checkpoint is taken to cost


class RunDir:
    """The directory of one run, locked against a second process while this object lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cost_s, self._opened = FIRST_GUESS_S, time.monotonic()
        self._last = self._opened
        path.mkdir(parents=True, exist_ok=True)
        (path / "versions").mkdir(exist_ok=True)
        self._lock = open(path / ".lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{path}: another process is working on this run; wait for it or stop it") from None

    def close(self) -> None:
        self._lock.close()

    def append(self, log: str, record: Any) -> None:
        """Add one line to one of the logs."""
        with open(self.path / log, "a", encoding="utf-8") as out:
            out.write(to_json(record) + "\n")

    def lines(self, log: str) -> Iterator[dict[str, Any]]:
        """The lines of one of the logs, as they were appended."""
        with open(self.path / log, encoding="utf-8") as file:
            yield from map(json.loads, file)

    def write(self, name: str, text: str) -> None:
        write_atomically(self.path / name, text)

    def add_version(self, version: Version, save: Callable[[Path], None]) -> None:
        """Save a version's folder, complete or not at all, and its line in the lineage."""
        self.append("versions/lineage.jsonl", version)
        if version.path is None:
            return
        final = self.path / version.path
        draft = final.with_name(f".{final.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        save(draft)
        sync(draft)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(draft, final)

    def version(self, name: str) -> Path:
        return self.path / "versions" / name

    def _drop_versions_but(self, kept: set[str]) -> None:
        for folder in (self.path / "versions").iterdir():
            if folder.is_dir() and folder.name not in kept:
                shutil.rmtree(folder)

    # --- checkpoints ----------------------------------------------------------------------------------------------------

    def due(self) -> bool:
        """Whether a checkpoint now keeps their cost under `SHARE` of the time that has passed since the last."""
        return time.monotonic() - self._last >= self._cost_s / SHARE

    def checkpoint(self, state: dict[str, Any], save: Callable[[Path], None], *, keep: str) -> None:
        """Write a checkpoint: `save` fills its folder, `state` (JSON) holds the rest and names it by its "round". Versions but
        `keep` are dropped only now, when no earlier checkpoint can ask for them any more."""
        started = time.monotonic()
        name = f"checkpoint-{state['round']:06d}"
        folder = self.path / name
        shutil.rmtree(folder, ignore_errors=True)
        save(folder)
        sync(folder)
        lengths = {log: _size(self.path / log) for log in LOGS}
        record = {"folder": name, "state": state, "lengths": lengths, "sha256": digest(folder)}
        self.write("checkpoint.json", json.dumps(record, indent=1))
        for old in self.path.glob("checkpoint-*"):
            if old.name != name:
                shutil.rmtree(old)
        self._drop_versions_but({keep})
        self._last = time.monotonic()
        self._cost_s = self._last - started

    def restore(self) -> tuple[dict[str, Any], Path] | None:
        """The last checkpoint's state and folder, with the logs cut back to it; None, and empty logs, where there is none."""
        pointer = self.path / "checkpoint.json"
        record = _read_json(pointer) if pointer.exists() else {}
        folder = self.path / record.get("folder", "")
        if bad := damaged(folder, record.get("sha256", {})):
            raise UserError(
                f"{folder / bad}: the checkpoint is damaged; delete {pointer} to start this run again from the beginning"
            )
        for log in LOGS:
            if (self.path / log).exists():
                os.truncate(self.path / log, min(record.get("lengths", {}).get(log, 0), _size(self.path / log)))
        return (record["state"], folder) if record else None

    def finish(self, summary: dict[str, Any], kept: set[str]) -> None:
        """Write the summary of a run that has ended, and drop what only an unfinished run needs."""
        summary["wall_s"] = round(time.monotonic() - self._opened, 2)
        self.write("summary.json", to_json(summary))
        (self.path / "checkpoint.json").unlink(missing_ok=True)
        for old in self.path.glob("checkpoint-*"):
            shutil.rmtree(old)
        self._drop_versions_but(kept)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise UserError(f"{path}: damaged ({err}); delete it to start this run again from the beginning") from err
