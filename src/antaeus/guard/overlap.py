"""The fence between what is learned from and what is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from antaeus.overlap import Index, text_of
from antaeus.types import Anchor, Exam, Lesson, Practice, Prompt, SealBroken, Task


def overlaps(practice: Sequence[Task], held_out: Sequence[Task]) -> list[tuple[str, str]]:
    """(practice id, held-out id) of every practice task that is a held-out task or a near-duplicate of one."""
    index = _index(held_out)
    hits = ((task.id, index.hit(text_of(task.prompt))) for task in practice)
    return [(mine, theirs) for mine, theirs in hits if theirs is not None]


class Fence:
    """Stands before learning, round after round: lets practice tasks pass and nothing that is, or resembles, a held-out task.

    What counts as the same is the rule of `antaeus.overlap`. A prompt that passed once is not compared again.
    """

    def __init__(self, held_out: Sequence[Anchor | Exam]) -> None:
        self._index = _index(held_out)
        self._passed: set[Prompt] = set()

    def check(self, lessons_or_tasks: Iterable[Lesson | Task]) -> None:
        """Raises `SealBroken` at the first lesson or task that may not be learned from."""
        for item in lessons_or_tasks:
            self._check(item.task if isinstance(item, Lesson) else item)

    def _check(self, task: Task) -> None:
        if type(task) is not Practice:
            raise SealBroken(f"{type(task).__name__} task {task.id!r} reached learning: only Practice tasks may be learned from")
        if task.prompt in self._passed:
            return
        if (theirs := self._index.hit(text_of(task.prompt))) is not None:
            raise SealBroken(f"practice task {task.id!r} is the held-out task {theirs!r} or a near-duplicate of it")
        self._passed.add(task.prompt)


def _index(held_out: Sequence[Task]) -> Index:
    return Index((task.id, text_of(task.prompt)) for task in held_out)
