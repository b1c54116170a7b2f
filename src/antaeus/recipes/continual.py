"""Passages are read one after another, or many at once, and stay: self-edits are learned into the policy itself (rung 6).

Paper: Self-Adapting Language Models, Zweiger et al. 2025, arXiv 2506.10943, sections 4.2 (continued pretraining) and 5 (catastrophic
forgetting). Each round the policy writes `samples` self-edits of each of the next `prompts` passages, and adapters learn these and the
passages. What is measured is whether the policy then answers questions about them without them: questions of a passage are dealt in turn
to anchors and exam (and to practice, where edits are chosen by reward), and none is ever learned from.

* `keep=store`, the default: adapters are kept beside the policy, one a passage. A question is answered by the adapter whose passage has
  most of its rare words, by the policy itself where none has any (`solve/retrieval.py`). Nothing that was known before is touched.
* `keep=merge`: the round's adapter is added to the policy's weights. That is the published form, and it loses what was merged before: by
  the authors' records the first of 8 passages falls from 38 to 19 %, below the base's 33.
* Many at once (`keep=merge rounds=1 prompts=200 samples=5 cut=no batch=8 epochs=3`) is their continued pretraining on 200 passages.

`summary.json` has the matrix of what was forgotten, by exact match ("forgetting") and by F1 ("forgetting_f1"). `edits` may be somebody
else's, such as a stronger model's, instead of the policy's own. Further counter-measures, which may be combined:
* `replay`: so many earlier passages are studied again each round, with edits that the present policy writes of them.
* `penalty` (with `best`): an edit's reward is the share of its passage's practice questions that its adapter answers right, less
  `penalty` times what it loses on those of earlier passages.
* `protect`: adapters are blind to the directions that hold this share of what their layers read in earlier passages (`engine/sparing.py`).

The guard holds every new version against what was known (`guard/forgetting.py`), and refuses one that harms it, unless `on_alarm=note`:
the round's passages are then not learned, and the next round sets out from the version before.

What differs: the authors merge in bfloat16 what a policy trained by `seal` wrote; take `--model runs/.../versions/...` for such a policy,
or for one that has read other passages before: a stored version brings its adapters along (`shelf/` in its folder).
Passages are their own text and one document a line of each edit, not padded (see `seal`).

Command: `antaeus run continual --tasks FILE` (rows of title, context and at least two questions; docs/architecture.md).
Expect: SmolLM2-135M-Instruct, 16 passages with given edits (`rounds=16 lr=1e-3 epochs=5 on_alarm=note`): of the first 8 passages stored
adapters keep an F1 of 0.23, merged ones 0.11, where the base has 0.08; exact answers hardly any (docs/experiments.md, two CPU cores).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar

from antaeus.engine.base import Engine, Sampling, Trained, Tuning
from antaeus.errors import UserError
from antaeus.guard.forgetting import matrix
from antaeus.learn.documents import course
from antaeus.propose.dealing import of_passages
from antaeus.propose.passages import given_edits
from antaeus.propose.rows import content_id
from antaeus.recipes.base import Reference, knob, preset
from antaeus.recipes.imitation import Imitation
from antaeus.recipes.judging import judged
from antaeus.recipes.round import Round
from antaeus.recipes.study import about, refuse_long, to_read
from antaeus.solve.given import attempted
from antaeus.solve.templates import NAMES, filled, template
from antaeus.types import Attempt, Group, Lesson, Practice, Source, Task, TaskSet, Verdict


@dataclass(frozen=True)
class Continual(Imitation):
    """Continued pretraining and continual learning on self-edits (Zweiger et al. 2025, arXiv 2506.10943)."""

    name: ClassVar[str] = "continual"
    title: ClassVar[str] = "passages read one after another stay in the policy, and forgetting is measured (arXiv 2506.10943)"
    rung: ClassVar[int] = 6
    source: ClassVar[Source] = Source.GROUND
    merges: ClassVar[bool] = True
    patient: ClassVar[bool] = True
    counted: ClassVar[bool] = False  # they are self-edits
    start: ClassVar[str] = "policy"
    schedule: ClassVar[str] = "constant"
    aggregate: ClassVar[str] = "token"
    updates: ClassVar[int] = 1
    top_p: ClassVar[float] = 0.95
    most: ClassVar[int] = 0
    targets: ClassVar[str | tuple[str, ...]] = "all-linear"
    rank: ClassVar[int] = 32  # alpha is twice that

    rounds: int = preset("rounds", 16, about="rounds: the passages that come next are read, and merged")
    prompts: int = preset("prompts", 1, about="passages a round")
    samples: int = preset("samples", 1, about="self-edits of each passage", low=1)
    lr: float = preset("lr", 1e-3, about="learning rate of the adapters, falling to 0")
    epochs: int = knob(10, "passes over a round's documents", low=1, high=100)
    batch: int = knob(1, "documents a step", low=1)
    temperature: float = preset("temperature", 1.0, about="sampling temperature of self-edits")
    prompt: str = knob("implications", f"{', '.join(NAMES)}, or a text file with {{title}} and {{context}}")
    edits: str = knob("", "file of passages with `completions`, edits that somebody else wrote, instead of the policy's own")
    edit_tokens: int = knob(512, "token limit of a self-edit", low=1)
    cut: str = knob("lines", "documents of a self-edit: its lines, or all of it is one", choices=("lines", "no"))
    best: int = knob(0, "edits of a passage that are studied, those with the highest rewards; 0 = all, unjudged", low=0)
    penalty: float = knob(0.0, "with best: weight of what an edit loses on earlier passages", low=0.0)
    replay: int = knob(0, "earlier passages that are studied again each round", low=0)
    protect: float = knob(0.0, "share of what layers read in earlier passages that adapters are blind to", low=0.0, high=1.0)
    keep: str = knob("store", "adapters are stored beside the policy, or merged into it", choices=("store", "merge"))

    def __post_init__(self) -> None:
        if self.penalty and not self.best:
            raise UserError("penalty: nothing is chosen by reward with best=0; add best=1 and samples=4, say")

    @property
    def sources(self) -> frozenset[Source]:
        return frozenset({Source.GROUND if self.best else Source.PEER if self.edits else Source.SELF})

    @property
    def tuning(self) -> Tuning:
        return Tuning(self.lr, self.rank, 2 * self.rank, self.epochs, self.batch, targets=self.targets, loss="all", warmup=0.0)

    @property
    def deal(self) -> int:
        return 3 if self.best else 2

    def prepare(self, tasks: TaskSet) -> TaskSet:
        text, wanted = template(self.prompt), self.rounds * self.prompts
        if any(task.passage is None for task in tasks.practice):
            raise UserError(
                f"{tasks.name}: continual reads passages (rows of title, context and questions), and these are other tasks; take "
                "self_consistency, which learns from any prompts"
            )
        if len(tasks.practice) < wanted:
            raise UserError(
                f"{tasks.name}: {self.rounds} rounds of {self.prompts} passages want {wanted} of them, and {len(tasks.practice)} have "
                f"{self.deal} questions or more; give more, or lower rounds or prompts"
            )
        first, given = of_passages(tasks, wanted), given_edits(self.edits) if self.edits else {}
        asked = [(replace(t, prompt=filled(text, t.passage)), given.get(t.passage)) for t in first.practice if t.passage]
        # what is studied is sealed with the task, so that a run is resumed with the edits that it began with
        return replace(first, practice=tuple(replace(t, tags=(content_id(repr(own)),)) if own else t for t, own in asked))

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        if engine.kind == "adapter":
            raise UserError("lora: continual trains adapters of its own; leave lora out")
        adapters = engine.adapters([[]], self.tuning)
        given = given_edits(self.edits) if self.edits else {}
        if self.edits and (without := [t.id for t in tasks.practice if t.passage not in given]):
            raise UserError(
                f"edits={self.edits}: it has no edit of {len(without)} passages that are to be read (first: {without[0]!r})"
            )
        if self.keep == "merge":
            adapters.merge(0)  # an untrained adapter adds nothing, if it can be merged at all
        refuse_long(engine, tasks.practice, [template(self.prompt)], self.edit_tokens)

    def sampling(self, tasks: TaskSet) -> Sampling:
        return Sampling(self.samples, self.edit_tokens, self.temperature, self.top_p)

    def propose(self, round: Round) -> list[Practice]:
        earlier = self._earlier(round)
        again = Random(f"{round.draw}/replay").sample(earlier, min(self.replay, len(earlier)))
        return [*round.tasks.practice[len(earlier) : len(earlier) + self.prompts], *again]

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        given = given_edits(self.edits) if self.edits else {}
        texts = [given[about(task)][: self.samples] for task in practice] if given else []
        groups = attempted(round.engine, practice, texts, self.temperature) if given else super().solve(round, practice)
        return [replace(g, attempts=tuple(replace(a, answer=a.text.strip()[:80] or None) for a in g.attempts)) for g in groups]

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        if not self.best:
            return [[self._verdict(round.engine, group.task, a) for a in group.attempts] for group in groups]
        asked, uncut = self._earlier(round) if self.penalty else [], self.cut == "no"
        return judged(round, groups, asked, self.tuning, self.penalty, uncut, **self._sparing(round))

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        return [lesson for group, row in zip(groups, verdicts, strict=True) for lesson in self._course(round.engine, group, row)]

    def train(self, round: Round, lessons: Sequence[Lesson]) -> list[Trained]:
        engine, how = round.engine, replace(self.tuning, seed=round.number)
        tasks = list(dict.fromkeys(lesson.task for lesson in lessons))
        courses = [[x for x in lessons if x.task == task] for task in tasks] if self.keep == "store" else [list(lessons)]
        adapters = engine.adapters(courses, how, **self._sparing(round))
        if self.keep == "merge":
            adapters.merge(0)
        else:
            for i, task in enumerate(tasks):
                adapters.shelve(i, about(task).whole)
        lost = [math.nan if c.skipped else c.grad_norms[-1] for c in adapters.courses]  # told by an alarm
        return [Trained(c.losses[-1], norm, 0.0, 0.0, c.tokens) for c, norm in zip(adapters.courses, lost, strict=True)]

    def account(self, lines: Iterable[Mapping[str, Any]], refused: Sequence[str]) -> dict[str, Any]:
        told = [line for line in lines if line["set"] in ("practice", "anchor", "merge")]
        return {"forgetting": matrix(told, refused), "forgetting_f1": matrix(told, refused, "f1")}

    def _earlier(self, round: Round) -> list[Practice]:
        return list(round.tasks.practice[: (round.number - 1) * self.prompts])

    def _sparing(self, round: Round) -> dict[str, Any]:
        """What adapters are blind to."""
        earlier = self._earlier(round) if self.protect else []
        return {"sparing": [x for t in earlier for x in course(round.engine, t, [about(t).whole])], "share": self.protect}

    def _verdict(self, engine: Engine, task: Task, edit: Attempt) -> Verdict:
        """Of an edit that is studied as it is: none, where the model cannot read it."""
        (source,) = self.sources
        try:
            course(engine, task, to_read(edit, about(task), self.cut == "no"))
        except UserError as err:
            return Verdict(None, source, str(err))
        return Verdict(1.0, source, "studied as it is")

    def _course(self, engine: Engine, group: Group, verdicts: Sequence[Verdict]) -> list[Lesson]:
        """Documents of the edits that are studied, and the passage itself; nothing of a passage without such an edit."""
        scored = [(v.score, a) for a, v in zip(group.attempts, verdicts, strict=True) if v.score is not None]
        chosen = [a for _, a in sorted(scored, key=lambda pair: -pair[0])][: self.best or None]
        texts = dict.fromkeys(text for edit in chosen for text in to_read(edit, about(group.task), self.cut == "no"))
        return course(engine, group.task, [*texts])
