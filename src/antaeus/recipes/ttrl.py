"""TTRL: the majority of a model's own answers is the label (rung 4).

Paper: Test-Time Reinforcement Learning, Zuo et al. 2025, arXiv 2504.16084. For each prompt, `votes` attempts are sampled; the most
frequent answer is taken for right; the first `samples` of them are learned from with GRPO.

What differs, and why:
* Votes and rewards use one and the same classes of equivalent answers; the official code votes by string and rewards by
  equivalence. An attempt without an answer cannot win; there it can.
* `agreement`: prompts whose majority is small are left out of that round (a mitigation of SRT, arXiv 2505.21444). On the embedded
  model majorities below 0.4 are wrong four times in five. 0 is the paper.
* One update a round (the paper: eight), so that the ratio is 1 and clipping never acts; rates and sizes suit a small model.
* The learning rate falls linearly instead of along a cosine; no KL term (0.001 there).

The paper's figures are meters of every run: its majority ratio is `agreement`; `label_accuracy` and `reward_accuracy` are there where
practice tasks have sealed answers, which neither learning nor an alarm sees (`guard/truth.py`).

Command: `antaeus run ttrl` (SmolLM2-135M-Instruct, two-digit addition, no answers).
Expect: 28.5 -> 57.0 % of 200 unseen sums (median of 5 seeds, 56.0 to 59.5), in about 4 minutes of learning on one thread of a
server CPU with bfloat16; docs/experiments.md has every seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Sampling
from antaeus.errors import UserError
from antaeus.recipes.base import Recipe, Reference, knob
from antaeus.recipes.round import Round
from antaeus.types import Group, Lesson, Source, TaskSet, Verdict
from antaeus.verify.vote import majority


@dataclass(frozen=True)
class TTRL(Recipe):
    """Test-Time Reinforcement Learning (Zuo et al. 2025, arXiv 2504.16084)."""

    name: ClassVar[str] = "ttrl"
    title: ClassVar[str] = "the majority of the model's own answers is the label (arXiv 2504.16084)"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    votes: int = knob(0, "attempts that vote, of which the first `samples` are learned from; 0 = samples", low=0)
    agreement: float = knob(0.4, "learn only from prompts whose majority has at least this share of the votes", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        if 0 < self.votes < self.samples:
            raise UserError(
                f"votes={self.votes} is below samples={self.samples}: the attempts learned from are some of those that vote"
            )

    def sampling(self, tasks: TaskSet) -> Sampling:
        return replace(super().sampling(tasks), n=self.votes or self.samples)

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [majority(group, self.agreement) for group in groups]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        kept = [replace(group, attempts=group.attempts[: self.samples]) for group in groups]
        rows = [row[: self.samples] for row in verdicts]
        return super().learn(round, kept, rows, reference and [r[: self.samples] for r in reference])
