"""Sampling groups of attempts and reading their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from antaeus.answers import extract
from antaeus.engine.base import Engine, Sampling
from antaeus.types import Group, Message, Prompt, Task


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
    sampled = engine.sample([(task.id, ask(task, engine.chat)) for task in tasks], how, seed=seed)
    return [
        Group(task, tuple(replace(attempt, answer=extract(attempt.text, read)) for attempt in attempts))
        for task, attempts in zip(tasks, sampled, strict=True)
    ]
