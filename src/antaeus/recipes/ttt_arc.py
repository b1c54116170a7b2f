"""Test-time training on ARC: an adapter for each puzzle, of puzzles made from its own demonstrations (rung 4).

Paper: The Surprising Effectiveness of Test-Time Training for Few-Shot Learning, Akyürek et al. 2024, arXiv 2411.07279. Each demonstration
of a puzzle is made its question once, explained by the others; these are turned, flipped, shifted, enlarged, recoloured, their
demonstrations reordered. A fresh LoRA adapter learns them, answers the puzzle under every symmetry of the square, each answer is
turned back, and two rounds of votes choose. Then the adapter is thrown away.

Nothing is learned from an answer: what a sealed prompt shows is learned from, by an adapter of its own, and the policy stays what it is.

What differs, and why:
* The adapters of `prompts` puzzles are trained and sampled in one batch.
* Only the last output of a made puzzle counts in the loss, not every one after the first: each demonstration is the last one in turn, and
  the tokens are then exactly those of sampling. No puzzles of two left out.
* Adapters on all linear layers but the head (there: q, v and the MLP); at most `sequences` = 64 made puzzles (there 250), for the cost.
* ARC counts a puzzle as solved where one of two answers is right. The exam counts the first, or with `tries=2` the mean of both.

Command: `antaeus run ttt_arc --tasks arc:1500` (puzzles of at most 1,500 characters with their answers; `arc` are all 800 tasks).
Expect: nothing of a model that cannot read grids: laboratory model, 19 puzzles (`--model lab --tasks arc:400 lr=1e-3 prompts=4 samples=1
views=4 sequences=16 updates=4`), 0 -> 0 %, which says nothing of the method. Not measured yet on a model that can; the paper has 53.0 %
of the public validation tasks with 8 billion parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.engine.base import Engine, Sampling, Tuning
from antaeus.learn.leave_one_out import leave_one_out
from antaeus.recipes import puzzles
from antaeus.recipes.answering import Answering, charged
from antaeus.recipes.base import knob
from antaeus.recipes.round import Round
from antaeus.types import Group, Lesson, Practice, Task, TaskSet


@dataclass(frozen=True)
class TTTArc(Answering):
    """Test-time training on ARC (Akyürek et al. 2024, arXiv 2411.07279)."""

    name: ClassVar[str] = "ttt_arc"
    title: ClassVar[str] = "an adapter for each ARC puzzle, taught by its own demonstrations; votes (arXiv 2411.07279)"

    prompts: int = knob(4, "puzzles whose adapters are trained together", low=1)
    samples: int = knob(2, "greedy answers under each view, the demonstrations in another order each time", low=1)
    lr: float = knob(5e-5, "learning rate of the adapters", low=0.0, high=1.0)
    updates: int = knob(2, "passes over a puzzle's sequences, two to a step", low=1)
    sequences: int = knob(64, "puzzles made of each, at most; 0 = no training, only the votes", low=0)
    views: int = knob(8, "symmetries under which each is answered", low=1, high=8)

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        puzzles.refuse(self.name, tasks, engine)

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        how = replace(self.sampling(round.tasks), n=2)
        return self.answer(round.engine, practice, how, seed=round.draw, read=round.tasks.extract)

    def answer(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
        """`how.n` attempts at each puzzle: the answers with most votes, the last again where there are fewer."""
        starts = range(0, len(tasks), self.prompts)
        return [group for i in starts for group in self._batch(engine, tasks[i : i + self.prompts], how, seed)]

    def _batch(self, engine: Engine, tasks: Sequence[Task], how: Sampling, seed: str) -> Iterator[Group]:
        courses = [self._course(engine, task, seed) for task in tasks]
        adapters = engine.adapters(courses, Tuning(self.lr, epochs=self.updates))
        voted = puzzles.answered(engine, adapters, tasks, how, samples=self.samples, views=self.views, seed=seed)
        for (group, sampled), course in zip(voted, courses, strict=True):
            trained = self.updates * sum(len(lesson.ids) for lesson in course)
            yield charged(group, trained + sampled - sum(a.cost for a in group.attempts))

    def _course(self, engine: Engine, task: Task, seed: str) -> list[Lesson]:
        made = leave_one_out(puzzles.puzzle_in(task), self.sequences, f"{seed}/{task.id}")
        return puzzles.course(engine, task, made)
