"""EM-RL: how sure the model was of an attempt is its reward (rung 4).

Paper: The Unreasonable Effectiveness of Entropy Minimization, Agarwal et al. 2025, arXiv 2505.15134. REINFORCE with RLOO's baseline.

Objective, maximised, by the score function alone (no gradient through the reward):
* `reward=sequence`: E[log pi(y)], r = sum_t log p_t(y_t). Since E[grad log pi(y)] = 0, this is the *full*, unbiased gradient of minus
  the sequence's entropy, by one sample of it.
* `reward=token`: E[-sum_t H_t], r = -sum_t H_t: only the score-function term of the same; `em_ft` is the direct one, `entropy` has both.
Probabilities are those of the sampling temperature. `aggregate=constant` keeps the sum over an attempt's tokens.

What differs: one update a round, no KL term (0.001 there), 16 attempts (4 there); rates suit a small model.

Command: `antaeus run em_rl --model lab lr=1e-4 prompts=32 rounds=20`.
Expect: on the laboratory model 50.5 -> 73.5 % of 200 unseen sums (seed 0, half a minute). `reward=token` harms: an alarm in round 4 and
33.0 at the end (`on_alarm=note`), 51.0 with lr=2e-5. The entropy before a token does not know which token was drawn: within a prompt
its correlation with being right is 0.0 in the first round (meter `reward_truth`), that of the log-probability .47.
On SmolLM2 (`rounds=15`, seed 0): 28.5 -> 45.5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from antaeus.recipes.base import Recipe, knob, preset
from antaeus.recipes.round import Round
from antaeus.types import Group, Source, Verdict
from antaeus.verify.certainty import certain, drawn

MEASURE = {"sequence": "log_probability", "token": "summed_entropy"}


@dataclass(frozen=True)
class EMRL(Recipe):
    """Entropy minimisation by reinforcement (Agarwal et al. 2025, arXiv 2505.15134)."""

    name: ClassVar[str] = "em_rl"
    title: ClassVar[str] = "how sure the model was of an attempt is its reward (arXiv 2505.15134)"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    advantage: str = preset("advantage", "rloo")
    aggregate: str = preset("aggregate", "constant")
    reward: str = knob(
        "sequence", "sequence = log-probability of the attempt; token = minus the sum of its entropies", choices=tuple(MEASURE)
    )

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [certain(drawn(group), MEASURE[self.reward]) for group in groups]
