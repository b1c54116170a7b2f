"""Self-edits for puzzles put to the test: what each says trains an adapter, and the adapter answers (SEAL, 2506.10943)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from antaeus.engine.base import Engine, Sampling, Tuning
from antaeus.learn.bounds import Bounds, Settings
from antaeus.learn.leave_one_out import Solved, left_out
from antaeus.learn.self_edit import read
from antaeus.recipes import puzzles
from antaeus.types import Attempt, Group, Lesson, Task

Edit = tuple[Task, str]
"""A self-edit's text, for a puzzle."""


@dataclass(frozen=True, slots=True)
class Trials:
    """`bounds` and `steps` (of the optimiser, two puzzles each) are what self-edits are held against; `sequences` puzzles are made of each
    puzzle's demonstrations, at most; it is answered under `views` symmetries, `orders` times each. `together` adapters are at work at once,
    for memory.
    """

    bounds: Bounds
    steps: int
    sequences: int
    views: int
    orders: int
    together: int = 16

    def answers(self, engine: Engine, groups: Sequence[Group], how: Sampling, seed: str) -> list[Group]:
        """The self-edits with the answers they led to. Those of one puzzle with the same text share an adapter and its cost."""
        count = Counter((group.task, a.text) for group in groups for a in group.attempts)
        edits, found = list(count), {}
        for i in range(0, len(edits), self.together):
            found |= self._answered(engine, edits[i : i + self.together], how, seed)

        def with_answer(task: Task, edit: Attempt) -> Attempt:
            answered = found[task, edit.text]
            return replace(edit, answer=answered.answer, spent=edit.cost + round(answered.spent / count[task, edit.text]))

        return [replace(group, attempts=tuple(with_answer(group.task, a) for a in group.attempts)) for group in groups]

    def plan(self, engine: Engine, edit: Edit, seed: str) -> tuple[Settings, list[Solved]] | str:
        """What a self-edit trains an adapter with, and on which puzzles; or why it cannot be used."""
        task, text = edit
        settings = read(text, self.bounds)
        if isinstance(settings, str):
            return settings
        made = left_out(puzzles.puzzle_in(task), settings.augmentations, self.sequences, f"{seed}/{task.id}")
        steps = settings.epochs * len(made) // 2
        if not made:
            return "no puzzle can be made of one demonstration"
        if not puzzles.that_fit(engine, task, made):
            return "every puzzle made of it is too long for the model"
        return f"{steps:g} steps are more than {self.steps}" if steps > self.steps else (settings, made)

    def _answered(self, engine: Engine, edits: Sequence[Edit], how: Sampling, seed: str) -> dict[Edit, Attempt]:
        """The answer of each self-edit's adapter, of the policy itself where it cannot be used, and the tokens spent on it."""
        plans, tasks = [self.plan(engine, edit, seed) for edit in edits], [task for task, _ in edits]
        hows = [Tuning(1e-4) if isinstance(p, str) else _tuning(p[0]) for p in plans]
        courses = [[] if isinstance(p, str) else puzzles.course(engine, t, p[1]) for t, p in zip(tasks, plans, strict=True)]
        adapters = engine.adapters(courses, hows)
        voted = puzzles.answered(engine, adapters, tasks, replace(how, n=1), samples=self.orders, views=self.views, seed=seed)
        spent = [_trained(course, how) + sampled for course, how, (_, sampled) in zip(courses, hows, voted, strict=True)]
        return {edit: replace(group.attempts[0], spent=n) for edit, (group, _), n in zip(edits, voted, spent, strict=True)}


def _tuning(settings: Settings) -> Tuning:
    return Tuning(settings.learning_rate, epochs=int(settings.epochs), loss=settings.loss)


def _trained(course: Sequence[Lesson], how: Tuning) -> int:
    """Tokens that count in the loss, over all passes."""
    return how.epochs * sum(len(x.ids) + (len(x.prompt_ids) - 1 if how.loss == "all" else 0) for x in course)
