"""How sure a model is of an attempt: numbers from the statistics of its tokens, each larger where it is surer.

p_t is the next-token distribution before token y_t at the sampling temperature, T the number of tokens, V the vocabulary; all in nats.
None of them asks whether there is an answer, let alone a right one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from antaeus.engine.base import Engine, Scores
from antaeus.types import Group, Source, Verdict

MEASURES: dict[str, Callable[[Scores], float]] = {
    # (1/T) sum KL(U || p_t) = (1/T) sum (-log V - mean_v log p_t(v)); Intuitor, 2505.19590
    "self_certainty": lambda s: fmean(s.certainties),
    # -(1/T) sum H(p_t); RENT, 2505.22660
    "token_entropy": lambda s: -fmean(s.entropies),
    # -sum H(p_t); EM-RL-token, 2505.15134
    "summed_entropy": lambda s: -math.fsum(s.entropies),
    # (1/T) sum log p_t(y_t): a draw of minus the sequence's entropy, by token; URLVR, 2603.08660
    "trajectory_entropy": lambda s: fmean(s.logprobs),
    # sum log p_t(y_t) = log pi(y): a draw of minus the sequence's entropy; EM-RL-sequence, 2505.15134
    "log_probability": lambda s: math.fsum(s.logprobs),
    # pi(y): of long attempts so near 0 that grpo's eps outweighs it; URLVR
    "probability": lambda s: math.exp(math.fsum(s.logprobs)),
}


def certain(scores: Sequence[Scores], measure: str) -> list[Verdict]:
    """The attempts' certainties by one of `MEASURES`, from `scores`, one an attempt."""
    of = MEASURES[measure]
    return [Verdict(of(s), Source.SELF, measure) for s in scores]


def drawn(group: Group) -> list[Scores]:
    """What sampling already knows of each attempt: log-probabilities and entropies, no certainties. They are those of the policy that
    sampled it, at the sampling temperature."""
    return [Scores(a.logprobs, a.entropies) for a in group.attempts]


def scored(engine: Engine, groups: Sequence[Group], temperature: float) -> list[list[Scores]]:
    """Statistics of all attempts under the policy as it is now: a forward pass, needed for certainties."""
    rows = iter(engine.score([a for group in groups for a in group.attempts], temperature=temperature))
    return [[next(rows) for _ in group.attempts] for group in groups]
