"""What a run does differently after an alarm rolled it back to its best version.

All but the first are SRT's (2505.21444, §5): there, labels from a fixed version delay collapse, a curriculum of the easiest third
and a threshold on agreement kept it away for as long as was tried, and a KL penalty did not help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from antaeus.types import Practice

MITIGATIONS = {
    "lr": "a third of the learning rate",
    "agreement": "learn only from prompts with a larger majority (0.2 more each time, 0.9 at most)",
    "curriculum": "practise only the third of the prompts on which the best version agrees most with itself",
    "labels": "reward agreement with the best version's majority answers instead of the learner's own",
}
CUT, STEP, HIGHEST, EASIEST = 1 / 3, 0.2, 0.9, 1 / 3
MOST = 3  # alarms after which learning ends instead

Survey = Mapping[str, tuple[str | None, float]]
"""Majority answer of a fixed version and its share of the votes, by id of the practice task."""


def easiest(practice: Sequence[Practice], survey: Survey) -> tuple[Practice, ...]:
    """The third of the tasks with the largest majorities, in the order they came."""
    ranked = sorted(practice, key=lambda task: -survey[task.id][1])
    chosen = {task.id for task in ranked[: max(1, round(EASIEST * len(practice)))]}
    return tuple(task for task in practice if task.id in chosen)
