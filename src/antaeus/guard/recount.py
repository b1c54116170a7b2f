"""A finished run counted again: rounds, tokens, anchors, and the exam's verdicts against the decision."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antaeus.guard import gate
from antaeus.guard.findings import Finding
from antaeus.guard.fingerprint import BASE
from antaeus.guard.queries import reopened
from antaeus.guard.record import RULE, Line, Record, attempt_name, verdict_of
from antaeus.types import Decision, Source, Verdict, to_json


def counting(record: Record) -> Iterator[Finding]:
    """Rounds, tokens and anchors: every log against the others."""
    rounds = [event["round"] for event in record.events]
    if rounds != list(range(record.summary["rounds"] + 1)):
        yield Finding(
            RULE, "fatal", f"events.jsonl holds {len(rounds)} rounds, the summary {record.summary['rounds'] + 1}", "events.jsonl"
        )
    sampled: dict[int, int] = {}
    for line in record.attempts:
        if line["set"] in ("practice", "survey"):
            sampled[line["round"]] = sampled.get(line["round"], 0) + sum(a["tokens"] for a in line["attempts"])
    total = 0
    for event in record.events:
        total += sampled.get(event["round"], 0)
        if event["tokens_sampled"] != total:
            what = f"attempts.jsonl holds {total} tokens up to round {event['round']}, events.jsonl counted {event['tokens_sampled']}"
            yield Finding(RULE, "fatal", f"{what}: lines are missing or edited", "attempts.jsonl")
            return
    yield from _anchors(record)
    yield from _consistent(record)


def exam(record: Record) -> Iterator[Finding]:
    """The exam's recorded verdicts, counted again, against the decision and the summary."""
    if record.decisions and not record.summary.get("exam"):
        return  # a lineage refused to open it
    openings, verdicts = _sittings(record)
    yield from reopened(openings)
    best = _best(record)
    if missing := [name for name in (BASE, best) if name not in verdicts]:
        yield Finding("decision", "fatal", "no exam of it stands in the log, so the decision cannot be recounted", missing[0])
        return
    if list(verdicts[BASE]) != list(verdicts[best]):
        yield Finding("decision", "fatal", "base and best version did not sit the same exam", best)
        return
    before, after = list(verdicts[BASE].values()), list(verdicts[best].values())
    if foreign := {v.source for row in [*before, *after] for v in row} - {Source.GROUND}:
        yield Finding(
            "decision", "fatal", f"the exam was judged by {', '.join(sorted(foreign))}: only ground truth may promote", best
        )
        return
    evidence = gate.compare(before, after)
    stated = record.decisions[-1]["evidence"] if record.decisions else {}
    yield from _decided(
        record, evidence, gate.decide(evidence, best, BASE, stated.get("alpha", gate.ALPHA), stated.get("others"))
    )


def _best(record: Record) -> str:
    """The version that the summary calls best by the anchors."""
    round = record.summary["anchor_best_round"]
    return f"r{round:03d}" if round else BASE


def _anchors(record: Record) -> Iterator[Finding]:
    best, most = BASE, -1
    for event in record.events:
        if event["anchor"] is None:
            continue
        lines = [line for line in record.attempts if line["set"] == "anchor" and line["round"] == event["round"]]
        count = gate.tally([_row(line) for line in lines])
        if any(count[key] != event["anchor"][key] for key in ("n", "correct", "infra")):
            what = f"round {event['round']}: {count['correct']} of {count['n']} anchors are right by the log, "
            yield Finding(
                RULE, "fatal", f"{what}{event['anchor']['correct']} of {event['anchor']['n']} by events.jsonl", "attempts.jsonl"
            )
        if count["correct"] >= most:
            best, most = lines[0]["version"] if lines else best, count["correct"]
    if best != _best(record):
        what = f"by the anchors {best} was best, by the summary {_best(record)}"
        yield Finding("decision", "fatal", what, "summary.json")


def _consistent(record: Record) -> Iterator[Finding]:
    """Ground truth gives equal answers to one sealed task equal scores, and no point to an attempt without an answer."""
    scores: dict[tuple[str, str, str | None], float] = {}
    for line in (line for line in record.attempts if line["set"] != "practice"):
        for attempt in line["attempts"]:
            score, answer = attempt["verdict"]["score"], attempt["answer"]
            if score is None:
                continue
            wanted = 0.0 if answer is None else scores.setdefault((line["set"], line["task"]["id"], answer), score)
            if score != wanted:
                yield Finding(
                    RULE, "fatal", "one answer to one task has two scores: a verdict was edited", attempt_name(line, attempt)
                )
                return


def _sittings(record: Record) -> tuple[list[str], dict[str, dict[str, list[Verdict]]]]:
    """Who sat the exam, once for each time, and the verdicts of each version by task."""
    lines = [line for line in record.attempts if line["set"] == "exam"]
    times = Counter((line["version"], line["task"]["id"]) for line in lines)
    verdicts: dict[str, dict[str, list[Verdict]]] = {}
    for line in lines:
        verdicts.setdefault(line["version"], {})[line["task"]["id"]] = _row(line)
    return [name for name, sat in verdicts.items() for _ in range(max(times[name, task] for task in sat))], verdicts


def _decided(record: Record, evidence: Mapping[str, Any], decision: Decision) -> Iterator[Finding]:
    final = [line for line in record.decisions if line["action"] not in ("roll back", "stop")]
    if len(final) != 1 or record.decisions[-1] is not final[0]:
        yield Finding(
            "decision", "fatal", f"decisions.jsonl holds {len(final)} final decisions instead of one", "decisions.jsonl"
        )
        return
    stated, summary = final[0], record.summary
    plain = json.loads(to_json(evidence))
    for where, told in (("decisions.jsonl", stated["evidence"]), ("summary.json", summary["exam"])):
        for key in (key for key, value in plain.items() if not _equal(told.get(key), value)):
            yield Finding("decision", "fatal", f"{key} is {told.get(key)} there, and {plain[key]} by the exam's verdicts", where)
    for where, told in (
        ("decisions.jsonl", (stated["action"], stated["version"])),
        ("summary.json", (summary["decision"], summary["promoted_version"])),
    ):
        if told != (decision.action, decision.version):
            what = f"says {told[0]} {told[1]}, and the exam's verdicts say {decision.action} {decision.version}"
            yield Finding("decision", "fatal", what, where)


def _row(line: Line) -> list[Verdict]:
    return [verdict_of(attempt) for attempt in line["attempts"]]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return a == b
