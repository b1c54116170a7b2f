"""A completion as other libraries hand it over, and ground truth's verdict on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from antaeus.answers import extract
from antaeus.engine.base import Engine, Sampling
from antaeus.solve.rollout import rollout
from antaeus.types import Anchor, Attempt, Exam, Group, Practice, TaskSet, Vault, Verdict
from antaeus.verify.ground import ground


def text_of(completion: Any, stop: Iterable[str] = ()) -> str:
    """A completion is a string, or messages of which the assistant's count; cut before the first stop string."""
    if not isinstance(completion, str):
        said = (turn.get("content") or "" for turn in completion if turn.get("role") == "assistant")
        completion = "\n".join(said)
    ends = [at for s in stop if (at := completion.find(s)) >= 0]
    return completion[: min(ends)] if ends else completion


def attempt(text: str, read: str, index: int = 0) -> Attempt:
    """A text as an attempt, with its answer read the way `read` says; nothing is known of its tokens."""
    return Attempt("row", index, (), (), text, "eos", (), (), extract(text, read))


def grade(text: str, answer: Any, *, check: str, read: str) -> Verdict:
    """Ground truth's verdict on `text`. Of a worked solution in the manner of GSM8K ("... #### 72") the end is the answer."""
    sealed = answer if check != "math" else str(answer).rsplit("####", 1)[-1].strip()
    task = Practice("row", "", check=check)
    return ground(Group(task, (attempt(text, read),)), Vault(Practice, {"row": str(sealed)}))[0]


def group(texts: Sequence[str], read: str) -> Group:
    """The attempts at one prompt."""
    return Group(Practice("row", ""), tuple(attempt(text, read, i) for i, text in enumerate(texts)))


def take(engine: Engine, which: Sequence[Anchor | Exam], vault: Vault, tasks: TaskSet) -> tuple[list[Group], list[Verdict]]:
    """Greedy attempts at sealed tasks, one each, and ground truth's verdicts on them."""
    how = Sampling(n=1, max_tokens=tasks.max_tokens, temperature=0.0, stop=tasks.stop)
    groups = rollout(engine, which, how, seed="greedy", read=tasks.extract)
    return groups, [ground(each, vault)[0] for each in groups]
