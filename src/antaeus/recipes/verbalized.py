"""Verbalised grades: the model says how good its answer is, and that grade is the loss (rung 4).

Idea: the grade is the expectation S = sum over grade words of q(word) x worth, read from the probabilities of "yes" and "no", or
of 1 to 5 (as the real-valued judge of ALMA, arXiv 2412.04305, and P(True) of Kadavath et al. 2022, arXiv 2207.05221). The
gradient of E[S] over the model's own answers has two terms, chosen by `through`:

* "grade": dS itself, through the grade: a lesson on each grade word with advantage q (w - S), q and S taken as constants. It
  teaches the model to call right what it has answered, whatever that is. The answers move only as far as they share weights with
  the grading. That the judge's mean rises to 1 while the anchors stand still is what is to be expected, not an error.
* "answer": S is the reward of the answer, a policy gradient. It teaches to answer what the model calls right; the grade itself is
  not taught, but shares the weights, so it can be gamed all the same.
* "both": the sum, which with `advantage=dr_grpo` is the whole gradient of E[S], up to the weights of tokens.

Guard: `judge_mean` and `judge_variance` of the meters are those of S. A mean that rises while the variance goes to 0 is a judge
that likes everything. No paper's recipe as a whole; no figures to reproduce. The grade is asked for on the attempt's text as
written.

Command: `antaeus run verbalized --model lab through=answer lr=1e-4 prompts=32 rounds=20 on_alarm=note`.
Expect: the laboratory model (seed 0) has never seen the words, and S stays at 0.000 for all; advantages and the optimiser take
only its order, and 50.5 becomes 63.0 % of 200 sums (through=grade 59.0, both 66.0). With a coin for the reward (control=random)
it becomes 56.0, so most of this is no knowledge of the grade.
On SmolLM2 (`rounds=10`, seed 0): 28.5 %, nothing: it cannot grade either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from antaeus.engine.base import Engine
from antaeus.errors import UserError
from antaeus.recipes.base import Recipe, Reference, knob
from antaeus.recipes.round import Round
from antaeus.solve.rollout import ask
from antaeus.types import Attempt, Group, Lesson, Message, Prompt, Source, Task, Verdict
from antaeus.verify.grade import Grade, grades

SCALES = {
    "yes": ("Is this answer right? Reply with yes or no.", {"yes": 1.0, "no": 0.0}),
    "score": (
        "How good is this answer, from 1 (wrong) to 5 (surely right)? Reply with the number.",
        {str(k): (k - 1) / 4 for k in range(1, 6)},
    ),
}


@dataclass(frozen=True)
class Verbalized(Recipe):
    """The model's own expected grade as its objective (P(True), Kadavath et al. 2022, arXiv 2207.05221)."""

    name: ClassVar[str] = "verbalized"
    title: ClassVar[str] = (
        "the grade that the model gives its own answers is the loss, or their reward (P(True), arXiv 2207.05221)"
    )
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    scale: str = knob("yes", "the grade words: yes and no, or 1 to 5", choices=tuple(SCALES))
    through: str = knob(
        "grade",
        "what the gradient of the grade goes through: the answer's probability (a reward), the grade's, or both",
        choices=("answer", "grade", "both"),
    )

    def __post_init__(self) -> None:
        if self.through != "answer" and self.control not in ("none", "no-op"):
            raise UserError(
                f"control={self.control} replaces rewards, and through={self.through} learns from grades: take through=answer"
            )

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        found = iter(self._grades(round, [(g.task, a) for g in groups for a in g.attempts]))
        return [[_verdict(next(found).expected) for _ in group.attempts] for group in groups]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        answers = super().learn(round, groups, verdicts, reference) if self.through != "grade" else []
        return answers + (self._of_grades(round, groups, verdicts) if self.through != "answer" else [])

    def _of_grades(self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]]) -> list[Lesson]:
        pairs = [
            (g.task, a)
            for g, row in zip(groups, verdicts, strict=True)
            for a, v in zip(g.attempts, row, strict=True)
            if v.score is not None
        ]
        found = zip(pairs, self._grades(round, pairs), strict=True)
        return [
            Lesson(task, grade.prompt_ids, reply, slope)
            for (task, _), grade in found
            for reply, slope in zip(grade.replies, grade.slopes, strict=True)
        ]

    def _grades(self, round: Round, answered: Sequence[tuple[Task, Attempt]]) -> list[Grade]:
        request, words = SCALES[self.scale]
        questions = [_question(task, a.text, request, round.engine) for task, a in answered]
        chat = bool(questions) and not isinstance(questions[0], str)
        spoken = {word if chat else f" {word}": worth for word, worth in words.items()}
        return grades(round.engine, questions, spoken, self.temperature)


def _verdict(grade: float) -> Verdict:
    return Verdict(grade, Source.SELF, "the model's grade of its own answer", {"judge": grade})


def _question(task: Task, text: str, request: str, engine: Engine) -> Prompt:
    """The prompt answered with `text`, and the request for a grade: as a chat, or as text that ends in "Grade:"."""
    asked = ask(task, engine.chat)
    if isinstance(asked, str):
        return f"{asked}{text}\n{request}\nGrade:"
    return (*asked, Message("assistant", text), Message("user", request))
