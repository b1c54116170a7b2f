"""What an edit is worth to a policy that is to keep what it knows: what its adapter can answer about the passage, less what it loses."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import fmean

from antaeus.answers import extract
from antaeus.engine.base import Sampling, Tuning
from antaeus.propose.passages import MAX_TOKENS, Question, opened, question_task
from antaeus.recipes.round import Round
from antaeus.recipes.study import Studied, Study, about, study, to_read
from antaeus.types import Group, Practice, Source, Task, Verdict
from antaeus.verify.ground import graded

REMEMBERED = 16  # earlier passages that are asked about
Asked = list[tuple[Practice, Question]]


def judged(
    round: Round, groups: Sequence[Group], earlier: Sequence[Practice], how: Tuning, penalty: float, uncut: bool
) -> list[list[Verdict]]:
    """A verdict on each edit (read line by line, or `uncut`): the share of its passage's practice questions that its adapter answers right,
    less `penalty` times how much smaller the share of those about `earlier` passages is than the policy's own."""
    before = Random(f"{round.draw}/earlier").sample(list(earlier), min(REMEMBERED, len(earlier))) if penalty else []
    old = [pair for task in before for pair in _asked(round, task)]
    jobs: list[tuple[Study, Asked]] = [(Study((), [task for task, _ in old], how), old)]
    for group in groups:
        own = _asked(round, group.task)
        asked = [task for task, _ in (*own, *old)]
        jobs += [(Study(to_read(attempt, about(group.task), uncut), asked, how), [*own, *old]) for attempt in group.attempts]
    done = study(
        round.engine, [each for each, _ in jobs], Sampling(1, MAX_TOKENS, 0.0, stop=("\n",)), seed=f"{round.draw}/answers"
    )
    kept = _share(done[0], old, len(old))
    told = iter(_verdict(*pair, len(old), kept, penalty) for pair in zip(done[1:], (a for _, a in jobs[1:]), strict=True))
    return [[next(told) for _ in group.attempts] for group in groups]


def _asked(round: Round, task: Task) -> Asked:
    questions = opened(round.vault.open(task))
    return [(question_task(Practice, f"{task.id}/{i}", about(task), q.text), q) for i, q in enumerate(questions)]


def _verdict(done: Studied, asked: Asked, old: int, kept: float, penalty: float) -> Verdict:
    own, rest = _share(done, asked, len(asked) - old, last=False), _share(done, asked, old)
    if done.failed:
        return Verdict(None, Source.GROUND, done.failed, spent=done.spent)
    loss = max(0.0, kept - rest)
    parts = {"own": own} | ({"lost": loss} if old else {})
    return Verdict(
        own - penalty * loss, Source.GROUND, f"{own:.2f} of its own questions, {loss:.2f} lost of earlier ones", parts, done.spent
    )


def _share(done: Studied, asked: Asked, n: int, *, last: bool = True) -> float:
    """Of the last (or first) `n` questions, how many were answered right."""
    marks = [
        graded("span", "\n".join(q.answers), extract(row[0].text, "line")).score == 1.0
        for (_, q), row in zip(asked, done.answers, strict=True)
    ]
    part = marks[len(marks) - n :] if last else marks[:n]
    return fmean(part) if part else 0.0
