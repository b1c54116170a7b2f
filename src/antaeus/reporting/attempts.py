"""Choose the attempts that fit on a page. attempts.jsonl may hold gigabytes, so it is indexed by offset and read twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from antaeus.reporting.reading import Record, parse, records
from antaeus.reporting.wording import clip, is_number, visible

GROUPS = {"practice": 8, "anchor": 8, "exam": 400}  # most prompts shown of a round
ATTEMPTS = 32  # most attempts shown of a group; its votes are counted over all
CHARACTERS = 8_000  # most characters shown of a text
BYTES = 5_000_000  # most bytes of attempts on a page

Bucket = tuple[str, int]  # (set, round); the exam is one bucket of round 0, so that base and candidate stand side by side


@dataclass(slots=True)
class Index:
    """Where the groups lie: bucket -> task id -> version -> byte offset; and how many verdicts each source gave, by set."""

    spots: dict[Bucket, dict[str, dict[str, int]]] = field(default_factory=dict)
    sources: dict[str, Counter[str]] = field(default_factory=dict)
    candidate: str | None = None  # the version that sat the exam beside the base
    unreadable: int = 0

    @property
    def prompts(self) -> int:
        return sum(len(tasks) for tasks in self.spots.values())


def index(path: Path) -> Index:
    """One pass over attempts.jsonl. A group that a resumed run wrote twice counts once: the second is what the first was."""
    found = Index()
    for offset, record in records(path):
        if record is None or not _sound(record):
            found.unreadable += 1
            continue
        name, version = visible(record.get("set")), visible(record.get("version"))
        bucket = (name, 0 if name == "exam" else int(record.get("round") or 0))
        versions = found.spots.setdefault(bucket, {}).setdefault(str(record["task"].get("id")), {})
        if version not in versions:
            versions[version] = offset
            found.sources.setdefault(name, Counter()).update(_sources(record))
        if name == "exam" and version != "base":
            found.candidate = version
    return found


def _sound(record: Record) -> bool:
    """Has the record the shape that pages build on? In a damaged log lies whatever is JSON; what is inside a part is anything still."""
    task, at, tries = record.get("task"), record.get("round") or 0, record.get("attempts") or []
    whole = isinstance(task, dict) and isinstance(at, int) and isinstance(tries, list)
    return whole and all(isinstance(a, dict) and isinstance(a.get("verdict") or {}, dict) for a in tries)


def read_at(path: Path, offsets: Sequence[int]) -> list[Record]:
    """The groups that lie at these places of the log, as `index` found them."""
    if not offsets:
        return []
    with path.open("rb") as file:
        return [_at(file, offset) for offset in offsets]


def choose(path: Path, found: Index, first: tuple[int, ...], limit: int = BYTES) -> list[Record]:
    """Groups for the page within `limit` bytes: one prompt of every round in turn, beginning with the rounds in `first`."""
    chosen: list[Record] = []
    if not found.spots:
        return chosen
    with path.open("rb") as file:
        for bucket, task_id in _turns(found, first):
            spots = found.spots[bucket][task_id]
            group = _pack(bucket, [(v, _at(file, offset)) for v, offset in spots.items()])
            limit -= len(script_json(group).encode())
            if limit < 0:
                break
            chosen.append(group)
    return sorted(chosen, key=lambda g: g["round"])


def script_json(value: Any) -> str:
    """JSON that stays inert inside a script element: no character of it can close the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def votes(attempts: list[Record]) -> list[tuple[str | None, int]]:
    """(answer as parsed, how many gave it), most first; None, no answer, last."""
    counted = Counter(None if (a := attempt.get("answer")) is None else visible(a)[:120] for attempt in attempts)
    return sorted(counted.items(), key=lambda item: (item[0] is None, -item[1]))


def _sources(record: Record) -> list[str]:
    verdicts = (a.get("verdict") or {} for a in record.get("attempts") or ())
    return [visible(v.get("source")) for v in verdicts if v.get("score") is not None]


def _turns(found: Index, first: tuple[int, ...]) -> Iterator[tuple[Bucket, str]]:
    rounds = _spread(sorted({r for _, r in found.spots}))
    order = {r: k for k, r in enumerate(dict.fromkeys((*first, *rounds)))}
    buckets = sorted(found.spots, key=lambda b: (b[0] != "exam", order[b[1]]))
    ids = {b: list(found.spots[b])[: GROUPS.get(b[0], 8)] for b in buckets}
    for rank in range(max(map(len, ids.values()))):
        yield from ((b, ids[b][rank]) for b in buckets if rank < len(ids[b]))


def _spread(rounds: list[int]) -> list[int]:
    """The same rounds, coarse grid first: whatever prefix fits the page covers the whole run evenly."""
    stride = 1 << max(len(rounds) - 1, 1).bit_length()
    return list(dict.fromkeys(r for k in range(stride.bit_length()) for r in rounds[:: max(stride >> k, 1)]))


def _at(file: Any, offset: int) -> Record:
    file.seek(offset)
    return parse(file.readline()) or {}


def _pack(bucket: Bucket, sides: list[tuple[str, Record]]) -> Record:
    task = sides[0][1].get("task") or {}
    packed = {"set": bucket[0], "round": bucket[1], "id": visible(task.get("id")), "prompt": _prompt(task)}
    packed["sides"] = [_side(version, record.get("attempts") or []) for version, record in sides]
    return packed | ({"change": _change(packed["sides"])} if bucket[0] == "exam" else {})


def _side(version: str, attempts: list[Record]) -> Record:
    shown = [_attempt(a) for a in attempts[:ATTEMPTS]]
    return {"version": version, "total": len(attempts), "votes": votes(attempts)[:12], "attempts": shown}


def _attempt(attempt: Record) -> Record:
    verdict = attempt.get("verdict") or {}
    text, _ = clip(str(attempt.get("text") or ""), CHARACTERS)
    answer = attempt.get("answer")
    return {
        "text": visible(text),
        "answer": None if answer is None else visible(clip(str(answer), 400)[0]),
        "score": verdict["score"] if is_number(verdict.get("score")) else None,
        "source": visible(verdict.get("source") or ""),
        "why": visible(clip(str(verdict.get("why") or ""), 600)[0]),
        "stop": visible(attempt.get("stop") or ""),
        "index": attempt.get("index"),
    }


def _prompt(task: Record) -> str:
    prompt = task.get("prompt")
    if isinstance(prompt, list):
        prompt = "\n".join(f"{m.get('role')}: {m.get('content')}" for m in prompt if isinstance(m, dict))
    return visible(clip(str(prompt or ""), CHARACTERS // 2)[0])


def _change(sides: list[Record]) -> str:
    """What the candidate did to one exam task, by the first attempt of either side."""
    scores = {side["version"] == "base": (side["attempts"] or [{}])[0].get("score") for side in sides}
    before, after = scores.get(True), scores.get(False)
    if before is None or after is None:
        return "not scored"
    return {(0, 1): "wrong → right", (1, 0): "right → wrong", (1, 1): "right both times"}.get(
        (before > 0.5, after > 0.5), "wrong both times"
    )
