"""One-shot EM: the entropies along many attempts at one single prompt are the loss, for about ten steps (rung 4).

Paper: One-shot Entropy Minimization, Gao et al. 2025, arXiv 2505.20282. As EM-FT, but always the same prompt, and the distributions are
those at temperature .5.

Objective, minimised: the mean over all generated tokens of H(softmax(z_t / .5)), z_t the logits, attempts held fixed: the *direct* term
of the gradient of entropy. The loss keeps falling after the answers are at their best, so the number of steps is the method: anchors
choose among them (`anchor_every=1`).

What differs, and why:
* The prompt is the first practice task of the run's seed, or the one named by `prompt_id`; the paper takes one whose answers vary most.
* No repetition penalty (1.15 there), the nucleus of .95 is kept; the rate is constant, and fits a small model (2e-5 there).

Command: `antaeus run one_shot_em --model lab lr=1e-4 anchor_every=1`.
Expect: on the laboratory model 50.5 -> 60.0 % of 200 unseen sums (seed 0, four seconds), best in round 5; in round 6 an alarm ends it, with
59.0. Left to go on (`on_alarm=note`) it ends at 57.5, and with lr=3e-4 at 49.0.
On SmolLM2 (`anchor_every=1`, seed 0) an alarm ends it in round 2, and the base stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from antaeus.engine.base import Engine
from antaeus.errors import UserError
from antaeus.recipes.base import knob, preset
from antaeus.recipes.em_ft import EMFT
from antaeus.recipes.round import Round
from antaeus.types import Practice, TaskSet


@dataclass(frozen=True)
class OneShotEM(EMFT):
    """One-shot entropy minimisation (Gao et al. 2025, arXiv 2505.20282)."""

    name: ClassVar[str] = "one_shot_em"
    title: ClassVar[str] = "entropy as the loss on many attempts at one prompt, ten steps (arXiv 2505.20282)"

    rounds: int = preset("rounds", 10)
    prompts: int = preset("prompts", 1, high=1)
    samples: int = preset("samples", 64, low=1)
    schedule: str = preset("schedule", "constant")
    temperature: float = preset("temperature", 0.5)
    top_p: float = preset("top_p", 0.95)
    aggregate: str = preset("aggregate", "token")
    prompt_id: str = knob("", "id of the practice task that is the one prompt; empty = the first")

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        if self.prompt_id and self.prompt_id not in {task.id for task in tasks.practice}:
            raise UserError(f"prompt_id={self.prompt_id!r}: no practice task has this id (the first is {tasks.practice[0].id!r})")

    def propose(self, round: Round) -> list[Practice]:
        named = [task for task in round.tasks.practice if task.id == self.prompt_id]
        return [*named, *round.tasks.practice][:1]
