"""Intuitor: self-certainty is the reward (rung 4).

Paper: Learning to Reason without External Rewards, Zhao et al. 2025, arXiv 2505.19590. GRPO with r = (1/T) sum_t KL(U || p_t), U uniform on
the vocabulary, p_t the *current* policy's next-token distribution at the sampling temperature: how far from knowing nothing.

Objective, maximised: E[r] by the score function alone, the rewards standardised within the prompt. The policy that is rewarded judges
itself anew each round; in the paper a frozen judge is gamed after a hundred steps.

What differs: no KL term (0.005 there), 16 attempts (7 or 8 there), linear rate; rates suit a small model.

Command: `antaeus run intuitor --model lab lr=1e-4 prompts=32 rounds=20`.
Expect: harm on the laboratory model. 50.5 -> 4.0 % of 200 unseen sums (seed 0, `on_alarm=note`: an alarm rings in round 2; the base stays
the best), 46.0 with lr=2e-5. Within a prompt the reward's correlation with being right is -.25 in the first round (meter
`reward_truth`). On long texts not measured.
On SmolLM2 (defaults, seed 0): 28.5 -> 40.0 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from antaeus.recipes.base import Recipe
from antaeus.recipes.round import Round
from antaeus.types import Group, Source, Verdict
from antaeus.verify.certainty import certain, scored


@dataclass(frozen=True)
class Intuitor(Recipe):
    """Reinforcement learning from internal feedback (Zhao et al. 2025, arXiv 2505.19590)."""

    name: ClassVar[str] = "intuitor"
    title: ClassVar[str] = "self-certainty, the divergence from uniform, is the reward (arXiv 2505.19590)"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [certain(row, "self_certainty") for row in scored(round.engine, groups, self.temperature)]
