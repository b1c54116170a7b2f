"""The seam to heavy machinery: a few verbs, and the plain records that cross them.

A recipe, the loop and the guard know this file and nothing else of the engine. Everything that crosses is a frozen record of
numbers, strings and tuples, so that a replica in another process or on another machine can stand in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from antaeus.types import Attempt, Lesson, Prompt


@dataclass(frozen=True, slots=True)
class Sharpen:
    """Lower the entropy of every step's distribution before drawing from it, where it is above `delta` nats; see `engine/sharpen.py`.

    "em": up to `steps` Adam steps of rate `lr` on the logits, against H(p) + `kl` x KL(p0 || p). "temperature": the temperature at which
    the entropy is max(`delta`, `share` x what it was).
    """

    how: Literal["em", "temperature"] = "em"
    delta: float = 0.3
    steps: int = 3
    lr: float = 0.1
    kl: float = 0.05
    share: float = 0.85


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw completions. `temperature` 0 is greedy. `top_k` 0 and `top_p` 1 leave the distribution whole. What `sharpen` leaves of
    the distribution is what temperature, top-k and top-p act on."""

    n: int = 1
    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    sharpen: Sharpen | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """One optimiser step. Formulas and sources: `engine/losses.py`. `entropy` weighs the tokens' entropies in the loss: above 0 they are
    lowered (EM-FT), below 0 kept up (a bonus); that is the direct part of the gradient alone. `confusion` weighs how much the batch's
    tokens are mistaken for one another, see `engine/confusion.py`.

    `aggregate`: "token" = mean over all completion tokens of the batch (DAPO, verl); "sequence" = mean over completions of
    each one's token mean (GRPO as published); "constant" = sum over tokens / (completions x `max_tokens`) (Dr.GRPO).
    """

    lr: float
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float = 3.0
    kl: float = 0.0
    entropy: float = 0.0
    confusion: float = 0.0
    aggregate: Literal["token", "sequence", "constant"] = "token"
    max_tokens: int = 256
    temperature: float = 1.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True, slots=True)
class Scores:
    """Statistics (nats) of an attempt's own tokens under some weights, one a token: log-probability; entropy of the next-token
    distribution p; certainty KL(uniform || p) (Intuitor, 2505.19590)."""

    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    certainties: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """What an update reports. `kl` is the k3 estimate to the reference where lessons carry its log-probabilities."""

    loss: float
    grad_norm: float
    clip_fraction: float
    kl: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """How an adapter of one's own is trained: LoRA of this rank and alpha on the linear layers whose names end in one of `targets`
    ("all-linear": all but the head), AdamW, a linear fall of the rate after the share `warmup` of the steps, each step on `batch_size`
    demonstrations. `loss`: the "output", or "all" tokens of prompt and output but the first. `seed` is that of order and initial weights:
    equal seeds are paired starts.

    `padded` above 0 takes each demonstration as filled up to so many tokens, with tokens that count and cost nothing: the loss, and with it
    the gradient before clipping, is so much smaller.
    """

    lr: float
    rank: int = 64
    alpha: int = 16
    epochs: int = 2
    batch_size: int = 2
    seed: int = 0
    targets: str | tuple[str, ...] = "all-linear"
    loss: Literal["output", "all"] = "output"
    warmup: float = 0.1
    padded: int = 0


@dataclass(frozen=True, slots=True)
class Course:
    """How an adapter's training went: loss and gradient norm (before clipping) of every step, and the tokens read."""

    losses: tuple[float, ...] = ()
    grad_norms: tuple[float, ...] = ()
    tokens: int = 0

    @property
    def skipped(self) -> list[int]:
        """Steps whose gradient was not finite: they left weights and moments alone."""
        return [step for step, norm in enumerate(self.grad_norms) if not math.isfinite(norm)]


class Adapted(Protocol):
    """Adapters of one policy, by number; None is the policy itself."""

    @property
    def courses(self) -> Sequence[Course]:
        """How each one's training went."""
        ...

    def sample(self, prompts: Sequence[tuple[int | None, str, Prompt]], how: Sampling, *, seed: str) -> list[list[Attempt]]:
        """`how.n` attempts for each (adapter, task id, prompt), in order."""
        ...

    def merge(self, i: int) -> None:
        """The policy becomes what it is under adapter i. Raises `UserError` for a policy that is an adapter itself, or of which only a
        part is trained."""
        ...

    def shelve(self, i: int, key: str) -> None:
        """Keep adapter i beside the policy, on the engine's shelf under `key`."""
        ...


class Trial:
    """What is learned inside `Engine.trial`: thrown away, unless it is kept."""

    kept = False

    def keep(self) -> None:
        self.kept = True


Weights = Literal["policy", "reference", "average"]
"""The weights that learn; those the engine was opened with; those that follow the policy, see `Engine.follow`."""


class Engine(Protocol):
    """A policy that can be sampled from and trained, and its frozen reference (the weights it was opened with)."""

    chat: bool  # the model has a chat template
    kind: Literal["weights", "adapter"]  # what `save` writes
    context: int  # longest prompt + completion, tokens

    def render(self, prompt: Prompt) -> str:
        """The exact text the model sees for `prompt`."""
        ...

    def encode(self, prompt: Prompt, text: str, *, end: bool = True) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids of `prompt`, and of `text` as a completion of it, with the end token behind unless `end` is False: what a
        demonstration consists of. An empty prompt has the ids that a text of this model begins with, often none: a document."""
        ...

    def beside(self, model: str) -> Engine:
        """Another model (a name, a folder, a hub id) on the same device, opened once: a teacher or a judge, sampled and scored, never
        trained. Raises `UserError` where there is no such model."""
        ...

    def sample(self, prompts: Sequence[tuple[str, Prompt]], how: Sampling, *, seed: str) -> list[list[Attempt]]:
        """`how.n` attempts for each (task id, prompt), in order. Attempt i of a task depends on (`seed`, task id, i) alone."""
        ...

    def score(self, attempts: Sequence[Attempt], *, weights: Weights = "policy", temperature: float = 1.0) -> list[Scores]:
        """Teacher-forced statistics of each attempt's tokens."""
        ...

    def train(self, lessons: Sequence[Lesson], how: Update) -> Trained:
        """One optimiser step on `lessons`. Lessons without advantage still count in the normalisation, but cost nothing."""
        ...

    def follow(self, share: float) -> None:
        """Move the "average" weights, at first the reference, by `share` of the way to the policy; 1 = all of it."""
        ...

    def trial(self) -> AbstractContextManager[Trial]:
        """What is trained inside the block is thrown away at its end, unless its `Trial` is kept: weights, shelf and optimiser are what
        they were, to the bit. There alone may lessons be made of sealed tasks, of which nothing but their prompts is known."""
        ...

    def adapters(
        self,
        courses: Sequence[Sequence[Lesson]],
        how: Tuning | Sequence[Tuning],
        *,
        sparing: Sequence[Lesson] = (),
        share: float = 0.0,
    ) -> Adapted:
        """A fresh adapter for each course of demonstrations (advantages are not looked at), all trained together; one without any is the
        policy. Each is trained by its own `how`, where several are given: these have one rank, one alpha and the same targets. The policy
        stays as it is, so that a course may be made of what a sealed prompt shows.

        Adapters are blind to the directions that hold `share` of the energy of what their layers read in the texts of `sparing`, see
        `engine/sparing.py`."""
        ...

    @property
    def shelf(self) -> Sequence[str]:
        """The keys of the adapters that are kept beside the policy; saved and loaded with it."""
        ...

    def shelved(self) -> Adapted:
        """These adapters, in the order of their keys. Raises `UserError` where there are none."""
        ...

    def save(self, folder: Path, *, resumable: bool = False) -> None:
        """Write the policy as a folder other tools load; with `resumable`, also all that a later `load` needs to go on."""
        ...

    def load(self, folder: Path | None, *, resumable: bool = False) -> None:
        """Take the weights in `folder` (None: the reference); with `resumable`, the optimiser's state too."""
        ...


Metrics = Mapping[str, float]
