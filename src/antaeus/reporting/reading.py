"""Read a run directory back. Whatever an interrupted run left behind is enough: only config.toml must be there."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antaeus.errors import UserError

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """The plain files of one run, except attempts.jsonl, which may be too large to hold. `summary` is empty while unfinished."""

    path: Path
    config_text: str
    config: Record
    events: tuple[Record, ...]  # in order of rounds, one a round
    decisions: tuple[Record, ...]
    versions: tuple[Record, ...]
    summary: Record
    damaged: tuple[str, ...]  # files with unreadable lines before their last one

    @property
    def rounds_done(self) -> int:
        return self.events[-1]["round"] if self.events else 0

    @property
    def finished(self) -> bool:
        return bool(self.summary.get("decision")) and self.summary.get("status") != "interrupted"

    def fact(self, name: str) -> Any:
        """`name` from the summary, else from the configuration, else None."""
        settings = self.config.get("settings")
        return next(
            (d[name] for d in (self.summary, self.config, settings) if isinstance(d, dict) and d.get(name) is not None), None
        )


def read_run(run_dir: Path) -> Run:
    """The run in `run_dir`. Raises `UserError` if there is none."""
    text = _config_text(run_dir)
    damaged: list[str] = []
    names = ("events.jsonl", "decisions.jsonl", "lineage.jsonl", "versions/lineage.jsonl")
    events, decisions, lineage, inner = (_lines(run_dir / name, damaged) for name in names)
    rounds = {e["round"]: e for e in events if isinstance(e.get("round"), int)}  # a resumed run may repeat its last round
    return Run(
        path=run_dir,
        config_text=text,
        config=_toml(text, damaged),
        events=tuple(rounds[r] for r in sorted(rounds)),
        decisions=tuple(decisions),
        versions=tuple(v for v in lineage or inner if "id" in v),
        summary=_json_object(run_dir / "summary.json"),
        damaged=tuple(damaged),
    )


def records(path: Path) -> Iterator[tuple[int, Record | None]]:
    """(byte offset, record) of each line of a JSON-lines file; the record is None where the line is no JSON object."""
    if not path.is_file():
        return
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield offset, parse(line)
            offset += len(line)


def parse(line: str | bytes) -> Record | None:
    """One JSON object, or None if `line` is not one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def inside(record: Any, *names: str) -> Record:
    """The object that lies in `record` under these names, one in another; an empty one where there is none."""
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, dict) else {}


def listed(record: Record, name: str) -> list[Any]:
    """The list that lies in `record` under this name; an empty one where there is none."""
    found = record.get(name)
    return found if isinstance(found, list) else []


def _lines(path: Path, damaged: list[str]) -> list[Record]:
    found = [record for _, record in records(path)]
    if None in found[:-1]:  # the last line may be partial: the run was killed while it wrote
        damaged.append(path.name)
    return [record for record in found if record is not None]


def _config_text(run_dir: Path) -> str:
    try:
        return (run_dir / "config.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise UserError(f"no run in {run_dir}: it has no readable config.toml; give the directory of a run") from None


def _toml(text: str, damaged: list[str]) -> Record:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        damaged.append("config.toml")
        return {}


def _json_object(path: Path) -> Record:
    return (parse(path.read_bytes()) if path.is_file() else None) or {}
