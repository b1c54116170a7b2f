"""SEAL on puzzles: the model chooses augmenters, loss, rate and passes of its own test-time training, and imitates choices that solved
(rung 6).

Paper: Self-Adapting Language Models, Zweiger et al. 2025, arXiv 2506.10943. For each puzzle, `samples` self-edits are written, each one
JSON object; a fresh adapter learns puzzles made of the puzzle's own demonstrations, in the way the self-edit says; it answers the puzzle
under every symmetry, with votes. Self-edits whose adapters were right, by the sealed answers, are imitated (ReST-EM). At the exam one
self-edit is written greedily for each puzzle, by base and policy alike: the base's are the untrained self-edits. Beside them always stand
`in_context` (the base, the same votes, no training) and `oracle` (the base with the authors' best settings for all puzzles: every
augmenter, rate 1e-4, two passes).

A self-edit that cannot be used, whatever is in it, trains nothing and is answered untrained: the verdict says why, and is never imitated.

What differs, and why:
* `decoding=choices` draws the object field by field among its few alternatives, so that it always parses (`solve/choices.py`); there:
  sampled freely until it parses, which `decoding=free` does once.
* Adapters are trained 16 at a time; equal self-edits of a puzzle share one. Rank 64 on all linear layers but the head (there
  128 on q, v and the MLP), a linear fall of the rate (there a cosine); only the last output counts in the "output" loss, see ttt_arc.
* A puzzle is solved where the answer with most votes is right; there one of two may be.
* The policy itself learns from the self-edits, not an adapter of rank 16.

Command: `antaeus run seal_arc --tasks training_challenges.json --exam evaluation_challenges.json` (or `--tasks arc:1500`).
Expect: nothing of a model that cannot read grids. SmolLM2-135M-Instruct on the authors' 12 + 10 puzzles (`samples=2 sequences=2 views=1
orders=1 most_epochs=2`): 1 of 12 in practice, 0 of 11 answers at the exam (docs/experiments.md). That the loop closes, the random model
shows (`--model tiny`, 12 + 12 made-up puzzles, each with one cell that is always the output, `temperature=10 sequences=2 views=1 orders=1
highest_rate=1e-2 lr=1e-3 epochs=30`, seed 0): of 180 self-edits the 2 that ask for 1e-2 and 20 passes solve theirs; after imitating these
the policy writes them for all, and 9 of the exam's 12 are solved, the base's 0 (in_context and oracle 0; at the default rate the policy's
stay 0 too). The alarm rings, since a random model's own answers are soon lost: `on_alarm=note`. The paper has 72.5 % of 8 puzzles with a
model of a billion parameters, 20 % with untrained self-edits and none in context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Engine, Sampling
from antaeus.errors import UserError
from antaeus.grids import prompt_of, puzzle_of
from antaeus.learn import self_edit
from antaeus.learn.bounds import Bounds
from antaeus.recipes import puzzles
from antaeus.recipes.base import Reference, knob, preset
from antaeus.recipes.rest_em import ReSTEM
from antaeus.recipes.round import Round
from antaeus.recipes.trials import Edit, Trials
from antaeus.solve.choices import Template, choose
from antaeus.solve.rollout import ask
from antaeus.types import Attempt, Group, Lesson, Practice, Prompt, Task, TaskSet, Verdict
from antaeus.verify.ground import ground

ASKED = "These settings train a model on variants of the examples above, so that it solves the last input. As JSON:\n"
WRITTEN = 256  # tokens of a self-edit at most, where it is written freely


@dataclass(frozen=True)
class SealArc(ReSTEM):
    """Self-edits for puzzles (Zweiger et al. 2025, arXiv 2506.10943)."""

    name: ClassVar[str] = "seal_arc"
    title: ClassVar[str] = "the model chooses how to train on each ARC puzzle, and imitates what solved (arXiv 2506.10943)"
    rung: ClassVar[int] = 6
    throughout: ClassVar[bool] = True
    patient: ClassVar[bool] = True
    most: ClassVar[int] = 0
    start: ClassVar[str] = "policy"
    schedule: ClassVar[str] = "constant"
    aggregate: ClassVar[str] = "token"
    top_p: ClassVar[float] = 1.0

    rounds: int = preset("rounds", 1)
    prompts: int = knob(12, "practice puzzles a round", low=1)
    samples: int = knob(15, "self-edits for each", low=1)
    temperature: float = preset("temperature", 0.8, about="sampling temperature of self-edits; likelihoods are raised at 1")
    updates: int = knob(4, "optimiser steps a pass, each on its share of the puzzles", low=1)
    epochs: int = knob(8, "passes over a round's right self-edits, of `updates` steps each", low=1)
    decoding: str = knob("choices", "draw a self-edit field by field, or sample it freely", choices=("choices", "free"))
    sequences: int = knob(250, "puzzles made of each, at most", low=1)
    steps: int = knob(375, "a self-edit that asks for more optimiser steps is refused", low=1)
    highest_rate: float = knob(1e-3, "and one with a learning rate above this", low=1e-6, high=1.0)
    most_epochs: int = knob(20, "and one with more passes", low=1)
    views: int = knob(8, "symmetries under which each puzzle is answered", low=1, high=8)
    orders: int = knob(2, "greedy answers under each, the demonstrations in another order each time", low=1)

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        puzzles.refuse(self.name, tasks, engine)
        longest = "".join(part if isinstance(part, str) else max(part, key=len) for part in self.template)
        held = (*tasks.practice, *tasks.anchor, *tasks.exam)
        if long := [task.id for task in held if not self._fits(engine, task, longest, tasks.max_tokens)]:
            raise UserError(
                f"seal_arc: {len(long)} of {len(held)} puzzles leave no room for a self-edit or an answer in the model's context of "
                f"{engine.context} tokens (first: {long[0]!r}); take shorter ones, such as --tasks arc:1500"
            )

    @property
    def trials(self) -> Trials:
        """What a self-edit may choose, and how it is tried."""
        bounds = Bounds(highest_rate=self.highest_rate, most_epochs=self.most_epochs)
        return Trials(bounds, self.steps, self.sequences, self.views, self.orders)

    @property
    def template(self) -> Template:
        """The form of a self-edit."""
        return self_edit.template(self.trials.bounds)

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        return self.answer(round.engine, practice, self.sampling(round.tasks), seed=round.draw, read=round.tasks.extract)

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        pairs = [(g.task, zip(g.attempts, ground(g, round.vault), strict=True)) for g in groups]
        return [[self._told(round.engine, verdict, (task, a.text), round.draw) for a, verdict in row] for task, row in pairs]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        usable = [[replace(v, score=None) if "refused" in v.parts else v for v in row] for row in verdicts]
        return super().learn(round, groups, usable, reference)

    def answer(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
        """A self-edit for each attempt, and as its answer what the adapter that it made answers; plain answers to what is no puzzle."""
        if not all(puzzle_of(task.prompt) for task in tasks):
            return super().answer(engine, tasks, how, seed=seed, read=read)
        prompts = [(task.id, self._question(engine, task)) for task in tasks]
        if self.decoding == "free":
            edits = engine.sample(prompts, replace(how, max_tokens=WRITTEN, stop=()), seed=seed)
        else:
            edits = choose(engine, prompts, self.template, how.n, how.temperature, seed=seed)
        return self.trials.answers(engine, [Group(task, tuple(row)) for task, row in zip(tasks, edits, strict=True)], how, seed)

    def baselines(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> dict[str, list[Group]]:
        published = replace(self.trials, bounds=Bounds(), steps=max(self.steps, self.sequences))

        def fixed(text: str) -> list[Group]:
            same = [Group(t, tuple(Attempt(t.id, i, (), (), text, "eos", (), ()) for i in range(how.n))) for t in tasks]
            return published.answers(engine, same, how, seed)

        return {"in_context": fixed(""), "oracle": fixed(self_edit.written(self_edit.ORACLE))}

    def _told(self, engine: Engine, verdict: Verdict, edit: Edit, seed: str) -> Verdict:
        why = self.trials.plan(engine, edit, seed)
        said = f"{why}: answered untrained, {verdict.why}" if isinstance(why, str) else ""
        return replace(verdict, why=said, parts={"refused": 1.0}) if said else verdict

    def _question(self, engine: Engine, task: Task) -> Prompt:
        """A puzzle with the request for a self-edit, whose form is told where it is written freely."""
        shown = prompt_of(puzzles.puzzle_in(task)).removesuffix("Output:")
        form = (
            f"{''.join(p if isinstance(p, str) else ' or '.join(p) for p in self.template)}\n" if self.decoding == "free" else ""
        )
        return ask(replace(task, prompt=f"{shown}\n{ASKED}{form}", completion=False), engine.chat)

    def _fits(self, engine: Engine, task: Task, edit: str, answer: int) -> bool:
        plain = puzzles.asked(engine, task, prompt_of(puzzles.puzzle_in(task)))
        try:
            asked, written = engine.encode(self._question(engine, task), edit)
            room = min(engine.context - len(engine.encode(plain, "")[0]) - answer, engine.context - len(asked) - len(written))
        except UserError:  # even without an answer
            return False
        return room >= (WRITTEN - len(written) if self.decoding == "free" else 0)
