"""What can be learned from prompts that nobody has answered: the objectives of test-time training, as lessons and update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from antaeus.engine.base import Engine, Update
from antaeus.types import Attempt, Lesson, Task

STRENGTH, KNOWN = 0.1, 3.0  # TLM's lambda; the log-perplexity up to which a prompt is known already


@dataclass(frozen=True)
class Objective:
    """What is lowered, with the published rate and number of steps. `reads`: of the prompt's own tokens, else of the policy's attempts."""

    lr: float
    steps: int
    reads: bool = False
    entropy: float = 0.0
    confusion: float = 0.0
    temperature: float = 1.0

    def update(self, lr: float) -> Update:
        return Update(
            lr or self.lr, entropy=self.entropy, confusion=self.confusion, temperature=self.temperature,
            aggregate="sequence" if self.reads else "token",
        )  # fmt: skip


OBJECTIVES = {
    "tent": Objective(lr=1e-3, steps=1, entropy=1.0),
    "suta": Objective(lr=2e-5, steps=10, entropy=0.3, confusion=0.7, temperature=2.5),
    "tlm": Objective(lr=5e-5, steps=1, reads=True),
}
"""Entropy (TENT, 2006.10726); entropy and class confusion (SUTA, 2203.14222); the prompt's perplexity (TLM, 2505.20633)."""


def spoken(task: Task, attempts: Sequence[Attempt]) -> list[Lesson]:
    """The policy's own attempts, of which nothing but their distributions is looked at."""
    return [Lesson(task, a.prompt_ids, a.ids, 0.0) for a in attempts]


def prompts_read(engine: Engine, tasks: Sequence[Task], prompts: Sequence[tuple[int, ...]]) -> list[Lesson]:
    """Each prompt's tokens but the first, with its weight under the policy as it is; prompts of one token hold nothing to predict."""
    rows = [(task, ids) for task, ids in zip(tasks, prompts, strict=True) if len(ids) > 1]
    scores = engine.score([Attempt(task.id, 0, ids[:1], ids[1:], "", "length", (), ()) for task, ids in rows])
    return [
        Lesson(task, ids[:1], ids[1:], weight(-sum(s.logprobs) / len(s.logprobs)))
        for (task, ids), s in zip(rows, scores, strict=True)
    ]


def weight(nll: float) -> float:
    """lambda x P / P0 of a text of log-perplexity `nll` (nats a token), 0 where P is P0 or less."""
    return STRENGTH * math.exp(nll - KNOWN) if nll > KNOWN else 0.0
