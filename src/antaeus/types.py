"""The nouns. Frozen, typed, JSON in and out; every other room imports this one and it imports none.

Two rules of the project live here as types:

* where an error signal comes from is a `Source`, carried by every `Verdict`: anything may teach, only `GROUND` may promote;
* what a task may be used for is its type: `Practice` may be learned from, `Anchor` and `Exam` may only be measured on.
  Answers are never on a task. They lie in a `Vault` that opens for one of the three types and for no other.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal


class Source(StrEnum):
    """Where a verdict comes from."""

    GROUND = "ground"  # something the model cannot influence: sealed answers, unit tests, a solver, a person
    PEER = "peer"  # another model
    SELF = "self"  # the model itself: its votes, certainty, judgement


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""A string is text to complete, verbatim; messages go through the model's chat template."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A text to be known by heart: what a task asks about and is answered without."""

    title: str
    text: str

    @property
    def whole(self) -> str:
        """Title and text."""
        return f"{self.title}\n{self.text}"


@dataclass(frozen=True, slots=True)
class Task:
    """Something to attempt. Use one of its three kinds: `Practice`, `Anchor`, `Exam`.

    `shots` is text that stands before the prompt of every task of a set (worked examples); it is not part of what makes
    two tasks the same. `completion` says that the prompt is text to continue even if the model has a chat template.
    `check` names the grader: "math", "exact", "span" (short answers in words) or "reasoning-gym:<generator>". A practice task whose
    answer is a list of questions about its passage has "passage", and is graded by what it teaches.
    """

    id: str
    prompt: Prompt
    shots: str = ""
    completion: bool = False
    check: str = "math"
    tags: tuple[str, ...] = ()
    proposed_by: str | None = None  # id of the attempt that wrote this task, where a model did
    about: str = ""  # id of the task that this one asks about once more, such as with a hint, or for a revision
    passage: Passage | None = None  # what it is about, where that is not in the prompt; public


@dataclass(frozen=True, slots=True)
class Practice(Task):
    """A task the model may learn from."""


@dataclass(frozen=True, slots=True)
class Anchor(Task):
    """A task only the guard may open, round after round: early stopping, choice of the best version."""


@dataclass(frozen=True, slots=True)
class Exam(Task):
    """A task opened once, at the end, for the final decision and the report."""


class SealBroken(RuntimeError):
    """A sealed answer was asked for by somebody who may not see it, or a sealed task reached learning. A bug, not bad input."""


class Vault:
    """The sealed answers of one kind of task, by task id. `open` serves that kind and no other."""

    def __init__(self, kind: type[Task], answers: Mapping[str, str]) -> None:
        self.kind = kind
        self._answers = dict(answers)

    def __len__(self) -> int:
        return len(self._answers)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._answers

    def __repr__(self) -> str:  # answers never reach a log by accident
        return f"Vault({self.kind.__name__}, {len(self)} sealed)"

    def wipe(self) -> None:
        """Forget all answers: another process keeps them from now on, see `guard.service`."""
        self._answers.clear()

    def open(self, task: Task) -> str:
        """The sealed answer of `task`. Raises `SealBroken` for a task of another kind and `KeyError` for one without answer."""
        if type(task) is not self.kind:
            raise SealBroken(f"the vault of {self.kind.__name__} tasks was asked for {type(task).__name__} {task.id!r}")
        return self._answers[task.id]


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Practice, anchor and exam tasks with their sealed answers, and how to sample and read attempts at them."""

    name: str
    practice: tuple[Practice, ...]
    anchor: tuple[Anchor, ...]
    exam: tuple[Exam, ...]
    practice_vault: Vault
    anchor_vault: Vault
    exam_vault: Vault
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    extract: str = "auto"  # how to find the answer in a text, see `antaeus.answers.extract`


Stop = Literal["eos", "stop", "length"]
"""Why a completion ended: the model's end token, a stop string, or the token limit (a truncated attempt)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a task. `ids` are the model's own tokens, stop token included; `text` is cut before a stop string.

    `logprobs` and `entropies` (nats) have one entry per id and are those of the sampling temperature's untruncated distribution.
    """

    task_id: str
    index: int
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str
    stop: Stop
    logprobs: tuple[float, ...]
    entropies: tuple[float, ...]
    answer: str | None = None  # parsed; None = no answer found, which never votes and never wins
    spent: int = 0  # tokens sampled and trained on for it in all, where more than its own went into it; 0 = its own

    @property
    def cost(self) -> int:
        """Tokens that went into it."""
        return self.spent or len(self.ids)


@dataclass(frozen=True, slots=True)
class Group:
    """The attempts at one task."""

    task: Task
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of one attempt. `score` None = abstain (no opinion, or the grader failed); it is never a zero."""

    score: float | None
    source: Source
    why: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    spent: int = 0  # tokens sampled and trained on for it


@dataclass(frozen=True, slots=True)
class Lesson:
    """What learning consumes: one completion with its advantage, for all its tokens or for each. Its task must be `Practice`, but in a
    trial of the engine, which forgets what it learns.

    `logprobs` are those of the policy that sampled it; None = the policy that is about to learn (strictly on-policy, ratio 1). So an
    advantage of 1 without them is a demonstration: its gradient is that of the negative log-likelihood.
    `ref_logprobs` are those of the reference policy, needed where the loss has a KL term.
    """

    task: Task
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    advantage: float | tuple[float, ...]
    logprobs: tuple[float, ...] | None = None
    ref_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A node of the lineage. `path` is relative to the run directory; None for the model the run started from."""

    id: str
    parent: str | None
    kind: Literal["weights", "adapter"]
    round: int
    path: str | None = None
    fingerprint: str = ""  # of the weights at work when it was made, see `guard.fingerprint`


@dataclass(frozen=True, slots=True)
class Decision:
    """What the guard decided and on what evidence."""

    action: Literal["promote", "reject", "undecided", "roll back", "stop"]
    version: str
    why: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def to_json(record: Any) -> str:
    """One line of JSON for a noun (or any mixture of nouns, mappings, sequences and scalars). NaN and infinity are refused."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """What `json` knows, of what it does not."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): v for k, v in value.items()}
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
