"""Self-consistency: several paths are sampled for a task, and the majority's answer is the answer (rung 1). Nothing is learned.

Paper: Self-Consistency Improves Chain of Thought Reasoning, Wang et al. 2022, arXiv 2203.11171. 40 paths at temperature 0.7 (0.5
for some models), unweighted vote.

What is promoted, if it is, is this way of answering: the version that is kept has the weights of the base. At anchors and exam it
is compared with the base's single greedy answer, at `samples` times the tokens, which the log counts (`tokens` of an attempt).
The one round shows how far paths agree; it teaches nothing.

What differs: votes count classes of equivalent answers; of the winning paths the first is shown; 16 paths, for the cost.

Command: `antaeus run self_consistency --model lab`.
Expect: nothing on the laboratory model (seed 0): 50.5 -> 48.0 % of 200 sums, undecided. A sum is
written without reasoning, so the majority is a noisy estimate of the likeliest answer, which greedy decoding mostly gives at once.
On SmolLM2 (seed 0): 28.5 -> 30.5 %, not significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Engine, Sampling
from antaeus.recipes.answering import Answering
from antaeus.recipes.base import knob
from antaeus.recipes.round import Round
from antaeus.solve.rollout import rollout
from antaeus.types import Attempt, Group, Task, Verdict
from antaeus.verify.vote import chosen, majority


@dataclass(frozen=True)
class SelfConsistency(Answering):
    """Majority of sampled paths at inference (Wang et al. 2022, arXiv 2203.11171)."""

    name: ClassVar[str] = "self_consistency"
    title: ClassVar[str] = "the majority of sampled paths is the answer; a way of answering, no learning (arXiv 2203.11171)"
    rung: ClassVar[int] = 1
    # Nothing is trained, either.
    lr: ClassVar[float] = 0.0
    kl: ClassVar[float] = 0.0
    updates: ClassVar[int] = 1

    samples: int = knob(16, "paths that vote on each answer", low=2)
    temperature: float = knob(0.7, "sampling temperature of paths", low=1e-3, high=10.0)

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [majority(group) for group in groups]

    def answer(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
        """`how.n` attempts at each task, each the choice of `samples` paths of its own."""
        paths = replace(how, n=how.n * self.samples, temperature=self.temperature, top_p=self.top_p)
        return [self._vote(group) for group in rollout(engine, tasks, paths, seed=seed, read=read)]

    def _vote(self, group: Group) -> Group:
        parts = [group.attempts[i : i + self.samples] for i in range(0, len(group.attempts), self.samples)]
        return Group(group.task, tuple(_choice(group.task, part, i) for i, part in enumerate(parts)))


def _choice(task: Task, paths: Sequence[Attempt], index: int) -> Attempt:
    return replace(chosen(Group(task, tuple(paths))), index=index, spent=sum(len(path.ids) for path in paths))
