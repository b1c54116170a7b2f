"""EM-FT: the entropy of its own next-token distributions is the loss (rung 4).

Paper: The Unreasonable Effectiveness of Entropy Minimization, Agarwal et al. 2025, arXiv 2505.15134. Attempts are sampled, and the
distributions along them made sharper; no answer is read, nothing is rewarded.

Objective, minimised: (1/N) sum_i (1/T_i) sum_t H(p_t), p_t at the sampling temperature, attempts held fixed (`aggregate=sequence`;
"token" weighs all tokens alike). Its gradient is the *direct* term of the gradient of sequence entropy, and only that: which texts are
written does not enter. `entropy` has both terms, `em_rl` the rewards of the same paper.

What differs, and why:
* One update a round on fresh attempts, no KL term; rates and sizes suit a small model.
* Verdicts (minus the mean entropy) are only logged: learning reads nothing of them but an abstention. So control rewards and
  `labels=fixed` would change nothing, and are refused; what is left to compare with is `control=no-op`, and `ttrl control=random`.

Command: `antaeus run em_ft --model lab lr=1e-4 prompts=32 rounds=20`.
Expect: on the laboratory model 50.5 -> 76.0 % of 200 unseen sums (seed 0, ten seconds), 77.5 with samples=16; token entropy .40 -> .19.
`ttrl` brings 70 to 79 there over ten seeds, a coin for a reward (`ttrl control=random`) 56.0.
On SmolLM2 (defaults, seeds 0, 1, 2): 28.5 -> 61.0, 59.5, 58.0 %, on 4,540 tokens
sampled and trained on; votes need 54,600 for 58.0 (`srt`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Update
from antaeus.errors import UserError
from antaeus.learn import entropy
from antaeus.recipes.base import Recipe, Reference, preset
from antaeus.recipes.round import Round
from antaeus.types import Group, Lesson, Source, Verdict
from antaeus.verify.certainty import certain, drawn


@dataclass(frozen=True)
class EMFT(Recipe):
    """Entropy minimisation as fine-tuning (Agarwal et al. 2025, arXiv 2505.15134)."""

    name: ClassVar[str] = "em_ft"
    title: ClassVar[str] = "the entropy of its next-token distributions is the loss (arXiv 2505.15134)"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF
    contrast: ClassVar[bool] = False
    rewarded: ClassVar[bool] = False

    samples: int = preset("samples", 1, low=1)
    aggregate: str = preset("aggregate", "sequence")

    def __post_init__(self) -> None:
        if self.control not in ("none", "no-op"):
            raise UserError(f"control={self.control}: {self.name} learns from entropies and from no reward; take no-op, or em_rl")
        if self.kl and self.kl_in == "reward":
            raise UserError(f"kl_in=reward: {self.name} has no reward; take kl_in=loss, or em_rl")

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [certain(drawn(group), "token_entropy") for group in groups]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        return entropy.lessons(groups, verdicts, entropy.none, reference=reference)

    def update(self, round: Round) -> Update:
        return replace(super().update(round), entropy=1.0)
