"""Promotion: only verdicts of ground truth on sealed tasks count, and only a significant paired gain, at no other ability's cost,
promotes. There are three outcomes, and `undecided` is not a pass: whatever is missing or unsound ends there, with the base."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from antaeus import stats
from antaeus.guard.evidence import Evidence, Tries, compare, flaky, share, tally, tries_of, unfit
from antaeus.types import Decision

__all__ = ["compare", "decide", "flaky", "judge_stream", "tally"]

ALPHA = 0.025  # one-sided: what a two-sided test at 5 % asks of a gain
MARGIN = 0.05  # how far another ability may fall before it counts
WORTH = 0.05  # the gain for which tasks are counted where none is seen
Action = Literal["promote", "reject", "undecided"]


def decide(
    exam: Evidence,
    version: str,
    base: str,
    alpha: float = ALPHA,
    others: Mapping[str, Evidence] | None = None,
    margin: float = MARGIN,
) -> Decision:
    """Promote `version` over `base`, reject it, or leave it undecided, on evidence from `compare`.

    Promoted: the exam's gain is significant (`p_gain` <= alpha) and each of the `others`, the abilities it must not cost, is shown
    to have fallen by less than `margin` (the lower end of its 95 % interval): several aims are a vector and are never added up.
    Rejected: the exam's loss is significant at alpha, or another ability has fallen beyond doubt. All else is undecided, with what
    is missing. Where proposals are many, alpha is what `Lineage.open` gives.
    """
    exam = {**exam, "alpha": alpha, **({"others": others} if others else {})}
    if version == base:
        return Decision("undecided", base, "no version was better than the base on the anchors", exam)
    action, why = _judge(exam, alpha, others or {}, margin)
    return Decision(action, version if action == "promote" else base, why, exam)


def _judge(exam: Evidence, alpha: float, others: Mapping[str, Evidence], margin: float) -> tuple[Action, str]:
    for name, seen in {"exam": exam, **others}.items():
        if fault := unfit(seen):
            return "undecided", f"{name}: {fault}"
    scored = f"{exam['wins']} exam tasks won, {exam['losses']} lost"
    at_risk = {name: seen["ci"] for name, seen in others.items() if seen["ci"][0] <= -margin}
    if fallen := [f"{name} ({_points(low)} to {_points(high)} points)" for name, (low, high) in at_risk.items() if high < 0]:
        return "reject", f"another ability fell: {', '.join(fallen)}"
    if exam["p_loss"] <= alpha:
        return "reject", f"{scored}, one-sided p = {exam['p_loss']:.2g}: worse than the base at alpha = {alpha:.2g}"
    if exam["p_gain"] > alpha:
        return "undecided", _too_little(exam, alpha, scored)
    if at_risk:
        unsure = ", ".join(f"{name} may have fallen by {_points(-low)} points" for name, (low, _) in at_risk.items())
        return "undecided", f"{scored}, but {unsure}, and {_points(margin)} is the margin: test it on more tasks"
    return "promote", f"{scored}, one-sided p = {exam['p_gain']:.2g} at alpha = {alpha:.2g}"


def _too_little(exam: Evidence, alpha: float, scored: str) -> str:
    """Why there is no significant gain, and what it would take to see one."""
    n, gain, d = exam["n"], exam["after"] - exam["before"], exam["discordance"]
    if 0.5**n > alpha:
        return (
            f"{n} tasks can show no gain whatever at alpha = {alpha:.2g}; {math.ceil(-math.log2(alpha))} is the least, see more"
        )
    if exam["before"] == 1:
        return f"the base answers all {n} tasks: no gain can show on them; take harder ones"
    if exam["before"] == exam["after"] == 0:
        return f"neither version answers any of {n} tasks: nothing can show on them; take easier ones"
    level = alpha if exam["tries"] == 1 else stats.level_of_e(alpha)
    least, aim = stats.visible_gain(n, d, level), gain if gain > 0 else WORTH
    need = f"{n} tasks cannot be relied on to show a gain below {_points(least)} points"
    if aim < least:
        need += f"; about {stats.tasks_needed(aim, d, level):,} are needed for one of {_points(aim)}"
    return f"{scored}, one-sided p = {exam['p_gain']:.2g}: no significant gain at alpha = {alpha:.2g}. {need}"


def judge_stream(pairs: Iterable[tuple[Tries, Tries]], version: str, base: str, alpha: float = ALPHA) -> Decision:
    """Judge task by task, for who pays per task: (before, after) of one task after the other, in an order fixed beforehand.

    Stops as soon as the e-process reaches 1 / alpha (promote), or the mirrored one does (reject): the chance that it ever promotes
    what is no better is at most alpha however often one looks (`stats.log_wealth`). Unfit evidence never stops it. Undecided where
    all tasks are used up. It has less power than `decide` on all tasks, and does not look at other abilities.
    """
    before, after, gains = [], [], []
    for was, now in pairs:
        before.append(was)
        after.append(now)
        b, a = share(tries_of(was)), share(tries_of(now))
        gains += [a - b] if a is not None and b is not None else []
        if (action := _crossed(gains, alpha)) != "undecided" and not unfit(compare(before, after)):
            break
    else:
        action = "undecided"
    seen = {**compare(before, after), "alpha": alpha}
    reached = f"reached {1 / alpha:,.0f}" if action != "undecided" else f"did not reach {1 / alpha:,.0f}"
    why = f"{seen['wins']} of {seen['n']} exam tasks won, {seen['losses']} lost: the e-process {reached}"
    why = unfit(seen) or why
    return Decision(action, version if action == "promote" else base, why, seen)


def _crossed(gains: list[float], alpha: float) -> Action:
    """Which of the two e-processes stands at 1 / alpha or above after the last task."""
    if gains and stats.log_wealth(gains)[-1] >= -math.log(alpha):
        return "promote"
    return "reject" if gains and stats.log_wealth([-g for g in gains])[-1] >= -math.log(alpha) else "undecided"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
