"""What an edit is worth to a policy that is to keep what it knows: what its adapter can answer about the passage, less what it loses."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import fmean

from antaeus.engine.base import Tuning
from antaeus.propose.passages import Question, opened
from antaeus.recipes.marking import ANSWERING, marked, questions
from antaeus.recipes.round import Round
from antaeus.recipes.study import Studied, Study, about, study, to_read
from antaeus.types import Group, Lesson, Practice, Source, Task, Verdict

REMEMBERED = 16  # earlier passages that are asked about
Asked = tuple[list[Practice], list[Question]]


def judged(
    round: Round, groups: Sequence[Group], earlier: Sequence[Practice], how: Tuning, penalty: float, uncut: bool,
    *, sparing: Sequence[Lesson] = (), share: float = 0.0,
) -> list[list[Verdict]]:  # fmt: skip
    """A verdict on each edit (read line by line, or `uncut`): the share of its passage's practice questions that its adapter answers right,
    less `penalty` times how much smaller the share of those about `earlier` passages is than the policy's own. Adapters are made with
    `sparing` and `share` as the one that stays will be (see `Engine.adapters`)."""
    before = Random(f"{round.draw}/earlier").sample(list(earlier), min(REMEMBERED, len(earlier)))
    old = _asked(round, before)
    jobs: list[tuple[Study, list[Question]]] = [(Study((), old[0], how), old[1])]
    for group in groups:
        asked = _asked(round, [group.task])
        texts = [to_read(attempt, about(group.task), uncut) for attempt in group.attempts]
        jobs += [(Study(read, asked[0] + old[0], how), asked[1] + old[1]) for read in texts]
    done = study(round.engine, [each for each, _ in jobs], ANSWERING, seed=f"{round.draw}/answers", sparing=sparing, share=share)
    right = [[v.score == 1.0 for v in marked(each, of)] for each, (_, of) in zip(done, jobs, strict=True)]
    kept, n = _share(right[0]), len(old[0])
    parted = [(each, row[: len(row) - n], row[len(row) - n :]) for each, row in zip(done[1:], right[1:], strict=True)]
    told = iter(_verdict(each, own, rest, kept, penalty) for each, own, rest in parted)
    return [[next(told) for _ in group.attempts] for group in groups]


def _asked(round: Round, tasks: Sequence[Task]) -> Asked:
    asked = [(task, opened(round.vault.open(task))) for task in tasks]
    return [q for task, own in asked for q in questions(task, own)], [q for _, own in asked for q in own]


def _verdict(done: Studied, own: Sequence[bool], old: Sequence[bool], kept: float, penalty: float) -> Verdict:
    """From which of its passage's questions an edit's adapter answers right, and which of the earlier ones."""
    if done.failed:
        return Verdict(None, Source.GROUND, done.failed, spent=done.spent)
    right, loss = _share(own), max(0.0, kept - _share(old))
    parts = {"own": right} | ({"lost": loss} if old else {})
    why = f"{right:.2f} of its own questions, {loss:.2f} lost of earlier ones"
    return Verdict(right - penalty * loss, Source.GROUND, why, parts, done.spent)


def _share(right: Sequence[bool]) -> float:
    return fmean(right) if right else 0.0
