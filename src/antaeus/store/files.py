"""Writing that is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`, durably: a crash leaves the old file or the new one."""
    draft = path.with_name(f".{path.name}.draft")
    with open(draft, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(draft, path)


def sync(folder: Path) -> None:
    """Bring everything in `folder` to the disk, the names too."""
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def digest(folder: Path) -> dict[str, str]:
    """sha256 of each file in `folder`, by relative name."""
    sums = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with open(path, "rb") as data:
            sums[str(path.relative_to(folder))] = hashlib.file_digest(data, "sha256").hexdigest()
    return sums


def damaged(folder: Path, sums: Mapping[str, str]) -> str | None:
    """The first file of `folder` that is not what `sums` says, or None."""
    found = digest(folder) if folder.is_dir() else {}
    return next((name for name, value in sums.items() if found.get(name) != value), None)


def toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """A TOML text of flat tables of strings, numbers, booleans and lists of these; keys whose value is None are left out. The table
    named "" comes first, without a header."""
    parts = []
    for name in sorted(tables, key=bool):
        lines = [f"[{name}]"] if name else []
        lines += [f"{key} = {_value(value)}" for key, value in tables[name].items() if value is not None]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _value(value: object) -> str:
    import json

    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's strings, integers, floats and booleans are TOML's too, but for the delete character and surrogate escapes.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
