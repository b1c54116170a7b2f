"""A model asked whether its own attempt is right, in yes or no (self-verification; URLVR, 2603.08660)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from antaeus.overlap import text_of
from antaeus.types import Attempt, Group, Practice, Source, Verdict

_SAID = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


def questions(group: Group) -> list[Practice]:
    """One judging task for each attempt that has an answer, in order; worked examples are left out. Its id names the attempt."""
    return [Practice(f"{group.task.id}#{a.index}", _question(group, a)) for a in group.attempts if a.answer is not None]


def _question(group: Group, attempt: Attempt) -> str:
    return (
        f"Question:\n{text_of(group.task.prompt).strip()}\n\nProposed solution:\n{attempt.text.strip()}\n\n"
        "Is the final answer of the proposed solution right? Check it, then end with yes or no.\nVerdict:"
    )


def judged(group: Group, said: Sequence[str]) -> list[Verdict]:
    """1 or 0 by the last yes or no in each of `said`, the texts for the attempts with an answer; None where it has neither. An attempt
    without an answer has 0."""
    texts = iter(said)
    return [yes_or_no(next(texts)) if a.answer is not None else Verdict(0.0, Source.SELF, "no answer") for a in group.attempts]


def same_answer(name: str, question: str, right: str, said: str) -> Practice:
    """The task of judging whether an answer means what the right one does."""
    return Practice(
        name,
        f"Question: {question}\nRight answer: {right}\nGiven answer: {said}\nDoes the given answer mean the same as the right one? "
        "Say yes or no.\nVerdict:",
    )


def yes_or_no(text: str) -> Verdict:
    """1 or 0 by the last yes or no in what a judge said; None where there is neither."""
    found = _SAID.findall(text)
    if not found:
        return Verdict(None, Source.SELF, "the model said neither yes nor no")
    score = float(found[-1].lower() == "yes")
    return Verdict(score, Source.SELF, f"the model said {found[-1].lower()}", {"judge": score})
