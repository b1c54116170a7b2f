"""What recipes on ARC puzzles share: what they refuse, lessons of made puzzles, and answers under every view, voted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from antaeus.engine.base import Adapted, Engine, Sampling
from antaeus.errors import UserError
from antaeus.grids import LARGEST, Grid, Puzzle, oversized, parse, prompt_of, puzzle_of, show
from antaeus.learn.leave_one_out import Solved, reordered
from antaeus.moves import SYMMETRIES, Move
from antaeus.solve.rollout import ask
from antaeus.types import Attempt, Group, Lesson, Prompt, Task, TaskSet
from antaeus.verify.grid_vote import vote

LONGEST = 8192  # tokens of a sequence at most
SPARE = 64  # those that a chat template may add; a text's own are no more than its characters


def refuse(name: str, tasks: TaskSet, engine: Engine) -> None:
    """Raises `UserError` unless `engine` can train adapters and all tasks are puzzles with demonstrations, of grids up to 30 x 30."""
    if engine.kind == "adapter":
        raise UserError(f"lora: {name} trains adapters of its own for each puzzle; leave lora out")
    puzzles = {task.id: puzzle_of(task.prompt) for task in (*tasks.practice, *tasks.anchor, *tasks.exam)}
    if without := [task for task, puzzle in puzzles.items() if puzzle is None]:
        raise UserError(
            f"{name} learns from the demonstrations in a puzzle's prompt, and {len(without)} tasks of {tasks.name} have none (first: "
            f"{without[0]!r}); take --tasks arc, or recipe ttt, which needs only prompts"
        )
    if large := [(task, grid) for task, puzzle in puzzles.items() if puzzle and (grid := oversized(puzzle))]:
        (task, grid), size = large[0], f"{LARGEST} x {LARGEST}"
        raise UserError(
            f"{name} takes puzzles of grids up to {size}, and {len(large)} tasks of {tasks.name} have larger ones (first: {task!r}, "
            f"{len(grid)} x {len(grid[0])}); leave these out, or take recipe ttt, which needs only prompts"
        )


def puzzle_in(task: Task) -> Puzzle:
    """The puzzle that a task's prompt is."""
    puzzle = puzzle_of(task.prompt)
    assert puzzle is not None, "refused before the run"
    return puzzle


def asked(engine: Engine, task: Task, prompt: str) -> Prompt:
    """A puzzle's text, asked the way `task` is."""
    return ask(replace(task, prompt=prompt), engine.chat)


def that_fit(engine: Engine, task: Task, made: Sequence[Solved]) -> list[Solved]:
    """Puzzles made of the task's own, without those that are too long for the model."""
    room = min(LONGEST, engine.context) - SPARE - len(task.shots)
    return [(puzzle, answer) for puzzle, answer in made if len(prompt_of(puzzle)) + len(" " + show(answer)) <= room]


def course(engine: Engine, task: Task, made: Sequence[Solved]) -> list[Lesson]:
    """What an adapter learns from puzzles made of the task's own."""
    texts = [(prompt_of(puzzle), " " + show(answer)) for puzzle, answer in that_fit(engine, task, made)]
    return [Lesson(task, *engine.encode(asked(engine, task, prompt), text), 1.0) for prompt, text in texts]


def answered(
    engine: Engine, adapters: Adapted, tasks: Sequence[Task], how: Sampling, *, samples: int, views: int, seed: str
) -> list[tuple[Group, int]]:
    """`how.n` attempts at each task by the adapter of its place, and the tokens sampled for them: the answers with most votes among those
    under `views` symmetries, `samples` greedy ones each; the last again where there are fewer."""
    room = engine.context - how.max_tokens - SPARE
    asking = [(i, task, *view) for i, task in enumerate(tasks) for view in seen(task, samples, views, room, seed)]
    named = [(i, f"{task.id} {n}", asked(engine, task, prompt)) for n, (i, task, _, prompt) in enumerate(asking)]
    drawn = adapters.sample(named, replace(how, n=1, temperature=0.0), seed=seed)
    said: list[list[tuple[Move, Attempt]]] = [[] for _ in tasks]
    for (i, _, move, _), group in zip(asking, drawn, strict=True):
        said[i].append((move, group[0]))
    return [(_voted(task, own, how.n), sum(a.cost for _, a in own)) for task, own in zip(tasks, said, strict=True)]


def seen(task: Task, samples: int, views: int, room: int, seed: str) -> Iterator[tuple[Move, str]]:
    """The puzzle as it is, and every other view of it that leaves room for an answer."""
    rng, puzzle = Random(f"{seed}/{task.id}/views"), puzzle_in(task)
    for move in SYMMETRIES[:views]:
        for order in range(samples):
            prompt = prompt_of(move.on(reordered(puzzle, rng) if order else puzzle))
            if len(prompt) <= room or (move is SYMMETRIES[0] and not order):
                yield move, prompt


def _voted(task: Task, answered: Sequence[tuple[Move, Attempt]], n: int) -> Group:
    views: dict[str, list[Grid | None]] = {}
    for move, attempt in answered:
        grid = parse(attempt.text)
        views.setdefault(move.name, []).append(grid and move.undo(grid))
    found = vote(list(views.values()), n)
    plain = replace(answered[0][1], task_id=task.id)
    if not found:
        return Group(task, tuple(replace(plain, index=i, answer=None) for i in range(n)))
    lines = [show(found[min(i, len(found) - 1)]) for i in range(n)]
    return Group(task, tuple(replace(plain, index=i, text=line, answer=line) for i, line in enumerate(lines)))
