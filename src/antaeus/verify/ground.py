"""Sealed answers: the only verdicts that may promote."""

from __future__ import annotations

from antaeus.answers import judge
from antaeus.gym import grade_gym
from antaeus.types import Attempt, Group, Source, Task, Vault, Verdict


def ground(group: Group, vault: Vault) -> list[Verdict]:
    """1 for attempts that give the sealed answer, 0 for others, None where the grader itself failed. Raises `SealBroken` where the
    vault is of another kind than the task."""
    sealed = vault.open(group.task)
    return [_grade(group.task, attempt, sealed) for attempt in group.attempts]


def _grade(task: Task, attempt: Attempt, sealed: str) -> Verdict:
    if attempt.answer is None:
        return Verdict(0.0, Source.GROUND, "no answer")
    right = _check(task.check, sealed, attempt.answer)
    if right is None:
        return Verdict(None, Source.GROUND, "the grader failed or timed out")
    return Verdict(float(right), Source.GROUND, "right" if right else "wrong")


def _check(check: str, sealed: str, answer: str) -> bool | None:
    if check == "exact":
        return sealed.strip() == answer.strip()
    if check.startswith("reasoning-gym:"):
        return grade_gym(check=check, sealed=sealed, answer=answer)
    return judge(gold=sealed, answer=answer)
