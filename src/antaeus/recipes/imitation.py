"""What recipes share that learn from pseudo-answers: attempts that somebody took for right are imitated (supervised fine-tuning)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Trained, Update
from antaeus.learn.demonstrations import imitate, kept
from antaeus.recipes.base import Recipe, Reference, knob, preset
from antaeus.recipes.round import Round
from antaeus.types import Group, Lesson, Verdict


@dataclass(frozen=True)
class Imitation(Recipe):
    """Sample, select, fine-tune on what was selected. A round without anything to select leaves the policy as it is."""

    contrast: ClassVar[bool] = False
    # What only a policy gradient has is no field here, so that nobody sets it in vain.
    advantage: ClassVar[str] = "grpo"
    clip_low: ClassVar[float] = 0.2
    clip_high: ClassVar[float] = 0.2
    kl: ClassVar[float] = 0.0
    kl_in: ClassVar[str] = "loss"

    rounds: int = preset("rounds", 20)
    lr: float = preset("lr", 2e-5)
    temperature: float = preset("temperature", 0.7, about="sampling temperature of attempts; likelihoods are raised at 1")
    schedule: str = preset("schedule", "constant")
    most: int = knob(0, "demonstrations kept of each prompt, the first ones; 0 = all", low=0)
    epochs: int = knob(1, "passes over a round's demonstrations, of `updates` steps each", low=1)
    start: str = knob("policy", "where a round's learning sets out from: the policy, or the base", choices=("policy", "base"))

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        pairs = zip(groups, verdicts, strict=True)
        return [lesson for group, row in pairs for lesson in imitate(group.task, kept(group, row, self.most))]

    def train(self, round: Round, lessons: Sequence[Lesson]) -> list[Trained]:
        if self.start == "base":
            round.engine.load(None)
        return [step for _ in range(self.epochs) for step in super(Imitation, self).train(round, lessons)]

    def update(self, round: Round) -> Update:
        return replace(super().update(round), temperature=1.0)
