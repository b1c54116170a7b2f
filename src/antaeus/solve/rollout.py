"""Sampling groups of attempts and reading their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from antaeus.answers import extract
from antaeus.engine.base import Adapted, Engine, Sampling
from antaeus.types import Attempt, Group, Message, Prompt, Task


def ask(task: Task, chat: bool) -> Prompt:
    """What the model is given: a completion stays text behind its shots; a bare string becomes a user's turn where there is a
    chat template (`chat`), since a chat model left without its template writes endless text."""
    if not isinstance(task.prompt, str):
        return task.prompt
    text = task.shots + task.prompt
    return text if task.completion or not chat else (Message("user", text),)


def preceded(prompt: Prompt, line: str) -> Prompt:
    """`prompt` with a line of text before it, or before what its last message says: behind a prompt to be continued it would be part of
    the answer."""
    if isinstance(prompt, str):
        return f"{line}\n{prompt}"
    *earlier, last = prompt
    return (*earlier, Message(last.role, f"{line}\n{last.content}"))


def rollout(engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
    """`how.n` attempts at each task, with their answers parsed the way `read` says (see `antaeus.answers.extract`)."""
    return _read(tasks, engine.sample([(task.id, ask(task, engine.chat)) for task in tasks], how, seed=seed), read)


def rollout_by(
    adapters: Adapted, who: Sequence[int | None], tasks: Sequence[Task], how: Sampling, *, chat: bool, seed: str, read: str
) -> list[Group]:
    """The same by adapters: at tasks[i] by number who[i], None being the policy. `chat`: see `ask`."""
    asked = [(i, task.id, ask(task, chat)) for i, task in zip(who, tasks, strict=True)]
    return _read(tasks, adapters.sample(asked, how, seed=seed), read)


def _read(tasks: Sequence[Task], sampled: Sequence[Sequence[Attempt]], how: str) -> list[Group]:
    return [
        Group(task, tuple(replace(attempt, answer=extract(attempt.text, how)) for attempt in attempts))
        for task, attempts in zip(tasks, sampled, strict=True)
    ]
