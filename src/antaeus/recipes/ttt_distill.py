"""Test-time training that is kept: attempts of the adapted model that prove themselves become demonstrations for the base (rung 4).

Papers: as `ttt` (TENT, 2006.10726; SUTA, 2203.14222; TLM, 2505.20633), none of which keeps what it adapts; what proves itself is the
majority of self-consistency, arXiv 2203.11171.

Each round the policy adapts to its practice prompts and answers them, `PROOFS` times from scratch with other draws. Where the majorities
of all of them give one and the same answer, with `agreement` of all attempts behind it, the attempts that give it are imitated by the
policy as it was before adapting. Anchors and exam are answered plainly, so that what the gate judges is what was learned.

What adaptation adds is small, if it is anything: see the figures; imitating plain majorities does as well.

Command: `antaeus run ttt_distill part=norms rate=3e-2 lr=1e-2 prompts=32 rounds=20 agreement=0.8`.
Expect: of 200 sums with `--model lab`, seed 0, about a minute, 50.5 -> 68.5 %. The same run without adapting: 67.5 %, and so with tent at
its published rate, to the very tasks. All weights (`lr=3e-5 prompts=32 rounds=20 agreement=0.8`): 67.0 % with tent at `rate=1e-3`, 63.5 %
with `objective=tlm`, 65.5 % without adapting. One seed each: these differences are within noise, the gain is the majority's.
On SmolLM2 (`rounds=10`, seed 0) an alarm ends it in round 5, and the base stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Update
from antaeus.errors import UserError
from antaeus.learn.demonstrations import imitate, kept
from antaeus.learn.unlabelled import OBJECTIVES
from antaeus.recipes.answering import charged
from antaeus.recipes.base import Recipe, Reference, knob
from antaeus.recipes.round import Round
from antaeus.recipes.ttt import adapt
from antaeus.solve.rollout import rollout
from antaeus.types import Attempt, Group, Lesson, Practice, Source, Verdict
from antaeus.verify.vote import steady

PROOFS = 2  # adaptations of a prompt that must agree


@dataclass(frozen=True)
class TTTDistill(Recipe):
    """Test-time training distilled into the weights (TENT, SUTA, TLM: arXiv 2006.10726, 2203.14222, 2505.20633)."""

    name: ClassVar[str] = "ttt_distill"
    title: ClassVar[str] = "what the adapted model keeps answering is imitated (arXiv 2006.10726, 2203.14222, 2505.20633)"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF
    contrast: ClassVar[bool] = False

    objective: str = knob("tent", "what adaptation lowers, in as many steps as published", choices=tuple(OBJECTIVES))
    rate: float = knob(0.0, "learning rate of adapting; 0 = as published", low=0.0, high=1.0)
    agreement: float = knob(0.5, "imitate only answers that so many of all attempts give", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        if self.samples % PROOFS:
            raise UserError(f"samples={self.samples}: give a multiple of {PROOFS}, for as many adaptations")

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        how = replace(self.sampling(round.tasks), n=self.samples // PROOFS)
        tries: list[list[Group]] = []
        for proof in range(PROOFS):
            with round.engine.trial():
                look = f"{round.draw}/adapt {proof}"
                cost = adapt(round.engine, practice, OBJECTIVES[self.objective], replace(how, n=2), look, self.rate)
                answered = rollout(round.engine, practice, how, seed=f"{round.draw}/{proof}", read=round.tasks.extract)
            tries.append([charged(group, cost / len(practice)) for group in answered])
        return [Group(task, _joined(groups)) for task, *groups in zip(practice, *tries, strict=True)]

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [steady(group, PROOFS, self.agreement) for group in groups]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        pairs = zip(groups, verdicts, strict=True)
        return [lesson for group, row in pairs for lesson in imitate(group.task, kept(group, row))]

    def update(self, round: Round) -> Update:
        return replace(super().update(round), temperature=1.0)


def _joined(groups: Sequence[Group]) -> tuple[Attempt, ...]:
    """The attempts of all adaptations, one after another, numbered through."""
    flat = [attempt for group in groups for attempt in group.attempts]
    return tuple(replace(attempt, index=i) for i, attempt in enumerate(flat))
