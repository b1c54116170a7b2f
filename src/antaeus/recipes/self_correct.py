"""Self-correction: the model revises an answer of its own, and revisions that agree become answers to the bare prompt (rung 1).

Idea: Self-Refine, Madaan et al. 2023, arXiv 2303.17651 (one model answers, looks for mistakes, answers again), with the revision
learned, so that the next answer needs none; the selection is that of LMSI (arXiv 2210.11610). Without an outside signal models
correct themselves badly (Huang et al. 2023, arXiv 2310.01798): the majority of revisions can be worse than the majority of first
answers. Compare with `lmsi` before believing a gain, and with `star`, which does the like with sealed answers.

A round samples `samples` first answers to each prompt and shows the first of them to the model again, with the request to find
mistakes and to answer once more; `samples` revisions are drawn. Kept are those that give the revisions' majority answer, where it
has at least the share `agreement`; they are learned as answers to the prompt alone. First answers are recorded and measured, not
learned.

Command: `antaeus run self_correct --model lab prompts=32 on_alarm=note`.
Expect: 50.5 -> 63.5 % of 200 unseen sums on the laboratory model (seed 0), less than lmsi. `lr=1e-4` rings an alarm in round 5:
undecided.
On SmolLM2 (`rounds=10`, seed 0) an alarm ends it in round 1, and the base stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.learn.demonstrations import imitate, kept
from antaeus.recipes.base import Reference, knob
from antaeus.recipes.imitation import Imitation
from antaeus.recipes.round import Round
from antaeus.solve.rollout import ask, rollout
from antaeus.types import Group, Lesson, Message, Practice, Prompt, Source, Task, Verdict
from antaeus.verify.vote import majority

REQUEST = "Look for mistakes in your answer. Then write a complete answer to the question once more, with them corrected."


@dataclass(frozen=True)
class SelfCorrect(Imitation):
    """Revisions learned as first answers (after Self-Refine, arXiv 2303.17651)."""

    name: ClassVar[str] = "self_correct"
    title: ClassVar[str] = "the model's revisions of its answers are imitated where they agree (after arXiv 2303.17651)"
    rung: ClassVar[int] = 1
    source: ClassVar[Source] = Source.SELF

    samples: int = knob(16, "first answers to each prompt, and as many revisions of the first of them", low=2)
    agreement: float = knob(0.5, "learn only revisions whose majority has at least this share", low=0.0, high=1.0)

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        first = super().solve(round, practice)
        revising = [_revising(group, round.engine.chat) for group in first]
        how, seed = self.sampling(round.tasks), f"{round.draw}/revise"
        return first + rollout(round.engine, revising, how, seed=seed, read=round.tasks.extract)

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [majority(group, self.agreement) for group in groups]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        asked = {group.task.id: group for group in groups}
        found = []
        for group, row in zip(groups, verdicts, strict=True):
            if group.task.about:
                bare = asked[group.task.about]
                found += imitate(bare.task, kept(group, row, self.most), bare.attempts[0].prompt_ids)
        return found


def _revising(group: Group, chat: bool) -> Task:
    """The task to revise the group's first attempt. A model that continues text sees the prompt answered and then once more."""
    task, text = group.task, group.attempts[0].text
    asked = ask(task, chat)
    again: Prompt = (
        f"{asked}{text}\n{task.prompt}"
        if isinstance(asked, str)
        else (*asked, Message("assistant", text), Message("user", REQUEST))
    )
    return replace(task, id=f"{task.id} (revised)", about=task.id, prompt=again, shots="", completion=True)
