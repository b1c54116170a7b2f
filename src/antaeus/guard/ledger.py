"""An append-only file of JSON lines that survives a kill at any instant, several processes, and knows when it was changed.

Each line holds the hash of all that stands before it. A last line without its end was cut short by a kill: `append` had not
returned, so nobody acted on it, and it is not read. Anything else that does not fit is damage, and is refused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from antaeus.errors import UserError
from antaeus.types import to_json

Entry = dict[str, Any]


def read(path: Path) -> list[Entry]:
    """All entries. Raises `UserError` where the file is damaged or cannot be read."""
    whole = _bytes(path)
    entries, at = [], 0
    for number, line in enumerate(whole.splitlines(keepends=True), 1):
        if line.endswith(b"\n"):
            entries.append(_entry(line, _chain(whole[:at]), f"{path}:{number}"))
        at += len(line)
    return entries


def append(path: Path, kind: str, **what: Any) -> None:
    """Add an entry, on the disk when this returns. The caller holds the lock. The time in it is for people and is never read."""
    new = not path.exists()
    whole = _bytes(path)
    whole = whole[: whole.rfind(b"\n") + 1]
    time = datetime.now(UTC).isoformat(timespec="seconds")
    with open(path, "ab") as out:
        out.truncate(len(whole))
        out.write(to_json({"kind": kind, **what, "time": time, "after": _chain(whole)}).encode() + b"\n")
        out.flush()
        os.fsync(out.fileno())
    if new:
        _sync(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time. Raises `UserError` where anything within cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path.with_name(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as err:
        raise UserError(
            f"{path}: cannot be written ({err}), and without it nothing may be promoted; make room or mend it"
        ) from err


def _entry(line: bytes, chain: str, where: str) -> Entry:
    try:
        entry = json.loads(line)
        if entry["after"] == chain:
            return entry
    except (ValueError, TypeError, KeyError):
        pass
    raise UserError(
        f"{where}: the ledger is damaged, so what is left of the error budget is unknown; "
        "restore the file from a copy, or begin a new lineage in another folder, with a new exam"
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as err:
        raise UserError(f"{path}: the ledger cannot be read ({err}); mend it, or begin a new lineage in another folder") from err


def _chain(whole: bytes) -> str:
    return hashlib.sha256(whole).hexdigest()[:16]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
