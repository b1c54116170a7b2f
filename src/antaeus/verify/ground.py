"""Sealed answers: the only verdicts that may promote."""

from __future__ import annotations

from antaeus.answers import extract, judge, spans
from antaeus.gym import grade_gym
from antaeus.types import Attempt, Group, Source, Task, Vault, Verdict


def ground(group: Group, vault: Vault) -> list[Verdict]:
    """1 for attempts that give the sealed answer, 0 for others, None where the grader itself failed. Raises `SealBroken` where the
    vault is of another kind than the task."""
    sealed = vault.open(group.task)
    return [_grade(group.task, attempt, sealed) for attempt in group.attempts]


def _grade(task: Task, attempt: Attempt, sealed: str) -> Verdict:
    return graded(task.check, sealed, attempt.answer)


def graded(check: str, sealed: str, answer: str | None) -> Verdict:
    """Ground truth's verdict on an answer; of a "span" with its F1 beside."""
    parts = {"f1": spans.f1(sealed, answer or "")} if check == "span" else {}
    if answer is None:
        return Verdict(0.0, Source.GROUND, "no answer", parts)
    right = right_answer(check, sealed, answer)
    if right is None:
        return Verdict(None, Source.GROUND, "the grader failed or timed out")
    return Verdict(float(right), Source.GROUND, "right" if right else "wrong", parts)


def grade_text(gold: str, text: str | None, check: str = "math") -> bool | None:
    """Is the answer in a whole completion right, read and checked the way a run does it? None: the grader failed."""
    answer = extract(text) if text is not None else None
    return right_answer(check, gold, answer) if answer is not None else False


def right_answer(check: str, sealed: str, answer: str) -> bool | None:
    """Is `answer` right by the check that is named "exact", "span", "reasoning-gym:..." or "math"? None: the grader failed."""
    if check == "exact":
        return sealed.strip() == answer.strip()
    if check == "span":
        return spans.exact(sealed, answer)
    if check.startswith("reasoning-gym:"):
        return grade_gym(check=check, sealed=sealed, answer=answer)
    return judge(gold=sealed, answer=answer)
