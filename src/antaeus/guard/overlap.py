"""The fence between what is learned from and what is measured on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from antaeus.guard.findings import Finding, Severity
from antaeus.overlap import Index, questions_of, text_of, texts_of
from antaeus.paraphrase import Paraphrases
from antaeus.types import Group, Lesson, Practice, Prompt, SealBroken, Task

RULE = "contamination"


def overlaps(practice: Sequence[Task], held_out: Sequence[Task]) -> list[tuple[str, str]]:
    """(practice id, held-out id) of every practice task that is a held-out task, a near-duplicate of one, or one reworded."""
    fence = Fence(held_out)
    hits = ((task.id, fence.hit(text_of(task.prompt))) for task in practice)
    return [(mine, theirs[0]) for mine, theirs in hits if theirs is not None]


class Fence:
    """Stands before learning, round after round: lets practice tasks pass and nothing that is, or resembles, a held-out task.

    A held-out task is its prompt, and the passage it is about. What counts as the same is the rule of `antaeus.overlap`; what counts as
    the same in other words, that of `antaeus.paraphrase`. A prompt that passed once is not compared again. What is only suspicious is kept
    for `findings`.
    """

    def __init__(self, held_out: Sequence[Task]) -> None:
        texts = texts_of(held_out)
        self._index, self._retold = Index(texts), Paraphrases(texts)
        self._questions = Index(questions_of(held_out))
        self._passed: set[Prompt] = set()
        self._suspected: dict[str, str] = {}
        self._renumbered: dict[str, str] = {}
        self._of = len(texts)

    def check(self, lessons_or_tasks: Iterable[Lesson | Task]) -> None:
        """Raises `SealBroken` at the first lesson or task that may not be learned from."""
        for item in lessons_or_tasks:
            self._check(item.task if isinstance(item, Lesson) else item)

    def tainted(self, groups: Iterable[Group]) -> dict[tuple[str, int], str]:
        """(task id, index) -> why, of attempts whose text holds a held-out task: nothing may be learned from these. A model may write
        one from memory, so this is no broken seal; the attempt's verdict should abstain."""
        said = ((a, self.given_away(a.text)) for group in groups for a in group.attempts)
        return {(a.task_id, a.index): f"gives away the held-out task {theirs[0]!r}" for a, theirs in said if theirs is not None}

    def given_away(self, written: str) -> tuple[str, str] | None:
        """As `hit`, for a text a model wrote: also finds a held-out task of 8 words or more retold in a part of it, and a question about a
        passage without its frame (the passage itself, which practice may share, is what it may repeat)."""
        if (equal := self._index.hit(written) or self._questions.hit(written)) is not None:
            return equal, "it is that task or a near-duplicate of it"
        retold = self._retold.hit_inside(written)
        return (retold.id, "a part of it asks the same in other words") if retold is not None and retold.sure else None

    def hit(self, text: str, name: str = "") -> tuple[str, str] | None:
        """Id of the held-out task that `text` gives away, and how; None if there is none."""
        if (equal := self._index.hit(text)) is not None:
            return equal, "it is that task or a near-duplicate of it"
        retold = self._retold.hit(text)
        if retold is not None and retold.sure:
            return retold.id, f"it asks the same in other words (cosine {retold.cosine:.2f}, same numbers)"
        if retold is not None:
            self._suspected[name] = retold.id
        if (other := self._retold.renumbered(text)) is not None:
            self._renumbered[name] = other
        return None

    def findings(self, blind: Severity = "warning") -> list[Finding]:
        """What has been seen so far that does not stop learning, and what could not be seen; `blind` says how bad lacking vectors are."""
        found = [
            Finding(RULE, "warning", f"may ask the held-out task {theirs!r} in other words", name)
            for name, theirs in self._suspected.items()
        ]
        if self._renumbered:
            mine, theirs = next(iter(self._renumbered.items()))
            many = f"{len(self._renumbered)} texts are a held-out task with other numbers"
            found.append(Finding(RULE, "note", f"{many} (first: {theirs!r}): practice and exam share a template", mine))
        if self._retold.alike:
            many = f"{self._retold.alike} of {self._of} held-out tasks resemble one another"
            found.append(Finding(RULE, "note", f"{many}: rewordings of these cannot be told from other tasks"))
        if self._retold.blind:
            lacking = (
                "the word vectors are not installed, so rewordings of held-out tasks go unseen: pip install 'antaeus[audit]'"
            )
            found.append(Finding(RULE, blind, lacking))
        return found

    def _check(self, task: Task) -> None:
        if type(task) is not Practice:
            raise SealBroken(f"{type(task).__name__} task {task.id!r} reached learning: only Practice tasks may be learned from")
        if task.prompt in self._passed:
            return
        if (theirs := self.hit(text_of(task.prompt), task.id)) is not None:
            raise SealBroken(
                f"practice task {task.id!r} is the held-out task {theirs[0]!r} or a near-duplicate of it: {theirs[1]}"
            )
        self._passed.add(task.prompt)
