"""What somebody else wrote, as attempts that the policy did not make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from antaeus.engine.base import Engine
from antaeus.errors import UserError
from antaeus.solve.rollout import ask
from antaeus.types import Attempt, Group, Prompt, Task


def attempted(engine: Engine, tasks: Sequence[Task], texts: Sequence[Sequence[str]], temperature: float) -> list[Group]:
    """texts[i] as attempts at tasks[i], with the policy's statistics of them at `temperature`: of as much as the model's context holds."""
    groups = []
    for task, own in zip(tasks, texts, strict=True):
        written = [(text, *_that_fits(engine, ask(task, engine.chat), text)) for text in own]
        blank = [Attempt(task.id, i, read, ids, text, "eos", (), ()) for i, (text, read, ids) in enumerate(written)]
        both = zip(blank, engine.score(blank, temperature=temperature), strict=True)
        groups.append(Group(task, tuple(replace(a, logprobs=s.logprobs, entropies=s.entropies) for a, s in both)))
    return groups


def _that_fits(engine: Engine, prompt: Prompt, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids of a prompt and of a text behind it, or of its first half, quarter ... Raises `UserError` where the prompt is too long."""
    try:
        return engine.encode(prompt, text)
    except UserError:
        if not text:
            raise
        return _that_fits(engine, prompt, text[: len(text) // 2])
