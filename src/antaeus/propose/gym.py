"""Procedural tasks of reasoning-gym (Apache-2.0, version 0.1.25), by generator name. They are graded by `antaeus.gym`."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TypeVar

from antaeus.errors import UserError
from antaeus.gym import CHECK, dataset, grade_gym, seal
from antaeus.overlap import Index
from antaeus.propose.builtin import require_sizes
from antaeus.propose.rows import content_id
from antaeus.types import Anchor, Exam, Practice, Task, TaskSet, Vault

__all__ = ["REFUSED", "grade_gym", "gym"]

REFUSED = {
    "coin_flip": "its scorer gives the answer 0 full marks",
    "game_of_life_halting": "its scorer takes any text for an answer",
    "puzzle24": "its scorer takes any four numbers",
    "composite": "it mixes other generators and needs a configuration of its own",
    "isomorphic_strings": "its tasks differ from process to process",
    "polynomial_multiplication": "its tasks differ from process to process",
    "ransom_note": "its tasks differ from process to process",
}
_ASK = "\n\nPut the final answer, and nothing else, in \\boxed{}."  # few of the questions say how their answer will be found

_Kind = TypeVar("_Kind", bound=Task)
_Entries = Mapping[str, Mapping[str, Any]]
"""Generated entries (question, answer, metadata) by task id."""


def gym(name: str, seed: int, n_practice: int = 256, n_anchor: int = 64, n_exam: int = 200) -> TaskSet:
    """Tasks of the reasoning-gym generator `name`, no two of them with the same question.

    Exam and anchors do not depend on `seed`; practice does, and holds no near-duplicate of either. The sealed answer is the
    whole entry, which `grade_gym` needs. A generator that runs dry gives fewer tasks, with a warning. Raises `UserError` for
    an unknown or unsound generator, for one that gives no task of a kind, and where reasoning-gym is not installed.
    """
    require_sizes(n_practice=n_practice, n_anchor=n_anchor, n_exam=n_exam)
    if name in REFUSED:
        raise UserError(f"gym:{name} cannot be used: {REFUSED[name]}; choose another generator")
    exam = _draw(name, "exam", n_exam, {})
    anchor = _draw(name, "anchor", n_anchor, exam)
    practice = _draw(name, f"practice {seed}", n_practice, exam | anchor)
    got, asked = (len(practice), len(anchor), len(exam)), (n_practice, n_anchor, n_exam)
    if 0 in got:
        raise UserError(f"gym:{name} has too few different tasks: {got} practice, anchor and exam tasks; choose another")
    if got != asked:
        warnings.warn(f"gym:{name} ran dry: {got} practice, anchor and exam tasks instead of {asked}", stacklevel=2)
    return TaskSet(
        name=f"gym:{name}",
        practice=_tasks(Practice, name, practice),
        anchor=_tasks(Anchor, name, anchor),
        exam=_tasks(Exam, name, exam),
        practice_vault=_vault(Practice, practice),
        anchor_vault=_vault(Anchor, anchor),
        exam_vault=_vault(Exam, exam),
    )


def _draw(name: str, part: str, n: int, apart: _Entries) -> dict[str, dict[str, Any]]:
    """Up to `n` entries by id, from at most 4 n + 50 drawn: new questions, near none of `apart`, with an answer that is right."""
    # Item i of seed s is item i - 1 of seed s + 1: seeds must lie far apart, which a hash sees to.
    data = dataset(name, int.from_bytes(sha256(f"antaeus {name} {part}".encode()).digest()[:4], "big") >> 1)
    index = Index((task_id, _prompt(entry)) for task_id, entry in apart.items())
    found: dict[str, dict[str, Any]] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # some generators print
        for i in range(4 * n + 50):
            if len(found) == n:
                break
            entry = _entry(name, data, i)
            if index.hit(_prompt(entry)) is None and _sound(name, entry):
                found.setdefault(f"{name}:{content_id(entry['question'])}", entry)
    return found


def _entry(name: str, data: Any, i: int) -> dict[str, Any]:
    try:
        item = data[i]
        return {key: item[key] for key in ("question", "answer", "metadata")}
    except Exception as error:  # generators of a hundred authors
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"gym:{name} failed to make task {i} ({why}); choose another generator") from None


def _prompt(entry: Mapping[str, Any]) -> str:
    return entry["question"].rstrip() + _ASK


def _sound(name: str, entry: Mapping[str, Any]) -> bool:
    """Whether the entry's own answer is right. Five generators give none: their scorers try the proposed solution instead."""
    answer = entry["answer"]
    return answer is None or grade_gym(check=CHECK + name, sealed=seal(entry), answer=answer) is True


def _tasks(kind: type[_Kind], name: str, entries: _Entries) -> tuple[_Kind, ...]:
    return tuple(kind(id=task_id, prompt=_prompt(entry), check=CHECK + name) for task_id, entry in entries.items())


def _vault(kind: type[Task], entries: _Entries) -> Vault:
    return Vault(kind, {task_id: seal(entry) for task_id, entry in entries.items()})
