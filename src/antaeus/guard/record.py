"""A finished run's directory, read back with suspicion: what is missing or cannot be read is a finding, never a default."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antaeus.errors import UserError
from antaeus.guard.findings import Finding
from antaeus.types import Message, Passage, Prompt, Source, Verdict

RULE = "log"
LOGS = ("events.jsonl", "attempts.jsonl", "decisions.jsonl", "versions/lineage.jsonl")
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """What a run left behind. `seals` and `hashes` are empty, `tools` and `queries` None, where the run wrote none."""

    path: Path
    config: Line
    events: list[Line]
    attempts: list[Line]
    decisions: list[Line]
    lineage: list[Line]
    summary: Line
    seals: Line
    hashes: dict[str, str]
    tools: dict[str, list[str]] | None
    queries: list[Line] | None


def read(run_dir: Path) -> tuple[Record, list[Finding]]:
    """The record and what is wrong with its files. Raises `UserError` where there is no run, or one that is not finished."""
    if not (run_dir / "config.toml").is_file():
        raise UserError(f"{run_dir}: not a run directory (it has no config.toml)")
    if not (run_dir / "summary.json").is_file():
        raise UserError(f"{run_dir}: the run is not finished (it has no summary.json); `antaeus resume` it first")
    found: list[Finding] = []
    events, attempts, decisions, lineage = (_lines(run_dir / name, found) for name in LOGS)
    hashes = _lines(run_dir / "versions" / "sha256.jsonl", found, "so no version's weights can be checked")
    tools = _lines(run_dir / "tools.jsonl", []) if (run_dir / "tools.jsonl").exists() else None
    queries = _lines(run_dir / "queries.jsonl", found) if (run_dir / "queries.jsonl").exists() else None
    record = Record(
        run_dir, _config(run_dir / "config.toml"), events, attempts, decisions, lineage,
        _object(run_dir / "summary.json", found), _object(run_dir / "seals.json", found, "so a change of graders or tasks would go unseen"),
        {str(line.get("id")): str(line.get("sha256")) for line in hashes},
        None if tools is None else _by_attempt(tools), queries,
    )  # fmt: skip
    return record, found


def attempt_name(line: Line, attempt: Line) -> str:
    """How findings and `tools.jsonl` call an attempt: round/task/index."""
    return f"{line['round']}/{line['task']['id']}/{attempt['index']}"


def prompt_of(task: Line) -> Prompt:
    """A task's prompt as it was before it went to JSON."""
    prompt = task["prompt"]
    return prompt if isinstance(prompt, str) else tuple(Message(m["role"], m["content"]) for m in prompt)


def passage_of(task: Line) -> Passage | None:
    """The passage that a task is about, where it is about one."""
    passage = task.get("passage")
    return Passage(passage["title"], passage["text"]) if passage else None


def verdict_of(attempt: Line) -> Verdict:
    """An attempt's recorded verdict."""
    verdict = attempt["verdict"]
    return Verdict(verdict["score"], Source(verdict["source"]), verdict.get("why", ""))


def _by_attempt(lines: list[Line]) -> dict[str, list[str]]:
    outputs: dict[str, list[str]] = {}
    for line in lines:
        outputs.setdefault(str(line.get("attempt")), []).append(str(line.get("output")))
    return outputs


def _lines(path: Path, found: list[Finding], so: str = "") -> list[Line]:
    if not path.is_file():
        found.append(Finding(RULE, "fatal", f"{path.name} is missing{', ' + so if so else ''}", str(path)))
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    records = [_parse(line) for line in text.split("\n") if line.strip()]  # JSON leaves other line separators be
    if None in records or (text and not text.endswith("\n")):
        found.append(Finding(RULE, "fatal", f"{path.name} has a line that is cut off or no JSON object", str(path)))
    return [record for record in records if record is not None]


def _object(path: Path, found: list[Finding], so: str = "") -> Line:
    record = _parse(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None
    if record is None:
        found.append(Finding(RULE, "fatal", f"{path.name} is missing or no JSON object{', ' + so if so else ''}", str(path)))
    return record or {}


def _parse(line: str) -> Line | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _config(path: Path) -> Line:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as TOML: {error}") from error
