"""Model folders that are built once and kept. An entry is complete or absent: it is built beside its place and renamed into it.

`manifest.json` in each entry holds the size and sha256 of its files and is checked in full whenever the entry is asked for
(270 MB: 0.2 s with SHA instructions); an entry that fails the check is built again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from antaeus.errors import UserError

Say = Callable[[str], None]
"""Where progress goes: one line a call, without newline."""

MANIFEST = "manifest.json"
ABSENT = "absent"


def stderr(line: str) -> None:
    """The default `Say`."""
    print(line, file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """`$ANTAEUS_CACHE`, else `antaeus` in `$XDG_CACHE_HOME`, else `~/.cache/antaeus`. Not necessarily there yet."""
    if own := os.environ.get("ANTAEUS_CACHE"):
        return Path(own).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / ".cache") / "antaeus"


def cached(name: str, build: Callable[[Path, Say], None], say: Say) -> Path:
    """The folder of entry `name`; `build` fills an empty folder with its files when it is absent or damaged.

    Of several processes that ask at once one builds and the others wait. Raises `UserError` where the cache cannot be written.
    """
    entry = cache_dir() / name
    if damage(entry) is None:
        return entry
    try:
        with _locked(entry):
            if (why := damage(entry)) is not None:  # nobody else built it while we waited
                _rebuild(entry, why, build, say)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot build the cached model {entry}: {why}; free or allow space there or set ANTAEUS_CACHE"
        ) from error
    return entry


def damage(entry: Path) -> str | None:
    """What is wrong with a cache entry; None if every file of its manifest is there with its size and sha256."""
    if not entry.exists():
        return ABSENT
    try:
        manifest = json.loads((entry / MANIFEST).read_text(encoding="utf-8"))
        for name, file in manifest.items():
            if (entry / name).stat().st_size != file["size"] or sha256(entry / name) != file["sha256"]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return str(error)
    return None if manifest else f"{MANIFEST} is empty"


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rebuild(entry: Path, why: str, build: Callable[[Path, Say], None], say: Say) -> None:
    new, old = (entry.with_name(f".{entry.name}-{suffix}") for suffix in ("new", "old"))
    for left_over in (new, old):  # of a build that was killed: the lock is ours, so nobody is using them
        shutil.rmtree(left_over, ignore_errors=True)
    if why != ABSENT:
        say(f"the cached model {entry} is damaged ({why}): building it again")
    try:
        new.mkdir()
        build(new, say)
        _seal(new)
        if entry.exists():
            entry.rename(old)
        new.rename(entry)
    except UserError as error:
        hint = "" if why == ABSENT else f" (needed because {entry} is damaged: {why})"
        raise UserError(f"{error}{hint}") from error
    finally:
        for left_over in (new, old):
            shutil.rmtree(left_over, ignore_errors=True)


def _seal(folder: Path) -> None:
    """Writes the manifest and forces everything to the disk, so that the rename that follows cannot outrun the data."""
    manifest = {file.name: {"size": file.stat().st_size, "sha256": sha256(file)} for file in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    entry.parent.mkdir(parents=True, exist_ok=True)
    with (entry.parent / f"{entry.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
