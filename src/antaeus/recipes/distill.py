"""Distillation: another model's answers are imitated (rung 1; the source is the other model).

Paper: Sequence-Level Knowledge Distillation, Kim and Rush 2016, arXiv 1606.07947: the student learns the texts that the teacher
writes. With `samples` above 1 the teacher votes, and its majority's texts are learned (self-consistency of the teacher, arXiv
2203.11171).

The teacher answers in its own way (its chat template, its tokens); the student reads the text in its own tokens. What is recorded
as attempts is therefore the teacher's text, and so is what the meters of attempts (agreement, length, no answer) tell; the
student is seen in retention, anchors and exam. Only the gate's ground truth says whether the teacher was worth imitating.

What differs: samples instead of the mode of a beam search; no interpolation with the probabilities of the teacher's tokens.

Command: `antaeus run distill --model lab teacher=FOLDER lr=1e-4 prompts=32`.
Expect: from a version that lmsi took to 68.5 %, the laboratory model learns to answer 69.0 % of 200 unseen sums instead of 50.5
(seed 0), on 4,278 tokens; the alarm ends it after round 9, as leaving the base for the teacher looks like a reward that is gamed.
SmolLM2 from its own `srt` version (58.0 %, `rounds=10`, seed 0): 28.5 -> 59.5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Engine
from antaeus.errors import UserError
from antaeus.recipes.base import knob
from antaeus.recipes.imitation import Imitation
from antaeus.recipes.round import Round
from antaeus.solve.rollout import ask, rollout
from antaeus.types import Attempt, Group, Practice, Prompt, Source, TaskSet, Verdict
from antaeus.verify.vote import majority


@dataclass(frozen=True)
class Distill(Imitation):
    """Sequence-level distillation (Kim and Rush 2016, arXiv 1606.07947)."""

    name: ClassVar[str] = "distill"
    title: ClassVar[str] = "the answers of another model, the teacher, are imitated (arXiv 1606.07947)"
    rung: ClassVar[int] = 1
    source: ClassVar[Source] = Source.PEER

    teacher: str = knob("", "the model to learn from: a name, a folder, a version of a run, or a hub id")
    samples: int = knob(4, "the teacher's answers to each prompt: 1, or several of which the majority's are learned", low=1)
    agreement: float = knob(0.0, "learn only from prompts on which at least this share of them agree", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        if not self.teacher:
            raise UserError("distill needs teacher=MODEL (a name, a folder or a hub id); without one, take lmsi")

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        engine.beside(self.teacher)

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        teacher = round.engine.beside(self.teacher)
        groups = rollout(teacher, practice, self.sampling(round.tasks), seed=round.draw, read=round.tasks.extract)
        return [self._read(round, group) for group in groups]

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [[replace(v, source=self.source) for v in majority(group, self.agreement)] for group in groups]

    def _read(self, round: Round, group: Group) -> Group:
        """The teacher's attempts in the student's tokens, with what the student thinks of them."""
        prompt, stop = ask(group.task, round.engine.chat), "".join(round.tasks.stop[:1])
        read = [_in_tokens_of(round.engine, prompt, a, stop if a.stop == "stop" else "") for a in group.attempts]
        scores = round.engine.score(read, temperature=self.temperature)
        stats = zip(read, scores, strict=True)
        return replace(group, attempts=tuple(replace(a, logprobs=s.logprobs, entropies=s.entropies) for a, s in stats))


def _in_tokens_of(student: Engine, prompt: Prompt, attempt: Attempt, stop: str) -> Attempt:
    prompt_ids, ids = student.encode(prompt, attempt.text + stop, end=attempt.stop == "eos" or not attempt.text)
    return replace(attempt, prompt_ids=prompt_ids, ids=ids)
