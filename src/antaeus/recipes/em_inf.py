"""EM-INF: entropy is minimised while decoding, and nothing is learned (rung 4).

Paper: The Unreasonable Effectiveness of Entropy Minimization in LLM Reasoning, Agarwal et al. 2025, arXiv 2505.15134. At every step
the logits themselves are optimised for a few steps to lower the entropy of their distribution, which stops where that is below
`delta` nats. `how=temperature` is the paper's baseline: the temperature at which the entropy is max(delta, 0.85 of what it was).

What it can mean: neither way changes the likeliest token (a near tie aside), so greedy answers stay what they are. What changes
is sampling, which comes nearer to greedy. Hence the recipe always samples, at `temperature`, where a sitting is greedy; and the
comparison that tells something is `tries=4` or more, in which the base samples at that temperature too, with the same
random numbers. With `tries=1` the base answers greedily, and the best to be expected is that nothing is lost.

What differs, and why:
* Each row by itself; the official code sums entropies over the batch, so that rows depend on their neighbours.
* Sampled at temperature 1, where there is entropy to lower; the official script samples at 0.1, all but greedily already.
* The steps are Adam's, since a plain gradient of at most a few tenths moves no logit at this rate. The bisection goes on to the end
  instead of to within 0.1 nats.

Command: `antaeus run em_inf tries=4` (or `how=temperature`).
Expect: as little as that. Exam of 200 sums, seed 0, in seconds. Laboratory model (`--model lab`), tries=4: 36.1 -> 39.6 % (em),
38.8 % (temperature), not significant; greedy it has 50.5 %, of which sharpened sampling (tries=1) reaches 42.5 and 41.0, so that the
base is kept. SmolLM2-135M-Instruct, tries=4, 50 sums: 23.5 -> 26.0 % (em), 24.5 % (temperature), not significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Engine, Sampling, Sharpen
from antaeus.recipes.answering import Answering
from antaeus.recipes.base import knob
from antaeus.solve.rollout import rollout
from antaeus.types import Group, Task, TaskSet


@dataclass(frozen=True)
class EMInf(Answering):
    """Entropy minimisation at inference (Agarwal et al. 2025, arXiv 2505.15134)."""

    name: ClassVar[str] = "em_inf"
    title: ClassVar[str] = "the entropy of each step is lowered while decoding; nothing is learned (arXiv 2505.15134)"

    how: str = knob("em", "optimise the logits, or choose the temperature", choices=("em", "temperature"))
    delta: float = knob(0.3, "entropies (nats) below this are left as they are", low=0.0)
    updates: int = knob(3, "steps on the logits of a token, where how = em", low=1)
    lr: float = knob(0.1, "learning rate of these steps", low=0.0, high=1.0)
    kl: float = knob(0.05, "weight, in these steps, of the KL from the distribution as it was", low=0.0)

    def sampling(self, tasks: TaskSet) -> Sampling:
        return self.lowered(super().sampling(tasks))

    def answer(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
        return rollout(engine, tasks, self.lowered(how), seed=seed, read=read)

    def lowered(self, how: Sampling) -> Sampling:
        """Sampled, at the recipe's temperature where `how` is greedy, from sharpened distributions."""
        sharpen = Sharpen(self.how, self.delta, self.updates, self.lr, self.kl)  # type: ignore[arg-type]
        return replace(how, temperature=how.temperature or self.temperature, sharpen=sharpen)
