"""EVOL-RL: the majority chooses, novelty varies (rung 4).

Paper: Evolving Language Models without Labels, Zhou et al. 2025, arXiv 2509.15194. The majority gives the reward its sign; how unlike
the other attempts an attempt is, by its words, its place within [.5, 1] or [-1, -.5]. So agreement is never all there is to gain, and
with an upper clip of .28 and a bonus on token entropy the policy keeps its variety. The formulas stand in `verify/novelty.py`.

What differs, and why:
* Likeness is the cosine of mean static word vectors (WordLlama, in the wheel of `antaeus[audit]`), there of a 4B embedding model behind
  a server, whose failures silently became random vectors; here what is missing is said before the run. Mean vectors see which tokens
  a text has, digits too, but not their order: the sums 46 and 64 are the same to them. Where nothing differs, all have .75 or -.75, and
  what is left is the vote. They suit attempts with words; on bare sums novelty says which digits occur.
* An attempt is valid if an answer can be read from it, and only valid ones vote; there, if its \\boxed{} has a digit, and all vote.
* Both novelty and learning use what `votes` and `samples` say, as in `ttrl`; the paper: 64 vote, 32 are learned from.
* The entropy bonus is a mean over tokens, as the loss is (`aggregate`); there over attempts. No KL term (0.001 there).
* `agreement` as in `ttrl`, 0 by default: the paper has no threshold. SRT (2505.21444) saw an entropy bonus hasten collapse: here it
  stands beside a reward for variety; `bonus=0` turns it off.
* Four updates a round, since with one the ratio is 1 and the upper clip never acts.

Command: `antaeus run evol_rl --model lab lr=3e-5 prompts=32 rounds=20`.
Expect: on the laboratory model 50.5 -> 69.5 % of 200 unseen sums (seed 0, half a minute); with lr=1e-4 and
`on_alarm=note` 71.5, an alarm rings in round 4.
On SmolLM2 (`rounds=10`, seed 0): 28.5 -> 49.0 %, the last version 55.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus import vectors
from antaeus.engine.base import Engine, Update
from antaeus.errors import UserError
from antaeus.recipes.base import knob, preset
from antaeus.recipes.round import Round
from antaeus.recipes.ttrl import TTRL
from antaeus.types import Group, TaskSet, Verdict
from antaeus.verify.novelty import banded


@dataclass(frozen=True)
class EvolRL(TTRL):
    """EVOL-RL (Zhou et al. 2025, arXiv 2509.15194)."""

    name: ClassVar[str] = "evol_rl"
    title: ClassVar[str] = "the majority gives the sign, novelty the size of the reward (arXiv 2509.15194)"

    updates: int = preset("updates", 4)
    clip_high: float = preset("clip_high", 0.28)
    agreement: float = knob(0.0, "learn only from prompts whose majority has at least this share of the votes", low=0.0, high=1.0)
    bonus: float = knob(0.003, "weight of the bonus on token entropy", low=0.0)

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        if not vectors.available():
            raise UserError(
                "evol_rl tells novel attempts by word vectors: pip install 'antaeus[audit]', or run ttrl, which needs none"
            )

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [banded(group, vectors.embed, agreement=self.agreement) for group in groups]

    def update(self, round: Round) -> Update:
        return replace(super().update(round), entropy=-self.bonus)
