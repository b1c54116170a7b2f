"""SEAL, knowledge: the model writes its own training data for a passage, and learns to write better ones (rung 6).

Paper: Self-Adapting Language Models, Zweiger et al. 2025, arXiv 2506.10943. For each passage `samples` self-edits are written. Each becomes
documents, the passage itself the last of them; an adapter learns these, once for each of `seeds`, and is asked the passage's questions
without the passage. The mean share of right answers is the edit's reward; the best edit of each passage is imitated (ReST-EM).

Base and learned versions sit the exam alike: one edit of a passage, greedy, one adapter, the questions without the passage. So the gate
judges better edits, not that there are any. Beside them stand, on the same questions: the base without training, the passage alone,
untrained `rewrite` edits (in the paper better than trained implications), and `edits` from a file. `summary.json` has all of these, and
how much of the edits' differences is noise: by the authors' own records some 70 % of what the best of five seems to gain.

What differs, and why:
* All adapters are trained in one batch. Equal seeds are equal initial weights and orders of data for all edits of a passage.
* Answers are graded by exact match (`reward=f1`, or `judge`: the model itself) instead of by GPT-4.1. Two worked examples, the same for
  all, show how short they are to be.
* Adapters stand on all linear layers but the head, there on query and value: what these alone learn of a passage in ten passes does
  not show in SmolLM2's answers.
* Training reads no padding. The paper's counts in its loss; `padded` = 2048 divides the loss as they do, before clipping.
* Edits have at most `edit_tokens` (there 8192); one that this cut is studied, but not imitated, since it shows no ending.
* An empty edit has a reward of 0, though the passage alone would teach something; one whose training fails has none.
* `seeds=0`: two seeds first; from their analysis of variance (`verify/spread.py`) the fewest with which 80 % of the variance of an edit's
  mean is its own, at most what `seed_tokens` a round pay for.
* `questions=own` where nobody has asked: the model writes questions while the passage is in view. Such rewards are its own opinion.

Command: `antaeus run seal --tasks FILE` (rows of title, context and questions with answers; docs/architecture.md).
Expect: SmolLM2-135M-Instruct on 50 passages, 146 questions: 2 % exactly, 3 % after the passage, 4 % after its own edits, 9 % after those of
a 7B model; two outer rounds gain nothing (docs/experiments.md: 2 h on one slow CPU core).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from antaeus.engine.base import Engine, Sampling, Tuning
from antaeus.errors import UserError
from antaeus.learn.demonstrations import best, imitate
from antaeus.propose.passages import given_edits
from antaeus.recipes.base import Reference, knob, preset
from antaeus.recipes.imitation import Imitation
from antaeus.recipes.inner import Inner
from antaeus.recipes.round import Round
from antaeus.recipes.study import by_passage, refuse_long, taught, written
from antaeus.solve.rollout import rollout
from antaeus.solve.templates import NAMES, filled, template
from antaeus.types import Group, Lesson, Practice, Source, Task, TaskSet, Verdict
from antaeus.verify.spread import figures


@dataclass(frozen=True)
class SEAL(Imitation):
    """Self-adapting language models on passages (Zweiger et al. 2025, arXiv 2506.10943)."""

    name: ClassVar[str] = "seal"
    title: ClassVar[str] = "the model writes its own training data for passages (arXiv 2506.10943)"
    rung: ClassVar[int] = 6
    source: ClassVar[Source] = Source.GROUND
    throughout: ClassVar[bool] = True
    counted: ClassVar[bool] = False  # they are self-edits
    start: ClassVar[str] = "policy"
    schedule: ClassVar[str] = "constant"
    aggregate: ClassVar[str] = "token"
    top_p: ClassVar[float] = 0.95
    updates: ClassVar[int] = 5  # steps of a pass over a round's edits
    epochs: ClassVar[int] = 2
    most: ClassVar[int] = 1  # edits kept of each passage
    targets: ClassVar[str | tuple[str, ...]] = "all-linear"  # layers that carry the adapters
    padded: ClassVar[int] = 0  # tokens to which the loss counts a document as filled up; 2048 there

    rounds: int = preset("rounds", 2, about="rounds: write, try, imitate")
    prompts: int = preset("prompts", 50, about="passages a round")
    samples: int = preset("samples", 5, about="self-edits of each passage", low=1)
    temperature: float = preset("temperature", 1.0, about="sampling temperature of self-edits; likelihoods are raised at 1")
    prompt: str = knob("implications", f"{', '.join(NAMES)}, or a text file with {{title}} and {{context}}")
    edit_tokens: int = knob(512, "token limit of a self-edit", low=1)
    seeds: int = knob(3, "adapters trained on each edit; 0 = as many as the noise asks for", low=0, high=64)
    seed_tokens: int = knob(0, "with seeds=0: tokens a round's adapters may train on and answer with; 0 = no limit", low=0)
    reward: str = knob(
        "em", "of an answer: exact match, F1 of its words, or the model's own judgement", choices=("em", "f1", "judge")
    )
    questions: str = knob("given", "asked in practice: those of the file, or the model's own", choices=("given", "own"))
    gain: float = knob(
        -1.0, "an edit is kept only if its reward exceeds the untrained answers' by this; -1 = always", low=-1.0, high=1.0
    )
    edits: str = knob("", "file of passages with `completions`, edits that somebody else wrote, as a baseline")
    study_lr: float = knob(1e-3, "learning rate of the adapters, falling to 0", low=1e-7, high=0.1)
    study_epochs: int = knob(10, "passes over an edit's documents, one a step", low=1, high=100)
    rank: int = knob(32, "of the adapters; alpha is twice that", low=1, high=1024)

    @property
    def sources(self) -> frozenset[Source]:
        if self.questions == "own":
            return frozenset({Source.SELF})
        return frozenset({Source.GROUND, Source.SELF} if self.reward == "judge" else {Source.GROUND})

    @property
    def inner(self) -> Inner:
        how = Tuning(
            self.study_lr, self.rank, 2 * self.rank, self.study_epochs, 1, targets=self.targets, loss="all", warmup=0.0, padded=self.padded
        )  # fmt: skip
        return Inner(how, self.edit_tokens, self.reward, self.questions == "own")

    def prepare(self, tasks: TaskSet) -> TaskSet:
        text = template(self.prompt)
        if any(task.passage is None for task in tasks.practice):
            raise UserError(
                f"{tasks.name}: seal learns from passages (rows of title, context and questions), and these are other tasks; "
                "rest_em learns from tasks with answers, self_consistency from any"
            )
        without = [task.id for task in tasks.practice if task.id not in tasks.practice_vault]
        if without and self.questions == "given":
            raise UserError(
                f"{tasks.name}: {len(without)} of {len(tasks.practice)} practice passages have no questions (first: {without[0]!r}); "
                "add some, or take questions=own"
            )
        return replace(tasks, practice=tuple(replace(t, prompt=filled(text, t.passage)) for t in tasks.practice if t.passage))

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        engine.adapters([[]], self.inner.how)  # its layers are there
        texts = [template(name) for name in (self.prompt, "rewrite", *(["own_questions"] if self.questions == "own" else []))]
        refuse_long(engine, (*tasks.practice, *tasks.anchor, *tasks.exam), texts, self.edit_tokens)
        if self.edits and not given_edits(self.edits).keys() & {task.passage for task in tasks.exam}:
            raise UserError(f"edits={self.edits}: it has no edit of any passage in the exam of {tasks.name}")

    def sampling(self, tasks: TaskSet) -> Sampling:
        return Sampling(self.samples, self.edit_tokens, self.temperature, self.top_p)

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        return [
            replace(g, attempts=tuple(replace(a, answer=a.text.strip()[:80] or None) for a in g.attempts))
            for g in super().solve(round, practice)
        ]

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        rows = self.inner.rewards(round, groups, self.seeds, self.seed_tokens)
        kept = [{a.index for a in best(g, row, self.most, self.gain)} for g, row in zip(groups, rows, strict=True)]
        return [
            [replace(v, why=f"kept, {v.why}") if a.index in of else v for a, v in zip(g.attempts, row, strict=True)]
            for g, row, of in zip(groups, rows, kept, strict=True)
        ]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        pairs = zip(groups, verdicts, strict=True)
        return [lesson for group, row in pairs for lesson in imitate(group.task, best(group, row, self.most, self.gain))]

    def answer(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
        edits = written(engine, by_passage(tasks), template(self.prompt), self.edit_tokens, seed)
        return taught(engine, tasks, edits, self.inner.how, how, seed=seed, read=read)

    def baselines(
        self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str
    ) -> Mapping[str, list[Group]]:
        passages, same = by_passage(tasks), {"seed": seed, "read": read}
        found = {
            "base": rollout(engine, tasks, how, **same),
            "passage only": taught(engine, tasks, dict.fromkeys(passages, ""), self.inner.how, how, **same),
        }
        if self.prompt != "rewrite":
            edits = written(engine, passages, template("rewrite"), self.edit_tokens, seed)
            found["untrained rewrite"] = taught(engine, tasks, edits, self.inner.how, how, **same)
        if self.edits:
            given = {passage: texts[0] for passage, texts in given_edits(self.edits).items() if passage in passages}
            theirs = [task for task in tasks if task.passage in given]
            found["edits given"] = taught(engine, theirs, given, self.inner.how, how, **same)
        return found

    def account(self, lines: Iterable[Mapping[str, Any]], refused: Sequence[str]) -> dict[str, Any]:
        rounds: dict[int, list[list[list[float | None]]]] = {}
        for line in (line for line in lines if line["set"] == "practice"):
            edits = [[x for name, x in a["verdict"]["parts"].items() if name.startswith("seed ")] for a in line["attempts"]]
            rounds.setdefault(line["round"], []).append(edits)
        run = figures([passage for found in rounds.values() for passage in found])
        return {"noise": {"run": run, "rounds": {n: figures(found) for n, found in rounds.items()}}} if run else {}
