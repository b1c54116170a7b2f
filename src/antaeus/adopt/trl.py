"""Our verifiers as reward functions of TRL (`GRPOTrainer`, `RLOOTrainer`).

    trainer = GRPOTrainer(model, reward_funcs=reward("add2"), train_dataset=Dataset.from_list(rows("add2")), ...)

A grader that fails gives None, not 0: TRL leaves such a completion without advantage and out of its group's mean (tried with 1.16;
old versions take it for 0 where no other reward function has a score).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from antaeus.adopt.reading import grade, group, text_of
from antaeus.errors import UserError
from antaeus.propose.sets import load
from antaeus.solve.rollout import ask
from antaeus.types import TaskSet
from antaeus.verify.vote import majority

Reward = Callable[..., list[float | None]]
Tasks = TaskSet | str | Path


def rows(tasks: Tasks, *, chat: bool = False) -> list[dict[str, Any]]:
    """The practice tasks as rows of a TRL dataset: `prompt` and `task_id`, without answers. `chat`: the model has a chat template."""
    asked = ((task.id, ask(task, chat)) for task in _tasks(tasks).practice)
    return [{"task_id": name, "prompt": p if isinstance(p, str) else [_turn(m) for m in p]} for name, p in asked]


def reward(tasks: Tasks | None = None, *, check: str = "math", column: str = "answer", read: str = "auto") -> Reward:
    """A reward function: 1 for a completion that gives the right answer, 0 for others, None where there is no telling.

    Without `tasks` the right answer stands in the dataset's `column` (None or blank: no reward), is compared the way `check` says
    ("math", "exact", "reasoning-gym:<generator>") and found in the completion the way `read` says (`antaeus.answers.extract`).
    With `tasks` the dataset is `rows(tasks)`; answers stay sealed, and checks, stop strings and reading are the set's own. Shows
    in TRL's log as `ground_<check>`, with `tasks` as `ground_<name of the set>`.
    """
    if tasks is None:
        return _named(f"ground_{check}", lambda texts, columns: _by_column(texts, _column(columns, column), check, read))
    known = _tasks(tasks)
    return _named(f"ground_{known.name}", lambda texts, columns: _by_task(texts, _column(columns, "task_id"), known))


def majority_reward(num_generations: int, *, read: str = "auto", agreement: float = 0.0) -> Reward:
    """A reward function that needs no answers: 1 for completions that agree with the majority of their prompt's
    `num_generations` (the trainer's own number); None for all of them where the majority is smaller than `agreement`.

    Shows in TRL's log as `majority`. Raises `UserError` where a batch cuts a prompt's completions in two.
    """

    def vote(texts: Sequence[Any], columns: dict[str, Any]) -> list[float | None]:
        prompts, scores = columns["prompts"], []
        for start in range(0, len(texts), num_generations):
            part = slice(start, start + num_generations)
            if len(texts[part]) < num_generations or any(p != prompts[start] for p in prompts[part]):
                raise UserError(
                    f"majority_reward: the completions of one prompt are not {num_generations} in a row: give it the trainer's own "
                    "num_generations, and let the batch of each process be a multiple of it"
                )
            scores += [v.score for v in majority(group([text_of(t) for t in texts[part]], read), agreement)]
        return scores

    return _named("majority", vote)


def _named(name: str, score: Callable[[Sequence[Any], dict[str, Any]], list[float | None]]) -> Reward:
    def function(completions: Sequence[Any], **columns: Any) -> list[float | None]:
        return score(completions, columns)

    function.__name__ = name
    return function


def _by_column(texts: Sequence[Any], answers: Sequence[Any], check: str, read: str) -> list[float | None]:
    pairs = zip(texts, answers, strict=True)
    return [grade(text_of(t), a, check=check, read=read).score if str(a or "").strip() else None for t, a in pairs]


def _by_task(texts: Sequence[Any], ids: Sequence[str], known: TaskSet) -> list[float | None]:
    of = {task.id: task for task in known.practice}
    if strangers := set(ids) - of.keys():
        raise UserError(f"the dataset has tasks that {known.name} has not, such as {min(strangers)!r}: build it with rows()")
    found = [(text_of(t, known.stop), of[i]) for t, i in zip(texts, ids, strict=True)]
    vault = known.practice_vault
    return [grade(t, vault.open(k), check=k.check, read=known.extract).score if k.id in vault else None for t, k in found]


def _column(columns: dict[str, Any], name: str) -> Sequence[Any]:
    if name not in columns:
        raise UserError(f"the dataset has no column {name!r}, in which the reward looks")
    return columns[name]


def _tasks(tasks: Tasks) -> TaskSet:
    return tasks if isinstance(tasks, TaskSet) else load(str(tasks), seed=0)


def _turn(message: Any) -> dict[str, str]:
    return {"role": message.role, "content": message.content}
