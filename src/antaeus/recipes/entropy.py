"""The whole gradient of a policy's entropy, both terms, each of which can be switched off (rung 4).

Papers keep one of the two: EM-FT (2505.15134) and one-shot EM (2505.20282) the direct term, RENT (2505.22660) and EM-RL-token the
score-function term. Here is what they approximate; `learn/entropy.py` has the formula.

Objective, minimised, the entropies H_t (nats) at the sampling temperature, T the length of an attempt:
* `aggregate=constant`: E[sum_t H_t], the entropy of the distribution over whole texts (divided by max_tokens). The score-function
  term's advantage of a token is minus the sum of the entropies behind it, less the mean of the group's other attempts there.
* `aggregate=sequence`: E[(1/T) sum_t H_t], the mean entropy of a token; the advantage of all tokens is T times that of the attempt.
`terms=direct` and `terms=score` leave the other term out. In expectation `both` is the exact gradient, on any number of samples; with
`samples=1` there is no baseline.

What differs from its parts: nothing is standardised, since that would change the objective; no clip acts, as there is one update a
round (more would use entropies of a policy that is gone, and are refused). Sampling from a nucleus would be from another
distribution than the one whose entropy is lowered, so `top_p` stays 1.

Command: `antaeus run entropy --model lab lr=1e-4 prompts=32 rounds=20`.
Expect: on the laboratory model 50.5 -> 73.5 % of 200 unseen sums (seed 0, half a minute), as with `aggregate=sequence`; 76.0 with
`terms=direct`. With `terms=score` entropy *rises*, .40 -> .67, an alarm rings in round 4, and with `on_alarm=note` the last version
has 30.5: here the second term alone is no substitute for the first.
On SmolLM2 (`rounds=10`, seed 0): 28.5 -> 42.5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Update
from antaeus.errors import UserError
from antaeus.learn import entropy
from antaeus.recipes.base import Reference, knob, preset
from antaeus.recipes.em_ft import EMFT
from antaeus.recipes.round import Round
from antaeus.types import Group, Lesson, Verdict


@dataclass(frozen=True)
class Entropy(EMFT):
    """Entropy minimisation by its full gradient, of which EM-FT (arXiv 2505.15134) keeps the direct term."""

    name: ClassVar[str] = "entropy"
    title: ClassVar[str] = "the full gradient of its entropy, both terms; one can be left out"

    samples: int = preset("samples", 16, low=1)
    aggregate: str = preset("aggregate", "constant", choices=("constant", "sequence"))
    terms: str = knob("both", "terms of the gradient: direct, score-function, or both", choices=("both", "direct", "score"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.terms != "direct" and (self.updates > 1 or self.top_p < 1):
            raise UserError(
                f"updates={self.updates}, top_p={self.top_p}: the score-function term is that of the policy that sampled, whole; take "
                "updates=1 and top_p=1, or terms=direct, or em_rl"
            )

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        score = entropy.of_the_sum if self.aggregate == "constant" else entropy.of_the_mean
        return entropy.lessons(groups, verdicts, entropy.none if self.terms == "direct" else score, reference=reference)

    def update(self, round: Round) -> Update:
        return replace(super().update(round), entropy=0.0 if self.terms == "score" else 1.0)
