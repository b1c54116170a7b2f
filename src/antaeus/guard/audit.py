"""The audit of a finished run: may its result be believed? Everything that can be recounted is; what is missing counts against it.

It reads the run's own directory. Who can rewrite every file there, seals and hashes included, can make it consistent again; what is
recounted here makes that work, and a copy of `seals.json` kept elsewhere makes it useless.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from antaeus.guard.claims import unbacked
from antaeus.guard.descent import descends, weights_hash
from antaeus.guard.findings import Finding, Severity, several, worst_first
from antaeus.guard.fingerprint import BASE
from antaeus.guard.leaks import leaks
from antaeus.guard.overlap import RULE as CONTAMINATION
from antaeus.guard.overlap import Fence
from antaeus.guard.queries import probing
from antaeus.guard.record import LOGS, RULE, Line, Record, attempt_name, passage_of, prompt_of, read
from antaeus.guard.recount import counting, exam
from antaeus.guard.seals import broken
from antaeus.overlap import text_of
from antaeus.types import Exam


def audit(run_dir: Path, base: Path | None = None, now: Mapping[str, str] | None = None) -> list[Finding]:
    """Findings about a finished run, the worst first; none of them fatal means that its result stands.

    `base` is the folder of the model the run started from, against which its versions are compared; `now` are the seals of its tasks
    and of the graders that are installed (`antaeus.guard.seals.seals`). Raises `UserError` where there is no finished run.
    """
    record, found = read(run_dir)
    try:
        rules = (contamination, sealing, versions, counting, exam, tools_and_leaks)
        found += [finding for rule in rules for finding in rule(record)]
        found += ancestry(record, base)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found.append(Finding(RULE, "fatal", f"a record is not what the run wrote: {type(error).__name__} {error}", str(run_dir)))
    if now is not None:
        found += _drifted(record, now)
    return worst_first(found)


def log_hashes(run_dir: Path) -> dict[str, str]:
    """sha256 of each log of a run that has ended: what `seals.json` holds under "logs"."""
    there = [name for name in LOGS if (run_dir / name).is_file()]
    return {name: hashlib.sha256((run_dir / name).read_bytes()).hexdigest() for name in there}


def contamination(record: Record) -> Iterator[Finding]:
    """What was learned from, prompts and the model's own texts, against anchors and exam."""
    held = {
        line["task"]["id"]: Exam(line["task"]["id"], prompt_of(line["task"]), passage=passage_of(line["task"]))
        for line in record.attempts
        if line["set"] not in ("practice", "survey")
    }
    if not held:
        yield Finding(
            CONTAMINATION, "fatal", "no anchors and no exam stand in the log, so nothing shows that they were kept apart"
        )
    fence = Fence(list(held.values()))
    practice = [line for line in record.attempts if line["set"] == "practice"]
    tasks = {line["task"]["id"]: text_of(prompt_of(line["task"])) for line in practice}
    hits = [(name, hit) for name, text in tasks.items() if (hit := fence.hit(text, name)) is not None]
    yield from several(
        CONTAMINATION, "fatal", ((f"the held-out task {hit[0]!r} was practised on: {hit[1]}", name) for name, hit in hits)
    )
    yield from several(CONTAMINATION, "fatal", _written(fence, practice))
    yield from fence.findings(blind="fatal")


def sealing(record: Record) -> list[Finding]:
    """The seals of the run's start against those of its end, and the logs against their hashes."""
    if not record.seals:
        return []  # said by `read`
    found = broken(record.seals.get("start") or {}, record.seals.get("end") or {})
    logs, there = record.seals.get("logs") or {}, log_hashes(record.path)
    changed = [name for name in LOGS if logs.get(name) != there.get(name)]
    return [
        *found,
        *(
            Finding(RULE, "fatal", f"{name} is not the file that the run left (its hash differs or is missing)", name)
            for name in changed
        ),
    ]


def versions(record: Record) -> Iterator[Finding]:
    """The lineage's parents, and the folders that are there against the hashes taken when they were saved."""
    known = {line["id"] for line in record.lineage}
    for line in record.lineage:
        if line["parent"] is not None and line["parent"] not in known:
            yield Finding("lineage", "fatal", f"its parent {line['parent']!r} stands nowhere in the lineage", line["id"])
    promoted = record.summary["promoted_version"]
    if promoted not in known:
        yield Finding("lineage", "fatal", "the promoted version stands nowhere in the lineage", promoted)
    folders = {line["id"]: record.path / line["path"] for line in record.lineage if line["path"]}
    for name, folder in folders.items():
        if folder.is_dir():
            yield from _as_saved(record, name, folder)
        elif name == promoted:
            yield Finding("weights", "fatal", "the promoted version's folder is not there", name)
    for folder in sorted((record.path / "versions").iterdir()):
        if folder.is_dir() and folder not in folders.values():
            yield Finding("weights", "fatal", "a version that the lineage does not know", folder.name)


def ancestry(record: Record, base: Path | None) -> list[Finding]:
    """Whether the versions that are there descend from `base`, by tensors and by how far the run's steps can have carried them."""
    if base is None:
        return [Finding("weights", "fatal", "the base model is not at hand, so nothing shows that the versions descend from it")]
    found = []
    if (base / "config.json").is_file() and record.hashes.get(BASE) not in (None, weights_hash(base)):
        found.append(Finding("weights", "fatal", "the base model is not the one that the run started from", str(base)))
    for line in record.lineage:
        if line["path"] and (record.path / line["path"]).is_dir():
            which = descends(record.path / line["path"], base, _rates(record, line["round"]))
            found += [Finding(f.rule, f.severity, f.sentence, f"{line['id']}: {f.where}") for f in which]
    return found


def tools_and_leaks(record: Record) -> list[Finding]:
    """Secrets, network clients and claimed tool output in the texts of practice attempts."""
    texts = [
        (attempt_name(line, a), a["text"]) for line in record.attempts if line["set"] == "practice" for a in line["attempts"]
    ]
    found = [*unbacked(texts, record.tools), *(finding for name, text in texts for finding in leaks(text, name))]
    if record.queries is not None:
        found += probing([line["answers"] for line in record.queries])
    alike: dict[tuple[str, Severity], list[tuple[str, str]]] = {}
    for finding in found:
        alike.setdefault((finding.rule, finding.severity), []).append((finding.sentence, finding.where))
    return [finding for (rule, severity), pairs in alike.items() for finding in several(rule, severity, pairs)]


# -- what they stand on


def _written(fence: Fence, practice: Iterable[Line]) -> Iterator[tuple[str, str]]:
    for line in practice:
        for attempt in line["attempts"]:
            if attempt["verdict"]["score"] is not None and (hit := fence.given_away(attempt["text"])) is not None:
                yield f"an attempt that was learned from gives away the held-out task {hit[0]!r}", attempt_name(line, attempt)


def _as_saved(record: Record, name: str, folder: Path) -> Iterator[Finding]:
    if name not in record.hashes:
        yield Finding("weights", "fatal", "no hash was taken when it was saved", name)
    elif record.hashes[name] != weights_hash(folder):
        yield Finding("weights", "fatal", "its weights are not those that the run saved", name)


def _rates(record: Record, until: int) -> float | None:
    """The sum of the learning rates of all steps up to a round; None where the log does not tell."""
    trained = [event.get("train") or {} for event in record.events if event["round"] <= until]
    if not any("lr" in step for step in trained) or any(step.get("lr", 0.0) is None for step in trained):
        return None
    settings = record.config.get("settings", {})  # tell how many steps a round had where its line does not
    steps = settings.get("updates", 1) * settings.get("epochs", 1)
    return sum(step.get("lr", 0.0) * step.get("steps", steps) for step in trained)


def _drifted(record: Record, now: Mapping[str, str]) -> list[Finding]:
    """The run's seals against the present: changed tasks are fatal, other graders only mean that grading again may differ."""
    end = {name: value for name, value in (record.seals.get("end") or {}).items() if name in now}
    changed = broken(end, {name: now[name] for name in end}) if end else []
    fatal = ("tasks/", "answers/", "reading")
    return [
        Finding(f.rule, "fatal" if f.where.startswith(fatal) else "warning", f"since the run, {f.sentence}", f.where)
        for f in changed
    ]
