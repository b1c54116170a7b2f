"""What two versions' verdicts on the same sealed tasks show, and whether it can decide anything. Only ground truth is evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from antaeus import stats
from antaeus.types import Group, SealBroken, Source, Verdict

FAILED = 0.1  # share of failed gradings above which an exam shows nothing
LOPSIDED = 0.05  # Fisher's p-value below which gradings failed more often on one side than on the other

Tries = Verdict | Sequence[Verdict]
"""The verdicts on one task: one, or those of its k tries, which are a cluster and count as one task."""
Evidence = Mapping[str, Any]


def tally(rows: Sequence[Tries]) -> dict[str, Any]:
    """Right answers of one version, task by task, with the interval of their share. A task's number is the share of its tries with
    score 1; tasks of which no try could be graded are counted apart, neither right nor wrong. With several tries, `any` is the share
    of tasks that one of them solves (pass@n, where `accuracy` is pass@1)."""
    tasks = [tries_of(row) for row in rows]
    _only_ground([v for task in tasks for v in task])
    shares = [s for s in map(share, tasks) if s is not None]
    right, n = sum(shares), len(shares)
    found = {
        "n": n,
        "correct": int(right) if right == int(right) else right,
        "accuracy": right / n if n else 0.0,
        "ci": stats.proportion_interval(right, n),
        "infra": len(tasks) - n,
    }
    return found | ({"any": sum(s > 0 for s in shares) / n} if n and max(map(len, tasks)) > 1 else {})


def compare(before: Sequence[Tries] | None, after: Sequence[Tries], flaky: Sequence[str] = ()) -> dict[str, Any]:
    """Two versions on the same tasks, in the same order: shares, difference with interval, exact paired tests.

    A task's number is the share of its tries with score 1. Tries whose grading failed are left out; a task with none left on one
    side is left out of both and counted in `infra`. `p_value` is two-sided and `p_gain` and `p_loss` are its sides: McNemar's exact
    test with one try a task; with several, the larger of the sign-flip test's p and 1 / e-value, for the former alone can be
    misled (`stats.sign_flip`). `e_value` is that of a gain. `discordance` is the mean squared difference, with one try the share
    of tasks that changed. No `before` is a missing baseline. `flaky` are the tasks that `flaky` found.
    """
    was, now = [tries_of(t) for t in before or ()], [tries_of(t) for t in after]
    _only_ground([v for task in [*was, *now] for v in task])
    pairs = [(b, a) for b, a in zip(map(share, was), map(share, now), strict=bool(was)) if b is not None and a is not None]
    n, d = len(pairs), [a - b for b, a in pairs]
    lost, found = sum(b for b, _ in pairs), sum(a for _, a in pairs)
    e, tries = stats.e_value(d), max(map(len, [*was, *now]), default=0)
    p_gain, p_loss = stats.sign_flip(d, "greater"), stats.sign_flip(d, "less")
    if tries > 1:
        p_gain, p_loss = max(p_gain, min(1.0, 1 / e)), max(p_loss, min(1.0, 1 / stats.e_value([-x for x in d])))
    return {
        "n": n,
        "before": lost / n if n else 0.0,
        "after": found / n if n else 0.0,
        "ci": stats.difference_interval(d),
        "p_value": min(1.0, 2 * min(p_gain, p_loss)),
        "before_ci": stats.proportion_interval(lost, n),
        "after_ci": stats.proportion_interval(found, n),
        "wins": sum(x > 0 for x in d),
        "losses": sum(x < 0 for x in d),
        "infra": len(now) - n,
        "p_gain": p_gain,
        "p_loss": p_loss,
        "e_value": e,
        "discordance": sum(x * x for x in d) / n if n else 0.0,
        "tries": tries,
        "graded_before": sum(map(len, was)),
        "graded_after": sum(map(len, now)),
        "infra_before": sum(v.score is None for t in was for v in t),
        "infra_after": sum(v.score is None for t in now for v in t),
        "broken": sum(v.score is not None and not 0 <= v.score <= 1 for t in [*was, *now] for v in t),
        "flaky": len(flaky),
    }


def flaky(groups: Sequence[Group], *gradings: Sequence[Sequence[Verdict]]) -> list[str]:
    """Tasks on which the grader gave the same answer different scores, within one grading of `groups` or between several: grade
    a few groups again to find out. A grading that failed contradicts nothing."""
    seen: dict[tuple[str, str | None], set[float]] = {}
    for grading in gradings:
        for group, row in zip(groups, grading, strict=True):
            for attempt, verdict in zip(group.attempts, row, strict=True):
                if verdict.score is not None:
                    seen.setdefault((group.task.id, attempt.answer), set()).add(verdict.score)
    return list(dict.fromkeys(task for (task, _), scores in seen.items() if len(scores) > 1))


def unfit(seen: Evidence) -> str | None:
    """Why this evidence can decide nothing, whatever it says; None where it can."""
    n, infra = seen["n"], seen["infra"]
    failed, of = (seen["infra_before"], seen["infra_after"]), (seen["graded_before"], seen["graded_after"])
    if not of[0]:
        return "the base has no verdicts on these tasks: there is nothing to compare with"
    if seen["broken"]:
        return f"{seen['broken']} scores are not numbers from 0 to 1: mend the grader"
    if infra > FAILED * (n + infra) or any(f > FAILED * k for f, k in zip(failed, of, strict=True)):
        return (
            f"grading failed on {infra} of {n + infra} tasks ({failed[0]} tries before, {failed[1]} after): this decides nothing"
        )
    if (p := stats.unequal(failed[0], of[0], failed[1], of[1])) < LOPSIDED:
        return (
            f"grading failed {failed[0]} times before and {failed[1]} after (Fisher's exact p = {p:.2g}): the sides are not alike"
        )
    if seen["flaky"]:
        return f"the grader gave the same answer different scores on {seen['flaky']} tasks: it is no ground truth"
    return None


def tries_of(task: Tries) -> Sequence[Verdict]:
    return [task] if isinstance(task, Verdict) else task


def share(tries: Sequence[Verdict]) -> float | None:
    scored = [v.score == 1.0 for v in tries if v.score is not None]
    return sum(scored) / len(scored) if scored else None


def _only_ground(verdicts: Sequence[Verdict]) -> None:
    if foreign := {v.source for v in verdicts} - {Source.GROUND}:
        raise SealBroken(f"only ground truth may promote, got verdicts from {', '.join(sorted(foreign))}")
