"""Test-time training: the model adapts to the prompts it is asked, without their answers, answers, and forgets (rung 4).

Papers: TENT, Wang et al. 2020, arXiv 2006.10726 (entropy of the own predictions; normalisation parameters: `part=norms`). SUTA, Lin et
al. 2022, arXiv 2203.14222 (0.3 entropy + 0.7 class confusion, logits / 2.5). TLM, Hu et al. 2025, arXiv 2505.20633 (perplexity of the
prompts, those above e^3 alone; an adapter: `lora=8`).

This is transductive: anchors and exam are adapted to, as all of these papers do. Their prompts are read, `prompts` at a time; their
answers lie in another process. Nothing stays: each adaptation is a trial of the engine, which ends with the weights it began with,
to the bit. Everywhere else the fence forbids to learn from sealed tasks. What is compared is plain greedy answering with answering after
adapting, by the same weights; `ttt_distill` learns from it for good.

What differs, and why:
* A language model has no batch statistics and no frames: what TENT and SUTA lower is measured on `samples` attempts at each prompt,
  drawn once before the first step.
* SUTA's classes are the tokens that were drawn (its vocabulary has 32 entries), its encoder is whatever `part` or `lora` lets learn.
* TLM adapts to `prompts` at a time and forgets, not to the whole test set once (`prompts=200` does that to a set of 200).

Command: `antaeus run ttt part=norms` (or `objective=suta part=norms`, `objective=tlm lora=8`).
Expect: nothing at the published rates, on so small a model: 50.5 -> 50.5 % (tent, suta), 51.0 % (tlm) of 200 sums with `--model lab`,
seed 0. All 200 prompts at once, and larger steps, do much: tent 59.5 % (`part=norms lr=1e-2 prompts=200`), 64.5 % (`lr=3e-2 samples=8`),
83.0 % (all weights: `lr=1e-4 prompts=200 samples=8 updates=10`, two minutes); suta 67.5 % (`part=norms lr=1e-2 prompts=200`); these
settings were chosen by looking at that exam, once each: on 300 other sums the 83.0 are 73.0, from 51.0. tlm
with `lora=8 lr=1e-3 prompts=200 updates=3` harms: 48.0 %, and is not kept.
SmolLM2, 200 sums: `part=norms` at the published rate 28.5 -> 58.5 % (tent, 6 s; 24 tokens an answer instead of 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from antaeus.engine.base import Engine, Sampling
from antaeus.learn.unlabelled import OBJECTIVES, Objective, prompts_read, spoken
from antaeus.recipes.answering import Answering, charged
from antaeus.recipes.base import knob
from antaeus.recipes.round import Round
from antaeus.solve.rollout import ask, rollout
from antaeus.types import Group, Practice, Task


@dataclass(frozen=True)
class TTT(Answering):
    """Test-time training on unlabelled prompts (TENT, SUTA, TLM: arXiv 2006.10726, 2203.14222, 2505.20633)."""

    name: ClassVar[str] = "ttt"
    title: ClassVar[str] = "adapt to the prompts without answers, answer, forget (arXiv 2006.10726, 2203.14222, 2505.20633)"

    objective: str = knob("tent", "what adaptation lowers, see above", choices=tuple(OBJECTIVES))
    prompts: int = knob(16, "prompts that are adapted to together; 1 = each by itself", low=1)
    samples: int = knob(2, "attempts at each on which tent and suta measure", low=1)
    lr: float = knob(0.0, "learning rate of adapting; 0 = as published", low=0.0, high=1.0)
    updates: int = knob(0, "its steps; 0 = as published", low=0)

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        return self.answer(round.engine, practice, self.sampling(round.tasks), seed=round.draw, read=round.tasks.extract)

    def answer(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
        groups: list[Group] = []
        for start in range(0, len(tasks), self.prompts):
            batch = tasks[start : start + self.prompts]
            with engine.trial():
                cost = adapt(
                    engine, batch, OBJECTIVES[self.objective], self.attempts(how), f"{seed}/adapt", self.lr, self.updates
                )
                answered = rollout(engine, batch, how, seed=seed, read=read)
            groups += [charged(group, cost / len(batch)) for group in answered]
        return groups

    def attempts(self, how: Sampling) -> Sampling:
        """The attempts that adaptation looks at, where the answer is sampled `how`."""
        return Sampling(self.samples, how.max_tokens, self.temperature, self.top_p, stop=how.stop)


def adapt(engine: Engine, tasks: Sequence[Task], to: Objective, how: Sampling, seed: str, lr: float = 0.0, steps: int = 0) -> int:
    """Train on these prompts, whose answers nobody knows; returns how many tokens were sampled and trained on. Only inside a trial."""
    asked, cost = [ask(task, engine.chat) for task in tasks], 0
    if to.reads:
        lessons = prompts_read(engine, tasks, [engine.encode(prompt, "")[0] for prompt in asked])
    else:
        drawn = engine.sample([(task.id, prompt) for task, prompt in zip(tasks, asked, strict=True)], how, seed=seed)
        lessons = [lesson for task, attempts in zip(tasks, drawn, strict=True) for lesson in spoken(task, attempts)]
        cost = sum(attempt.cost for attempts in drawn for attempt in attempts)
    for _ in range(steps or to.steps):
        if lessons:
            cost += engine.train(lessons, to.update(lr)).tokens
    return cost
