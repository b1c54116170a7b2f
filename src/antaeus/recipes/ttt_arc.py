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
from random import Random
from typing import ClassVar

from antaeus.engine.base import Engine, Sampling, Tuning
from antaeus.errors import UserError
from antaeus.grids import Grid, Puzzle, parse, prompt_of, puzzle_of, show
from antaeus.learn.leave_one_out import leave_one_out, reordered
from antaeus.moves import SYMMETRIES, Move
from antaeus.recipes.answering import Answering
from antaeus.recipes.base import knob
from antaeus.recipes.round import Round
from antaeus.recipes.ttt import charged
from antaeus.solve.rollout import ask
from antaeus.types import Attempt, Group, Lesson, Practice, Prompt, Task, TaskSet
from antaeus.verify.grid_vote import vote

LONGEST = 8192  # tokens of a sequence at most
SPARE = 64  # those that a chat template may add; a text's own are no more than its characters


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
        if engine.kind == "adapter":
            raise UserError("lora: ttt_arc trains adapters of its own, one a puzzle; leave lora out")
        if without := [t.id for t in (*tasks.practice, *tasks.anchor, *tasks.exam) if puzzle_of(t.prompt) is None]:
            raise UserError(
                f"ttt_arc learns from the demonstrations in a puzzle's prompt, and {len(without)} tasks of {tasks.name} have none (first: "
                f"{without[0]!r}); take --tasks arc, or recipe ttt, which needs only prompts"
            )

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        how = replace(self.sampling(round.tasks), n=2)
        return self.answer(round.engine, practice, how, seed=round.draw, read=round.tasks.extract)

    def answer(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
        """`how.n` attempts at each puzzle: the answers with most votes, the last again where there are fewer."""
        starts = range(0, len(tasks), self.prompts)
        return [group for i in starts for group in self._batch(engine, tasks[i : i + self.prompts], how, seed)]

    def _batch(self, engine: Engine, tasks: Sequence[Task], how: Sampling, seed: str) -> Iterator[Group]:
        puzzles = [_puzzle(task) for task in tasks]
        courses = [self._course(engine, task, puzzle, seed) for task, puzzle in zip(tasks, puzzles, strict=True)]
        adapters = engine.adapters(courses, Tuning(self.lr, epochs=self.updates))
        room = engine.context - how.max_tokens - SPARE
        asked = [
            (i, move, prompt) for i, (task, puzzle) in enumerate(zip(tasks, puzzles, strict=True))
            for move, prompt in self._views(task, puzzle, room, seed)
        ]  # fmt: skip
        named = [(i, f"{tasks[i].id} {n}", _asked(engine, tasks[i], prompt)) for n, (i, _, prompt) in enumerate(asked)]
        drawn = adapters.sample(named, replace(how, n=1, temperature=0.0), seed=seed)
        for i, (task, course) in enumerate(zip(tasks, courses, strict=True)):
            answered = [(move, group[0]) for (j, move, _), group in zip(asked, drawn, strict=True) if j == i]
            trained = self.updates * sum(len(lesson.ids) for lesson in course)
            voted = _voted(task, answered, how.n)
            yield charged(voted, trained + sum(a.cost for _, a in answered) - sum(a.cost for a in voted.attempts))

    def _course(self, engine: Engine, task: Task, puzzle: Puzzle, seed: str) -> list[Lesson]:
        room = min(LONGEST, engine.context) - SPARE
        made = [(prompt_of(p), " " + show(a)) for p, a in leave_one_out(puzzle, self.sequences, f"{seed}/{task.id}")]
        fit = [(prompt, text) for prompt, text in made if len(task.shots) + len(prompt) + len(text) <= room]
        return [Lesson(task, *engine.encode(_asked(engine, task, prompt), text), 1.0) for prompt, text in fit]

    def _views(self, task: Task, puzzle: Puzzle, room: int, seed: str) -> Iterator[tuple[Move, str]]:
        """The puzzle as it is, and every other view of it that leaves room for an answer."""
        rng = Random(f"{seed}/{task.id}/views")
        for move in SYMMETRIES[: self.views]:
            for order in range(self.samples):
                prompt = prompt_of(move.on(reordered(puzzle, rng) if order else puzzle))
                if len(prompt) <= room or (move is SYMMETRIES[0] and not order):
                    yield move, prompt


def _asked(engine: Engine, task: Task, prompt: str) -> Prompt:
    """A puzzle's text, asked the way `task` is."""
    return ask(replace(task, prompt=prompt), engine.chat)


def _puzzle(task: Task) -> Puzzle:
    puzzle = puzzle_of(task.prompt)
    assert puzzle is not None, "refused before the run"
    return puzzle


def _voted(task: Task, answered: Sequence[tuple[Move, Attempt]], n: int) -> Group:
    views: dict[str, list[Grid | None]] = {}
    for move, attempt in answered:
        grid = parse(attempt.text)
        views.setdefault(move.name, []).append(grid and move.undo(grid))
    found = vote(list(views.values()), n)
    plain = replace(answered[0][1], task_id=task.id)
    if not found:
        return Group(task, tuple(replace(plain, index=i, answer=None) for i in range(n)))
    lines = [show(found[min(i, len(found) - 1)]) for i in range(n)]
    return Group(task, tuple(replace(plain, index=i, text=line, answer=line) for i, line in enumerate(lines)))
