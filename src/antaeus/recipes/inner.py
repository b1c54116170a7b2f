"""The inner loop of self-edits in practice: each is studied by adapters of its own, and is worth what these can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from antaeus.engine.base import Sampling, Tuning
from antaeus.propose.own_questions import own_questions
from antaeus.propose.passages import Question, opened
from antaeus.recipes.marking import ANSWERING, marked, questions, said
from antaeus.recipes.round import Round
from antaeus.recipes.study import Studied, Study, about, asking, study, to_read
from antaeus.solve.rollout import ask, rollout
from antaeus.solve.templates import template
from antaeus.types import Attempt, Group, Source, Verdict
from antaeus.verify.spread import components, seeds_wanted
from antaeus.verify.yes_no import same_answer, yes_or_no

PILOT = 2  # seeds from which the noise is estimated
JUDGED = Sampling(1, 4, 0.0)


Marks = list[list[list[Verdict]]]
"""A verdict for each passage, each of its edits, each seed."""


@dataclass(frozen=True)
class Inner:
    """The inner loop: how adapters are trained, the token limit of edits, what an answer is worth ("em", "f1", "judge"), and whether the
    model writes the questions (`own`)."""

    how: Tuning
    edit_tokens: int
    reward: str
    own: bool

    @property
    def source(self) -> Source:
        return Source.SELF if self.own or self.reward == "judge" else Source.GROUND

    def rewards(self, round: Round, groups: Sequence[Group], seeds: int, affordable: int) -> list[list[Verdict]]:
        """A verdict on each edit: the mean over seeds of the share of right answers, each seed's a part. With `seeds` 0 as many as the
        noise of the first two asks for, at most what as many tokens as are `affordable` (0 = any number) pay for."""
        asked, wrote = self._questions(round, groups)
        marks = self._tried(round, groups, asked, range(seeds or PILOT))
        if not seeds:
            more = self._tried(round, groups, asked, range(PILOT, _wanted(marks, affordable)))
            marks = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(marks, more, strict=True)]
        plain = [[Study((), questions(g.task, q), self.how)] if q else [] for g, q in zip(groups, asked, strict=True)]
        studied = iter(self._graded(round, [s for row in plain for s in row], [q for q in asked if q]))
        base = [next(studied) if q else None for q in asked]
        rows = zip(groups, marks, base, wrote, strict=True)
        return [
            [self._verdict(*one, without, cost) for one in zip(g.attempts, row, strict=True)] for g, row, without, cost in rows
        ]

    def _questions(self, round: Round, groups: Sequence[Group]) -> tuple[list[list[Question]], list[int]]:
        """The questions about each passage, and the tokens that writing them took."""
        if not self.own:
            return [opened(round.vault.open(group.task)) for group in groups], [0] * len(groups)
        text, passages = template("own_questions"), [about(group.task) for group in groups]
        asked = [(group.task.id, ask(asking(text, p), round.engine.chat)) for group, p in zip(groups, passages, strict=True)]
        drawn = round.engine.sample(asked, Sampling(1, self.edit_tokens, 0.0), seed=f"{round.draw}/questions")
        return [own_questions(row[0].text, p) for row, p in zip(drawn, passages, strict=True)], [len(row[0].ids) for row in drawn]

    def _tried(self, round: Round, groups: Sequence[Group], asked: Sequence[list[Question]], seeds: range) -> Marks:
        """What each edit is worth under each seed; nothing of an edit without documents, or of a passage without questions."""
        jobs: list[tuple[Study, list[Question], list[Verdict]]] = []
        marks: Marks = [[[] for _ in group.attempts] for group in groups]
        for group, own, row in zip(groups, asked, marks, strict=True):
            for attempt, of in zip(group.attempts, row, strict=True):
                texts = to_read(attempt, about(group.task))
                if own and len(texts) > 1:
                    tasks = questions(group.task, own)
                    jobs += [(Study(texts, tasks, replace(self.how, seed=seed)), own, of) for seed in seeds]
        for (_, _, of), verdict in zip(jobs, self._graded(round, [s for s, _, _ in jobs], [q for _, q, _ in jobs]), strict=True):
            of.append(verdict)
        return marks

    def _graded(self, round: Round, studies: Sequence[Study], asked: Sequence[list[Question]]) -> list[Verdict]:
        """The mean worth of each study's answers."""
        done = study(round.engine, studies, ANSWERING, seed=f"{round.draw}/answers")
        exact = [marked(each, of) for each, of in zip(done, asked, strict=True)]
        worth = exact if self.reward != "judge" else self._judged(round, asked, [said(each) for each in done])
        return [self._mean(*each) for each in zip(done, exact, worth, strict=True)]

    def _judged(self, round: Round, asked: Sequence[list[Question]], answers: Sequence[list[str | None]]) -> list[list[Verdict]]:
        """The model's own judgement of answers beside those accepted."""
        pairs = [(q, a) for of, row in zip(asked, answers, strict=True) for q, a in zip(of, row, strict=True)]
        tasks = [same_answer(f"judge {i}", q.text, q.answers[0], a) for i, (q, a) in enumerate(pairs) if a is not None]
        found = rollout(round.engine, tasks, JUDGED, seed=f"{round.draw}/judge", read="line") if tasks else []
        verdicts = (replace(yes_or_no(a.text), spent=len(a.ids)) for g in found for a in g.attempts)
        flat = iter([next(verdicts) if a is not None else Verdict(0.0, Source.SELF) for _, a in pairs])
        return [[next(flat) for _ in row] for row in answers]

    def _mean(self, done: Studied, exact: Sequence[Verdict], worth: Sequence[Verdict]) -> Verdict:
        parts = {"em": fmean(v.score or 0.0 for v in exact), "f1": fmean(v.parts["f1"] for v in exact)}
        scores, spent = [v.score for v in worth if v.score is not None], done.spent + sum(v.spent for v in worth)
        score = parts["f1"] if self.reward == "f1" else fmean(scores) if scores else None
        if done.failed or score is None:
            return Verdict(None, self.source, done.failed or "the judge said neither yes nor no", parts, spent)
        return Verdict(score, self.source, "", parts, spent)

    def _verdict(self, edit: Attempt, of: Sequence[Verdict], base: Verdict | None, cost: int) -> Verdict:
        """Of one edit, from its verdicts under each seed. The first bears the cost of what was asked for all."""
        cost = (cost + (base.spent if base else 0)) * (edit.index == 0)
        if base is None:
            return Verdict(None, self.source, "no question could be asked about the passage", spent=cost)
        if not of:
            return Verdict(0.0, self.source, "an empty edit", spent=cost)
        spent = cost + sum(v.spent for v in of)
        if lost := [v.why for v in of if v.score is None]:
            return Verdict(None, self.source, lost[0], spent=spent)
        scores = [v.score for v in of if v.score is not None]
        parts = {f"seed {i}": score for i, score in enumerate(scores)} | {"base": base.score or 0.0}
        parts |= {name: fmean(v.parts[name] for v in of) for name in ("em", "f1")}
        return Verdict(fmean(scores), self.source, f"mean of {len(scores)} adapters", parts, spent)


def _wanted(marks: Marks, affordable: int) -> int:
    """How many seeds in all, from the verdicts of the first ones and what they took."""
    whole = [[[v.score for v in of] for of in row if of and None not in [v.score for v in of]] for row in marks]
    whole = [row for row in whole if len(row) > 1]
    if not whole:
        return PILOT
    edits = min(map(len, whole))
    each = sum(v.spent for row in marks for of in row for v in of) / PILOT
    return seeds_wanted(
        components(np.array([row[:edits] for row in whole], dtype=float)), int(affordable / each) if affordable else 10**6
    )
