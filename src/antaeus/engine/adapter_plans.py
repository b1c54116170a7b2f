"""What each of many adapters is taught, and how: records that cross into `adapters.py`, and out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from antaeus.engine.base import Tuning
from antaeus.errors import UserError
from antaeus.types import Lesson

SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True, slots=True)
class Example:
    """A sequence to learn from. Its tokens from `start` on count in the loss, those before are read; the first cannot count.

    `mask`, one entry a token, leaves more of them out: a token counts where it is true and not before `start`, as labels of -100
    everywhere else would have it.
    """

    ids: tuple[int, ...]
    start: int = 1
    mask: tuple[bool, ...] | None = None

    def counts(self) -> list[bool]:
        """Whether each token counts in the loss."""
        return [i >= self.start and kept for i, kept in enumerate(self.mask or [True] * len(self.ids))]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one adapter is trained: AdamW from zero moments.

    `steps` None stands for `epochs` passes over the examples; a number of steps goes round as often as it takes. `schedule` and
    `warmup` (steps) are those of `transformers.get_scheduler`. `order` seeds the shuffling of each pass, None = as given. `seed`
    is that of fresh initial weights, None = go on from those the adapter has. `aggregate`, of a step's loss: "token" = mean over
    the tokens that count, "sequence" = mean over sequences of each one's token mean, "sum" = sum over tokens. `padded`, of "token":
    the mean is over that many tokens a sequence, but for the first, those that it lacks costing nothing.
    """

    examples: tuple[Example, ...]
    lr: float
    steps: int | None = None
    epochs: int = 1
    batch_size: int = 1
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: int = 0
    aggregate: Literal["token", "sequence", "sum"] = "token"
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    seed: int | None = None
    order: int | None = None
    padded: int = 0

    def batches(self) -> list[list[int]]:
        """The examples of each step. No batch reaches from one pass into the next."""
        dice, n = torch.Generator().manual_seed(self.order or 0), len(self.examples)
        each = math.ceil(n / self.batch_size)
        steps = self.epochs * each if self.steps is None else self.steps
        batches: list[list[int]] = []
        while len(batches) < steps:
            order = list(range(n)) if self.order is None else torch.randperm(n, generator=dice).tolist()
            batches += [order[i : i + self.batch_size] for i in range(0, n, self.batch_size)]
        return batches[:steps]

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * step / self.warmup
        done = (step - self.warmup) / max(1, steps - self.warmup)
        return self.lr * {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.schedule]

    def weights(self, batch: Sequence[Example]) -> list[float]:
        """What a token of each of these examples weighs in the loss."""
        counted = [sum(e.counts()) for e in batch]
        filled = [max(c, self.padded - 1) for c in counted]
        by = {"token": [sum(filled)] * len(batch), "sequence": [c * len(batch) for c in counted], "sum": [1] * len(batch)}
        return [1 / norm for norm in by[self.aggregate]]


def plan_of(course: Sequence[Lesson], how: Tuning) -> Plan | None:
    """The plan of these demonstrations; None where there are none."""
    if not course:
        return None
    examples = tuple(Example((*x.prompt_ids, *x.ids), max(1, len(x.prompt_ids)) if how.loss == "output" else 1) for x in course)
    plan = Plan(
        examples,
        how.lr,
        epochs=how.epochs,
        batch_size=how.batch_size,
        schedule="linear",
        seed=how.seed,
        order=how.seed,
        padded=how.padded,
    )
    return replace(plan, warmup=int(len(plan.batches()) * how.warmup))


def plans_of(courses: Sequence[Sequence[Lesson]], how: Tuning | Sequence[Tuning]) -> tuple[Tuning, list[Plan | None]]:
    """The plans of courses, with the one tuning that tells rank, alpha and targets of all."""
    hows = [how] * len(courses) if isinstance(how, Tuning) else list(how)
    if len(hows) != len(courses) or not hows:
        raise UserError(f"{len(hows)} tunings for {len(courses)} adapters: give one, or one each")
    if len({(each.rank, each.alpha, each.targets) for each in hows}) > 1:
        raise UserError("adapters that are trained together must have one rank, one alpha and the same targets")
    return hows[0], [plan_of(course, each) for course, each in zip(courses, hows, strict=True)]


def check(plans: Sequence[Plan | None], n: int, context: int) -> None:
    """Refuse plans that cannot be followed, in a line."""
    if len(plans) != n:
        raise UserError(f"{len(plans)} plans for {n} adapters: give one each, None for those to leave alone")
    for i, plan in enumerate(plans):
        if plan is None:
            continue
        if not plan.examples:
            raise UserError(f"plan {i} has no examples")
        if plan.schedule not in SCHEDULES or plan.batch_size < 1:
            raise UserError(f"plan {i}: schedule is one of {', '.join(SCHEDULES)}, batch_size at least 1")
        for j, example in enumerate(plan.examples):
            if not 1 <= example.start < len(example.ids) <= context:
                raise UserError(
                    f"plan {i}, example {j}: {len(example.ids)} tokens, loss from {example.start} on; the model's context is "
                    f"{context}, and at least one token must count, the first never"
                )
            if example.mask is not None and (len(example.mask) != len(example.ids) or not any(example.counts())):
                raise UserError(
                    f"plan {i}, example {j}: a mask of {len(example.mask)} entries for {len(example.ids)} tokens, loss from "
                    f"{example.start} on; give one entry a token, true for at least one that may count"
                )
