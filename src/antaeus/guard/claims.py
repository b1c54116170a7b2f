"""Tool output that an attempt claims and the log does not hold: a model can write "12/12 tests passed" without running one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from antaeus.guard.findings import Finding

RULE = "tool-output"
_BLOCK = re.compile(
    r"^[ \t]*```[ \t]*(?:output|stdout|stderr|console-output|result|results|tool_output|tool)[ \t]*\n(.*?)(?:^[ \t]*```|\Z)"
    r"|<(tool_response|tool_result|tool_output|function_results|execution_result|output|observation|stdout|stderr)>(.*?)(?:</\2>|\Z)",
    re.M | re.S | re.I,
)
_COUNTS = (
    re.compile(r"\btests? passed\s*[:=]?\s*(?P<of>\d+\s*/\s*\d+)", re.I),
    re.compile(r"\b(?P<of>\d+\s*/\s*\d+)\s+(?:unit )?tests?\s+(?:passed|pass|ok)\b", re.I),
    re.compile(r"\b(?P<n>\d+) passed(?:, \d+ \w+)*\s+in\s+[\d.]+\s*s", re.I),
    re.compile(r"\bRan (?P<n>\d+) tests? in [\d.]+\s*s", re.I),
    re.compile(r"\ball\s+(?P<n>\d+)\s+(?:unit )?tests\s+(?:have\s+|were\s+)?pass(?:ed|ing)?\b", re.I),
)
_ALL = re.compile(r"\ball (?:the )?(?:unit )?tests (?:have |are |were )?(?:now )?(?:pass(?:ed|ing)?|green)\b", re.I)
_SHELL = re.compile(r"^(?:\$ |>>> )", re.M)


def claims(text: str) -> list[str]:
    """What `text` presents as the output of a tool: marked blocks, shell sessions, counts of passed tests, "all tests passed"."""
    blocks = [(match[1] or match[3] or "").strip() for match in _BLOCK.finditer(text)]
    rest = _BLOCK.sub(" ", text)
    counts = [match.group() for pattern in _COUNTS for match in pattern.finditer(rest)]
    return [*filter(None, blocks), *counts, *(match.group() for match in _ALL.finditer(rest))]


def unbacked(attempts: Iterable[tuple[str, str]], log: Mapping[str, Sequence[str]] | None) -> list[Finding]:
    """A fatal finding for each claim of an attempt, given as (name, text), that the outputs its tools gave do not hold.

    `log` has the outputs of actual tool calls by the attempt's name. An attempt that claims and has no entry has called no tool; with
    no log at all (None) every claim is unbacked.
    """
    found = []
    for name, text in attempts:
        outputs = list((log or {}).get(name, ()))
        false = [claim for claim in claims(text) if not _holds(outputs, claim)]
        why = "there is no log of tool calls" if log is None else "no tool gave that" if outputs else "no tool was called"
        found += [Finding(RULE, "fatal", f"claims tool output {_short(claim)!r}, but {why}", name) for claim in false]
    return found


def _holds(outputs: Sequence[str], claim: str) -> bool:
    plain, counts = _plain(claim), _numbers(claim)
    if any(plain in _plain(output) for output in outputs):
        return True
    if counts:
        return any(counts & _numbers(output) for output in outputs)
    return bool(_ALL.fullmatch(claim)) and any(_all_green(output) for output in outputs)


def _numbers(text: str) -> set[tuple[int, int]]:
    """(passed, of all) of each count of tests in `text`; where only one number is given, it is both."""
    found = set()
    for match in (match for pattern in _COUNTS for match in pattern.finditer(text)):
        parts = re.findall(r"\d+", match.groupdict().get("of") or match.groupdict().get("n") or "")
        found.add((int(parts[0]), int(parts[-1])))
    return found


def _all_green(output: str) -> bool:
    counts = _numbers(output)
    return (
        bool(counts) and all(a == b for a, b in counts) and not re.search(r"\b[1-9]\d* (?:failed|errors?)\b|\bFAILED\b", output)
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
