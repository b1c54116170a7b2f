"""What rings while somebody else's trainer runs: on the anchors, and in the trainer's own log."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

from antaeus.answers import canonical
from antaeus.engine.base import Scores
from antaeus.guard import alarms, gate, meters
from antaeus.types import Group, TaskSet, Verdict

ANCHOR_METERS = ("no_answer", "same_answer", "truncated", "length", "token_entropy")
WINDOW = 10
TOGETHER = {
    ("reward", "kl"): "reward and KL to the reference jumped together: a reward that is gamed looks like this",
    ("token_entropy", "length"): "entropy and length of the answers to the anchors jumped together",
}


def anchor_meters(groups: Sequence[Group], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Those of `guard.meters` that one greedy answer to each anchor can tell."""
    own = [[Scores(g.attempts[0].logprobs, g.attempts[0].entropies)] for g in groups]
    measured = meters.measure(groups, [[v] for v in verdicts], own)
    return {name: measured[name] for name in ANCHOR_METERS}


def new_alarms(now: Mapping[str, float], base: Mapping[str, float], tasks: TaskSet) -> list[str]:
    """The alarms of `guard.alarms` that ring now, compared with the base. Answers as alike as the right ones are no alarm."""
    limit = _alike(tasks)
    before, after = ({**m, "same_answer": m["same_answer"] if m["same_answer"] > limit else 0.0} for m in (base, now))
    broken = [] if all(map(math.isfinite, now.values())) else ["the model's probabilities are no finite numbers any more"]
    return broken + list(alarms.ringing([before] * alarms.WINDOW + [after] * alarms.WINDOW, len(tasks.anchor)).values())


def _alike(tasks: TaskSet) -> float:
    """The largest share of anchors that have the same right answer."""
    count = Counter(canonical(tasks.anchor_vault.open(task)) for task in tasks.anchor)
    return max(count.values()) / len(tasks.anchor)


def fallen(best: Sequence[Verdict], now: Sequence[Verdict], look: int, alpha: float) -> str | None:
    """Says so where look number 1, 2, ... shows a significant fall from the best version (exact McNemar test). Each look has its
    share of `alpha`, alpha / (look (look + 1)): a run of any length that loses nothing is stopped with probability alpha at most,
    but for the choice of the best among looks, which errs on the side of stopping."""
    seen = gate.compare(best, now)
    wins, losses, p = seen["wins"], seen["losses"], seen["p_value"]
    if losses <= wins or p >= alpha / (look * (look + 1)):
        return None
    return f"the anchors fell: {losses} lost and {wins} won since the best version, exact McNemar p = {p:.2g}"


class Jumps:
    """Values that jump: above the largest of the last `WINDOW` by more than these spread (largest - smallest).

    Of independent values 0.09 % jump where they are normal, 0.6 % of Student's t with 3 degrees of freedom, 2.8 % of lognormal ones
    (400 000 draws each); a steady trend does not. One series alone is therefore no alarm; two together are.
    """

    def __init__(self) -> None:
        self._last: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))

    def see(self, values: Mapping[str, Any]) -> list[str]:
        """Takes one log entry, whose names may have a path before them ("objective/kl"); returns the alarms that ring."""
        shown = {name.rsplit("/", 1)[-1]: v for name, v in values.items()}
        numbers = {name: float(v) for name, v in shown.items() if isinstance(v, int | float) and math.isfinite(v)}
        jumped = {name for name, v in numbers.items() if self._jumps(name, v)}
        for name, v in numbers.items():
            self._last[name].append(v)
        return [text for names, text in TOGETHER.items() if jumped.issuperset(names)]

    def _jumps(self, name: str, value: float) -> bool:
        last = self._last[name]
        return len(last) == WINDOW and value > 2 * max(last) - min(last)
