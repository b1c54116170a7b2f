"""Sealed answers: the only verdicts that may promote."""

from __future__ import annotations

from antaeus.answers import extract, judge
from antaeus.gym import grade_gym
from antaeus.types import Group, Source, Task, Vault, Verdict


def ground(group: Group, vault: Vault) -> list[Verdict]:
    """1 for attempts that give the sealed answer, 0 for others, None where the grader itself failed. Raises `SealBroken` where the
    vault is of another kind than the task."""
    sealed = vault.open(group.task)
    verdicts = {answer: _grade(group.task, answer, sealed) for answer in dict.fromkeys(a.answer for a in group.attempts)}
    return [verdicts[attempt.answer] for attempt in group.attempts]  # the same answer is graded once: symbolic checks are slow


def _grade(task: Task, answer: str | None, sealed: str) -> Verdict:
    if answer is None:
        return Verdict(0.0, Source.GROUND, "no answer")
    right = right_answer(task.check, sealed, answer)
    if right is None:
        return Verdict(None, Source.GROUND, "the grader failed or timed out")
    return Verdict(float(right), Source.GROUND, "right" if right else "wrong")


def grade_text(gold: str, text: str | None, check: str = "math") -> bool | None:
    """Is the answer in a whole completion right, read and checked the way a run does it? None: the grader failed."""
    answer = extract(text) if text is not None else None
    return right_answer(check, gold, answer) if answer is not None else False


def right_answer(check: str, sealed: str, answer: str) -> bool | None:
    """Is `answer` right by the check that is named "exact", "reasoning-gym:..." or "math"? None: the grader failed."""
    if check == "exact":
        return sealed.strip() == answer.strip()
    if check.startswith("reasoning-gym:"):
        return grade_gym(check=check, sealed=sealed, answer=answer)
    return judge(gold=sealed, answer=answer)
