"""SRT: self-training on the majority, with what keeps it from collapsing (rung 4).

Paper: Can Large Reasoning Models Self-Train?, Shafayat et al. 2025, arXiv 2505.21444. As TTRL, but the attempts that vote are those
that are learned from, a majority counts only from `agreement` of the attempts with an answer on, the advantage is RLOO's, and the KL to
the base is taken off the reward. A prompt without a believed majority has neither reward nor KL: it teaches nothing at all.

Its other mitigations are keys of every run: `labels=fixed` (labels of the base, which stay: the paper's offline labels; they take the
place of all verdicts), `curriculum=agreement` or `pass_rate` (the easiest third), `patience=2` (early stop on the anchors). In the
paper KL did not help and an entropy bonus made it worse; a threshold, few epochs and the curriculum did help.

What differs, and why:
* Votes and rewards use one and the same classes of equivalent answers (the official code: strings, 1/2 is not 0.5), and two tasks
  with the same prompt do not merge their votes.
* `soft` (the reward is the share of one's own answer) obeys `agreement` and `keep`, which there are ignored.
* The KL in the reward is the k3 estimate summed over the attempt, there one a token; with one advantage an attempt that is the same.
* 16 attempts instead of 32; rates and sizes suit a small model.
* `mixed` is for a world in which some answers are known: of the practice prompts that have a sealed answer, this share learns from it
  (verdicts of ground truth), all others from votes. At 0, as by default, nothing opens the practice vault.

Command: `antaeus run srt --model lab lr=1e-4 prompts=32 rounds=20`.
Expect: on the laboratory model 50.5 -> 64.5 % of 200 unseen sums (seed 0, half a minute), 66.5 with `keep=0.5
agreement=0`, 73.0 with `mixed=0.25`. `ttrl` gives 70.5 there with the same seed.
On SmolLM2 (defaults, seed 0): 28.5 -> 58.0 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from antaeus.engine.base import Engine
from antaeus.errors import UserError
from antaeus.noise import uniforms
from antaeus.recipes.base import Recipe, knob, preset
from antaeus.recipes.round import Round
from antaeus.types import Group, Source, TaskSet, Verdict
from antaeus.verify.ground import ground
from antaeus.verify.vote import believed, foremost


@dataclass(frozen=True)
class SRT(Recipe):
    """Self-Rewarded Training (Shafayat et al. 2025, arXiv 2505.21444)."""

    name: ClassVar[str] = "srt"
    title: ClassVar[str] = "self-training on majorities that are believed, with KL in the reward (arXiv 2505.21444)"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    advantage: str = preset("advantage", "rloo")
    kl: float = preset("kl", 0.001)
    kl_in: str = preset("kl_in", "reward")
    agreement: float = knob(0.6, "learn only where the majority has this share of the attempts with an answer", low=0.0, high=1.0)
    soft: int = knob(0, "1 = the reward is the share of the attempt's own answer instead of 0 or 1", low=0, high=1)
    keep: float = knob(1.0, "share of a round's prompts that are learned from, the largest majorities first", low=0.01, high=1.0)
    mixed: float = knob(0.0, "share of the practice prompts with a sealed answer that learn from it", low=0.0, high=1.0)

    @property
    def sources(self) -> frozenset[Source]:
        return frozenset({Source.SELF, Source.GROUND} if self.mixed else {Source.SELF})

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        if self.mixed and not any(task.id in tasks.practice_vault for task in tasks.practice):
            raise UserError(
                f"mixed={self.mixed}: no practice task has an answer; add some, or take mixed=0, or ttrl, which needs none"
            )

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return foremost([self._judge(round, group) for group in groups], self.keep)

    def _judge(self, round: Round, group: Group) -> list[Verdict]:
        if group.task.id in round.vault and self._labelled(round, group):
            return ground(group, round.vault)
        return believed(group, self.agreement, soft=bool(self.soft))

    def _labelled(self, round: Round, group: Group) -> bool:
        """Drawn once for a prompt, by the run's seed, and the same in every round."""
        return bool(uniforms(f"{round.seed}/labelled", group.task.id, -1, 1)[0] < self.mixed)
