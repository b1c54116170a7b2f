"""Promotion: only verdicts of ground truth on sealed tasks count, and only a significant paired gain promotes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from antaeus.stats import mcnemar, paired_interval, proportion_interval
from antaeus.types import Decision, SealBroken, Source, Verdict


def tally(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Count of right answers with its interval. Infrastructure failures (score None) are counted apart, neither right nor wrong."""
    _only_ground(verdicts)
    scored = [v.score for v in verdicts if v.score is not None]
    right = sum(score == 1.0 for score in scored)
    return {
        "n": len(scored),
        "correct": right,
        "accuracy": right / len(scored) if scored else 0.0,
        "ci": proportion_interval(right, len(scored)),
        "infra": len(verdicts) - len(scored),
    }


def compare(before: Sequence[Verdict], after: Sequence[Verdict]) -> dict[str, Any]:
    """Two versions on the same tasks, in the same order: shares, difference with interval, exact paired test.

    A task on which either grading failed is left out of both sides and counted in `infra`.
    """
    _only_ground([*before, *after])
    pairs = [
        (b.score == 1.0, a.score == 1.0)
        for b, a in zip(before, after, strict=True)
        if b.score is not None and a.score is not None
    ]
    n, was, now = len(pairs), sum(b for b, _ in pairs), sum(a for _, a in pairs)
    wins, losses = sum(a and not b for b, a in pairs), sum(b and not a for b, a in pairs)
    return {
        "n": n,
        "before": was / n if n else 0.0,
        "after": now / n if n else 0.0,
        "ci": paired_interval(wins, losses, n),
        "p_value": mcnemar(wins, losses),
        "before_ci": proportion_interval(was, n),
        "after_ci": proportion_interval(now, n),
        "wins": wins,
        "losses": losses,
        "infra": len(before) - n,
    }


def decide(exam: dict[str, Any], version: str, base: str, alpha: float = 0.05) -> Decision:
    """Promote `version` if it answers more exam tasks than the base and the exact test's p-value is below `alpha`; else keep the
    base. A failed grading on more than a tenth of the tasks refuses: such an exam shows nothing."""
    n, infra, wins, losses = (exam[k] for k in ("n", "infra", "wins", "losses"))
    p = exam["p_value"]
    if version == base:
        return Decision("keep", base, "no version was better than the base on the anchors", exam)
    if infra * 10 > n + infra:
        return Decision("keep", base, f"grading failed on {infra} of {n + infra} exam tasks: the exam decides nothing", exam)
    if wins > losses and p < alpha:
        return Decision("promote", version, f"{wins} exam tasks won, {losses} lost, exact McNemar p = {p:.2g}", exam)
    why = f"{wins} exam tasks won, {losses} lost, exact McNemar p = {p:.2g}: not a significant gain at alpha = {alpha}"
    return Decision("keep", base, why, exam)


def _only_ground(verdicts: Sequence[Verdict]) -> None:
    if foreign := {v.source for v in verdicts} - {Source.GROUND}:
        raise SealBroken(f"only ground truth may promote, got verdicts from {', '.join(sorted(foreign))}")
