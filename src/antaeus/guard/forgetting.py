"""What was known is not to be lost: versions that study one text after another are held against what was known before.

How well a question about a passage was *known* is how well the version answered it that had just studied the passage, or, as long as
nobody has studied it, the base: by F1 where the grader tells that, since an answer half as good is a loss too, else right or wrong. A
version is refused where it answers questions about other passages significantly worse than they were known: slow losses add up until they
are seen, however little each step loses. The matrix of versions by passages shows what became of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from antaeus import stats
from antaeus.types import Group, Verdict

LEVEL = 0.05  # one-sided, of a single look: so many harmless versions may be refused
Row = list[float | None]


def harm(known: Mapping[str, float], groups: Sequence[Group], rows: Sequence[Sequence[Verdict]], studied: frozenset[str]) -> str:
    """Why a version may not stay that has studied the passages with these ids: empty where nothing speaks against it. `groups` and `rows`
    are its answers to the questions, whose tags name their passage, and ground truth's verdicts."""
    lost = [
        known[group.task.id] - worth(row[0])
        for group, row in zip(groups, rows, strict=True)
        if row[0].score is not None and not studied & set(group.task.tags)
    ]
    p = stats.sign_flip(lost) if sum(lost) > 0 else 1.0
    worse, better = sum(x > 0 for x in lost), sum(x < 0 for x in lost)
    found = f"of {len(lost)} questions about other passages {worse} are answered worse than they were known and {better} better"
    return f"{found} (mean {-fmean(lost):+.2f}, p = {p:.2g})" if p <= LEVEL else ""


def worth(verdict: Verdict) -> float:
    """How well a question was answered, 0 to 1."""
    return verdict.parts.get("f1", verdict.score or 0.0)


def remembered(
    known: Mapping[str, float], groups: Sequence[Group], rows: Sequence[Sequence[Verdict]], studied: frozenset[str]
) -> dict[str, float]:
    """What is known after a version that stays: of passages that it has studied as it answers now, of others as they were known."""
    found = {group.task.id: worth(row[0]) for group, row in zip(groups, rows, strict=True)}
    new = {group.task.id for group in groups if studied & set(group.task.tags)}
    return {name: now if name in new else known.get(name, now) for name, now in found.items()}


def matrix(lines: Iterable[Mapping[str, Any]], refused: Sequence[str], part: str = "") -> dict[str, Any]:
    """The share of right answers to each passage's anchor questions in each version (or the mean of a part of their verdicts, such as
    "f1"), from lines of attempts.jsonl: the base's look at the anchors, and each one before a merge. And what it comes to.

    Passages stand in the order in which they were studied first. "immediate": mean over passages in the version that studied them first,
    "retained": over the same in the last version that stayed, "base": in the base; the same for the first half of them. Passages of
    refused versions are no part of these means.
    """
    names, studied, seen = _read(lines, part)
    order = {name: i for i, name in enumerate(names)}
    versions = sorted(seen, key=lambda version: (version != "base", version))
    table = [[_share(seen[version].get(name, [])) for name in order] for version in versions]
    stayed = [(version, row) for version, row in zip(versions, table, strict=True) if version not in refused]
    first: dict[int, float | None] = {}  # passage -> share right after it was studied first
    for version, row in stayed:
        for i in (order[name] for name in studied.get(version, [])):
            first.setdefault(i, row[i])
    half = dict(list(first.items())[: (len(first) + 1) // 2])
    base, last = (stayed[0][1], stayed[-1][1]) if stayed else ([], [])
    return {
        "passages": list(names.values()), "questions": [max((len(by.get(n, [])) for by in seen.values()), default=0) for n in order],
        "versions": versions, "studied": [[order[n] for n in studied.get(v, [])] or None for v in versions],
        "matrix": table, "refused": list(refused),
        "base": _mean([base[i] for i in first]), "immediate": _mean([*first.values()]), "retained": _mean([last[i] for i in first]),
        "first_half_immediate": _mean([*half.values()]), "first_half_retained": _mean([last[i] for i in half]),
    }  # fmt: skip


def _read(
    lines: Iterable[Mapping[str, Any]], part: str
) -> tuple[dict[str, str], dict[str, list[str]], dict[str, dict[str, list[float]]]]:
    """Practice passages by id with how they begin, those that each version studied, and the scores of each version by passage."""
    names: dict[str, str] = {}
    studied: dict[str, list[str]] = {}
    seen: dict[str, dict[str, dict[str, float]]] = {}
    for line in lines:
        task = line["task"]
        if line["set"] == "practice" and task.get("passage"):
            names.setdefault(task["id"], f"{task['passage']['title']}: {task['passage']['text'][:40]}")
            studied.setdefault(f"r{line['round']:03d}", []).append(task["id"])
        elif line["set"] == "merge" or (line["set"], line["version"]) == ("anchor", "base"):
            verdict = line["attempts"][0]["verdict"]
            score: float | None = verdict["parts"].get(part) if part else verdict["score"]
            if score is not None:
                for tag in task["tags"]:
                    seen.setdefault(line["version"], {}).setdefault(tag, {})[task["id"]] = score
    return names, studied, {v: {tag: list(by.values()) for tag, by in tags.items()} for v, tags in seen.items()}


def _share(scores: Sequence[float]) -> float | None:
    return fmean(scores) if scores else None


def _mean(values: Row) -> float | None:
    return _share([value for value in values if value is not None])
