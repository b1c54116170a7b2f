"""What an audit says: a rule, how bad it is, one plain sentence, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["note", "warning", "fatal"]
"""A note is for the reader; a warning is for a person to look into; after a fatal finding the result may not be believed."""

ORDER: tuple[Severity, ...] = ("fatal", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `rule` is the rule's name, `where` a file, task, attempt or tensor; JSON by `antaeus.types.to_json`."""

    rule: str
    severity: Severity
    sentence: str
    where: str = ""


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sorted by severity, each once, otherwise in the order found."""
    return sorted(dict.fromkeys(findings), key=lambda finding: ORDER.index(finding.severity))


def several(rule: str, severity: Severity, found: Iterable[tuple[str, str]], most: int = 5) -> list[Finding]:
    """A finding for each (sentence, where), after the first `most` one that counts the rest."""
    pairs = list(found)
    rest = [Finding(rule, severity, f"{len(pairs) - most} more findings like these")] if len(pairs) > most else []
    return [*(Finding(rule, severity, sentence, where) for sentence, where in pairs[:most]), *rest]
