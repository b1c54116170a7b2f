"""URLVR: the intrinsic rewards side by side, to see how each rises and falls (rung 4).

Paper: How Far Can Unsupervised RLVR Scale LLM Training?, 2026, arXiv 2603.08660. All of its rewards sharpen what the model
already believes: they help while that is right, and each breaks in its own way (probability: short texts; entropies: repetition).

`reward`, with T the number of tokens and p_t the next-token distribution at the sampling temperature; GRPO maximises its mean by the
score function alone:
* self_certainty (1/T) sum KL(U || p_t); token_entropy -(1/T) sum H(p_t); trajectory_entropy (1/T) sum log p_t(y_t); probability pi(y);
* majority: 1 for the most frequent answer, as in `ttrl`;
* hybrid: sealed answers where an attempt has the right one, the majority elsewhere; it needs answers on all practice tasks;
* self_verify: the model is asked, at temperature .5, whether its attempt is right; 1 for yes, 0 for no, none where it says neither.

What differs: clip .2 on both sides and one update a round (DAPO there), no KL term as there, 16 attempts (8 there); the judge says yes or
no instead of \\boxed{True}, and an attempt without an answer is not judged but has 0. Tokens of judging count in no budget. The meters
`label_accuracy`, `reward_accuracy` and `reward_truth` of every run with practice answers are the paper's figures.

Command: `antaeus run urlvr reward=probability --model lab lr=1e-4 prompts=32 rounds=20`.
Expect: on the laboratory model 50.5 -> 69.5 % of 200 unseen sums with probability, 70.0 trajectory_entropy, 74.0 majority, 87.5 hybrid (one
seed, half a minute each); token_entropy and self_certainty are the rewards of `rent` and `intuitor` and do harm there. What tells these
apart is `reward_truth` of the first round: .55, .51, 0.0 and -.25. self_verify was only tried: SmolLM2 says yes or no to 26 of 32
attempts, and yes to wrong sums (11 of 15) as to right ones (7 of 11).
On SmolLM2 (`reward=trajectory_entropy rounds=10`, seed 0): 28.5 -> 42.5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from antaeus.engine.base import Engine, Sampling
from antaeus.errors import UserError
from antaeus.recipes.base import Recipe, knob
from antaeus.recipes.round import Round
from antaeus.solve.rollout import rollout
from antaeus.types import Group, Source, TaskSet, Verdict
from antaeus.verify.certainty import certain, drawn, scored
from antaeus.verify.ground import ground
from antaeus.verify.vote import majority
from antaeus.verify.yes_no import judged, questions

CERTAIN = ("self_certainty", "token_entropy", "trajectory_entropy", "probability")
JUDGE = Sampling(1, 32, temperature=0.5)


@dataclass(frozen=True)
class URLVR(Recipe):
    """Intrinsic rewards (arXiv 2603.08660)."""

    name: ClassVar[str] = "urlvr"
    title: ClassVar[str] = "a choice of intrinsic rewards, side by side (arXiv 2603.08660)"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    reward: str = knob("self_certainty", "what is rewarded", choices=(*CERTAIN, "majority", "hybrid", "self_verify"))

    @property
    def sources(self) -> frozenset[Source]:
        return frozenset({Source.SELF, Source.GROUND} if self.reward == "hybrid" else {Source.SELF})

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        if self.reward == "hybrid" and (without := [t.id for t in tasks.practice if t.id not in tasks.practice_vault]):
            raise UserError(
                f"reward=hybrid: {len(without)} practice tasks have no answer (first: {without[0]!r}); take reward=majority"
            )

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        if self.reward == "majority":
            return [majority(group) for group in groups]
        if self.reward == "hybrid":
            graded = [ground(group, round.vault) for group in groups]
            return [row if any(v.score for v in row) else majority(g) for g, row in zip(groups, graded, strict=True)]
        if self.reward == "self_verify":
            return self._asked(round, groups)
        rows = scored(round.engine, groups, self.temperature) if self.reward == "self_certainty" else map(drawn, groups)
        return [certain(row, self.reward) for row in rows]

    def _asked(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        asked = [questions(group) for group in groups]
        said = iter(
            rollout(round.engine, [task for tasks in asked for task in tasks], JUDGE, seed=f"{round.draw}/judge", read="auto")
        )
        return [judged(g, [next(said).attempts[0].text for _ in tasks]) for g, tasks in zip(groups, asked, strict=True)]
