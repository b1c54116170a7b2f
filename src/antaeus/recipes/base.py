"""What all recipes share: the fields a user may set, and the five stages with their defaults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from antaeus.engine.base import Engine, Sampling, Scores, Trained, Update
from antaeus.errors import UserError
from antaeus.learn.advantages import ADVANTAGES
from antaeus.learn.policy_gradient import lessons
from antaeus.propose.batch import batch
from antaeus.recipes.round import Round
from antaeus.solve.retrieval import answered
from antaeus.solve.rollout import rollout
from antaeus.types import Group, Lesson, Practice, Source, Task, TaskSet, Verdict
from antaeus.verify.controls import CONTROLS

Reference = Sequence[Sequence[Scores]] | None


def preset(name: str, default: Any, **bounds: Any) -> Any:
    """A field that all recipes share, with another default; `bounds` replace what it takes."""
    return field(default=default, metadata={**Recipe.__dataclass_fields__[name].metadata, **bounds})


def knob(default: Any, about: str, *, low: float | None = None, high: float | None = None, choices: Sequence[str] = ()) -> Any:
    """A field of a recipe: its default, one line of help, and what values it takes (bounds are inclusive)."""
    return field(default=default, metadata={"about": about, "low": low, "high": high, "choices": tuple(choices)})


@dataclass(frozen=True)
class Recipe:
    """Policy gradient on groups of attempts; a recipe replaces the stages that make it what it is."""

    name: ClassVar[str]
    title: ClassVar[str]  # one line for `antaeus list`
    rung: ClassVar[int]  # of the ladder of letting go, see docs/architecture.md
    source: ClassVar[Source]  # of its verdicts; the practice vault is handed to GROUND recipes only
    contrast: ClassVar[bool] = True  # it learns from attempts at one prompt that differ in score
    rewarded: ClassVar[bool] = True  # what it learns depends on the scores of its verdicts
    counted: ClassVar[bool] = True  # its attempts are answers that can be counted, to choose tasks or fix labels by
    inference: ClassVar[bool] = False  # it answers in a way of its own, see `answer`; the exam compares that with plain answering
    throughout: ClassVar[bool] = False  # the base answers in that way too: what is compared is what was learned
    merges: ClassVar[bool] = False  # what it learns is held against what was known, and undone where it harms that
    patient: ClassVar[bool] = False  # a first round that teaches nothing is a finding, not a mistake in the settings

    rounds: int = knob(30, "rounds of the loop, one update each unless `updates` says otherwise", low=1)
    prompts: int = knob(16, "practice prompts a round", low=1)
    samples: int = knob(16, "attempts at each prompt", low=2)
    lr: float = knob(8e-6, "learning rate (AdamW) at the start", low=0.0, high=1.0)
    schedule: str = knob("linear", "learning rate over the rounds", choices=("constant", "linear", "cosine"))
    temperature: float = knob(1.0, "sampling temperature of attempts", low=1e-3, high=10.0)
    top_p: float = knob(1.0, "nucleus of the sampling distribution", low=1e-3, high=1.0)
    advantage: str = knob("grpo", "how rewards become advantages", choices=tuple(ADVANTAGES))
    aggregate: str = knob("token", "how token losses become one number", choices=("token", "sequence", "constant"))
    clip_low: float = knob(0.2, "the ratio is clipped below 1 - clip_low", low=0.0, high=1.0)
    clip_high: float = knob(0.2, "and above 1 + clip_high", low=0.0)
    kl: float = knob(0.0, "weight of the k3 KL to the base model", low=0.0)
    kl_in: str = knob("loss", "where that KL enters", choices=("loss", "reward"))
    updates: int = knob(1, "optimiser steps a round, each on its share of the prompts", low=1)
    control: str = knob(
        "none", "replace the verdicts: " + "; ".join(f"{k} = {v}" for k, v in CONTROLS.items()), choices=tuple(CONTROLS)
    )

    @property
    def sources(self) -> frozenset[Source]:
        """Of its verdicts, where they may have several."""
        return frozenset({self.source})

    @property
    def deal(self) -> int:
        """How passages become tasks, where it can use them: 0 = by title; see `propose.sets.load`."""
        return 0

    def prepare(self, tasks: TaskSet) -> TaskSet:
        """The tasks as this recipe asks them, before they are sealed. Raises `UserError` for those it cannot use."""
        if any(task.passage is not None for task in tasks.practice):
            raise UserError(
                f"{tasks.name}: passages with questions about them, from which {self.name} cannot learn; take recipe seal or continual"
            )
        return tasks

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        """Raises `UserError`, before anything runs, where model or tasks lack what the recipe needs; it names a recipe that would do."""

    def propose(self, round: Round) -> list[Practice]:
        """The practice tasks of a round."""
        return batch(round.tasks.practice, round.number, self.prompts, round.seed)

    def solve(self, round: Round, practice: Sequence[Practice]) -> list[Group]:
        """Attempts at them."""
        return rollout(round.engine, practice, self.sampling(round.tasks), seed=round.draw, read=round.tasks.extract)

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        """One verdict an attempt."""
        raise NotImplementedError

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        """What the engine trains on. `reference` is there where `kl` is above 0: the reference's statistics of every attempt."""
        return lessons(
            groups, verdicts, ADVANTAGES[self.advantage],
            reference=reference, kl_in_reward=self.kl if self.kl_in == "reward" else 0.0, off_policy=self.updates > 1,
        )  # fmt: skip

    def train(self, round: Round, lessons: Sequence[Lesson]) -> list[Trained]:
        """The round's optimiser steps, each on the lessons of its share of the prompts."""
        how, prompts = self.update(round), list(dict.fromkeys(lesson.task.id for lesson in lessons))
        shares = [set(prompts[i :: self.updates]) for i in range(min(self.updates, len(prompts)))]
        return [round.engine.train([lesson for lesson in lessons if lesson.task.id in share], how) for share in shares]

    def answer(self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
        """Attempts at sealed tasks, `how.n` each, at anchors and exam; in the recipe's own way with `inference` or `throughout`."""
        return answered(engine, tasks, how, seed=seed, read=read)

    def baselines(
        self, engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str
    ) -> Mapping[str, list[Group]]:
        """The base's attempts at the exam in other ways, by name: asked for once, at the end of a run, and told in its summary."""
        return {}

    def account(self, lines: Iterable[Mapping[str, Any]], refused: Sequence[str]) -> dict[str, Any]:
        """What the summary tells beside what it tells of every run: made of the lines of attempts.jsonl up to the exam, see
        `records.record`, and the versions that the guard refused."""
        return {}

    def sampling(self, tasks: TaskSet) -> Sampling:
        return Sampling(self.samples, tasks.max_tokens, self.temperature, self.top_p, stop=tasks.stop)

    def update(self, round: Round) -> Update:
        """The optimiser step of a round."""
        falling = {"constant": 1.0, "linear": 1 - round.done, "cosine": (1 + math.cos(math.pi * round.done)) / 2}
        return Update(
            lr=self.lr * falling[self.schedule], clip_low=self.clip_low, clip_high=self.clip_high,
            kl=self.kl if self.kl_in == "loss" else 0.0, aggregate=self.aggregate,  # type: ignore[arg-type]
            max_tokens=round.tasks.max_tokens, temperature=self.temperature,
        )  # fmt: skip
