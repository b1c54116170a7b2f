"""Our grader as verl's custom reward function:

    custom_reward_function.path=pkg://antaeus.adopt.verl custom_reward_function.name=compute_score

`check` and `read` are set in `custom_reward_function.reward_kwargs` (`+custom_reward_function.reward_kwargs.check=exact`).
"""

from __future__ import annotations

from typing import Any

from antaeus.adopt.reading import grade


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Any = None,
    *,
    check: str = "math",
    read: str = "auto",
    **_: Any,
) -> dict[str, float]:
    """1 if `solution_str` gives the answer `ground_truth`, else 0. `check` and `read` as for `adopt.trl.reward`.

    Returns "score", which verl trains on, and "acc" (the same), "no_answer" and "infra", 0 or 1 each, of which it reports means in
    validation. verl has no way to leave a sample out: where the grader fails, "score" is 0 for want of anything else and "infra" is 1,
    so that a mean of "infra" above 0 tells that scores are too low. All keys are there every time, since verl takes those of the
    batch's first sample for all.
    """
    verdict = grade(solution_str, ground_truth, check=check, read=read)
    score = verdict.score or 0.0
    return {
        "score": score,
        "acc": score,
        "no_answer": float(verdict.why == "no answer"),
        "infra": float(verdict.score is None),
    }
