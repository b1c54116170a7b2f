"""What recipes share that are ways of answering: nothing is learned that stays, and the exam compares them with plain answering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.errors import UserError
from antaeus.recipes.base import Recipe, Reference, preset
from antaeus.recipes.round import Round
from antaeus.types import Group, Lesson, Source, Verdict


@dataclass(frozen=True)
class Answering(Recipe):
    """A recipe of this kind replaces `answer`. Its one round shows attempts at practice prompts and teaches nothing."""

    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF
    contrast: ClassVar[bool] = False
    rewarded: ClassVar[bool] = False
    inference: ClassVar[bool] = True
    # What only a policy gradient has is no field here, so that nobody sets it in vain.
    schedule: ClassVar[str] = "constant"
    advantage: ClassVar[str] = "grpo"
    aggregate: ClassVar[str] = "token"
    clip_low: ClassVar[float] = 0.2
    clip_high: ClassVar[float] = 0.2
    kl_in: ClassVar[str] = "loss"

    rounds: int = preset("rounds", 1, about="1: nothing is learned that stays", high=1)

    def __post_init__(self) -> None:
        if self.control != "none":
            raise UserError(
                f"control={self.control}: {self.name} learns from no verdicts; leave it out, or take ttrl or ttt_distill"
            )

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [[Verdict(None, self.source, "nothing is learned") for _ in group.attempts] for group in groups]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        return []


def charged(group: Group, cost: float) -> Group:
    """A task's attempts, which share what was spent on the task before they were made."""
    share = round(cost / len(group.attempts))
    return replace(group, attempts=tuple(replace(a, spent=a.cost + share) for a in group.attempts))
