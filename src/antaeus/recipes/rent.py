"""RENT: minus the mean token entropy of an attempt is its reward (rung 4).

Paper: Maximizing Confidence Alone Improves Reasoning, Prabhudesai et al. 2025, arXiv 2505.22660. GRPO with r = -(1/T) sum_t H_t, H_t the
entropy (nats) of the policy that sampled, at the sampling temperature.

Objective, maximised: E[r] by the *score-function* term alone, with no gradient through the entropies (that would be `em_ft`; `entropy`
with `aggregate=sequence` has both). GRPO's division by the group's spread makes it a ranking within the prompt.

What differs: no KL term (0.001 there), one update a round, 16 attempts (5 there); rates suit a small model. `penalty` is the option of
the official code that gives an attempt without an answer a reward of its own (-7 there); 0 leaves it its entropy.

Command: `antaeus run rent --model lab lr=1e-4 prompts=32 rounds=20`.
Expect: harm on the laboratory model. 50.5 -> 4.5 % of 200 unseen sums (seed 0, `on_alarm=note`: an alarm rings in round 2; the base stays
the best), 43.0 with lr=2e-5. Entropies before tokens do not know which tokens were drawn: within a prompt the reward's correlation
with being right is 0.0 in the first round (meter `reward_truth`), and token entropy *rises*, .40 -> 1.34. On long texts not measured.
On SmolLM2 (`rounds=10`, seed 0): 28.5 -> 31.5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from antaeus.recipes.base import Recipe, knob
from antaeus.recipes.round import Round
from antaeus.types import Group, Source, Verdict
from antaeus.verify.certainty import certain, drawn


@dataclass(frozen=True)
class RENT(Recipe):
    """Reinforcement learning via entropy minimisation (Prabhudesai et al. 2025, arXiv 2505.22660)."""

    name: ClassVar[str] = "rent"
    title: ClassVar[str] = "minus the mean token entropy of an attempt is its reward (arXiv 2505.22660)"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    penalty: float = knob(0.0, "an attempt without an answer has a reward of minus this; 0 = as any other", low=0.0)

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [self._rewards(group) for group in groups]

    def _rewards(self, group: Group) -> list[Verdict]:
        sure = certain(drawn(group), "token_entropy")
        if not self.penalty:
            return sure
        fined = Verdict(-self.penalty, Source.SELF, "no answer")
        return [v if a.answer is not None else fined for v, a in zip(sure, group.attempts, strict=True)]
