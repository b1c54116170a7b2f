"""Sealed answers in a process of their own, with two faces: marks for the guard, scores on a budget for whoever proposes.

    service = ScoreService(tasks)       # a child process now knows the answers of anchors and exam (`antaeus.scorer`)
    tasks = service.seal(tasks)         # and this one has forgotten them
    service.mark(groups)                # verdicts of ground truth, attempt by attempt: for the guard alone
    service.score({id: answer, ...})    # how many anchors are right, as much of it as `guard.ladder` tells

What this keeps apart: code in this process (a recipe, a custom verifier, whatever a model wrote that runs here) finds no sealed
answer, neither in a variable nor by walking the heap or the stack; and processes that only have the socket (`guard.outside`)
can ask for scores and nothing else. What it does not: code in this process can call `mark`, or use the token, as the guard does;
whoever may read the task files, run the generator, or trace processes of this user needs no service. Memory that was freed is
not overwritten. Every service has a ladder and a budget of its own: a search that is to be bounded as a whole needs one service,
and after a restart no more than the budget that was `left`.

A process that is killed, crashes or is late takes the answers with it; nobody can start it again, since nobody else has them.
From then on every mark is None (the grader failed), on which nothing is promoted, and scores raise `GraderFailed`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antaeus.answers.workers import GraderFailed
from antaeus.errors import UserError
from antaeus.guard import ladder
from antaeus.types import Group, SealBroken, Source, TaskSet, Verdict

log = logging.getLogger(__name__)
START_S = 60.0  # a cold machine
LATE_S = 60.0  # an attempt is given up by the child itself after half of it
LONGEST = 10_000  # characters of an answer
GONE = "the score service is gone, and the sealed answers with it"
_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from antaeus.scorer import serve; serve()"


@dataclass(frozen=True, slots=True)
class Told:
    """What a proposer is told: a share in whole steps, anchors without an answer (counted as wrong), questions left."""

    score: float
    missing: int
    left: int


class ScoreService:
    """The process that grades. Safe to share between threads; a forked child may not use it.

    `budget` is the number of different submissions that `score` takes. It answers after `reply_s` seconds, always, so that time
    tells nothing; what cannot be graded by then counts as wrong.
    """

    def __init__(self, tasks: TaskSet, *, budget: int = 20, reply_s: float = 10.0) -> None:
        self.left, self.reply_s = budget, reply_s
        self.step = 1 / ladder.levels(len(tasks.anchor))
        self._anchors, self._exam = {t.id for t in tasks.anchor}, {t.id for t in tasks.exam}
        self._owner, self._token, self._number = os.getpid(), secrets.token_hex(16), 0
        self._pipe, self._scoring = threading.Lock(), threading.Lock()
        command = [sys.executable, "-P", "-c", _CHILD, json.dumps([p for p in sys.path if isinstance(p, str)])]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL  # graders complain about answers by name: nobody may read that
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, start_new_session=True)
        self.close = weakref.finalize(self, _end, self._process)
        if self._talk(_hello(tasks, self._token, budget), START_S) != "ready":
            self.close()
            raise GraderFailed("the score service did not start")

    def __enter__(self) -> ScoreService:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return self.close.alive and self._process.poll() is None

    def seal(self, tasks: TaskSet) -> TaskSet:
        """`tasks` with the answers of anchors and exam wiped, wherever else the set is held; practice keeps its own."""
        if {t.id for t in tasks.anchor} != self._anchors or {t.id for t in tasks.exam} != self._exam:
            raise SealBroken("these are not the tasks whose answers the score service has: they would be lost")
        tasks.anchor_vault.wipe()
        tasks.exam_vault.wipe()
        return tasks

    # --- the guard's face ---------------------------------------------------------------------------------------------

    def mark(self, groups: Sequence[Group]) -> list[list[Verdict]]:
        """Ground truth's verdicts, one row a group, as `verify.ground.ground` gives them; None where the grader failed or the
        process is gone. Raises `SealBroken` for a task without sealed answer of its kind (practice has none here)."""
        asked = [[type(g.task).__name__, g.task.id, [a.answer for a in g.attempts]] for g in groups]
        replies = self._ask({"mark": asked}, [LATE_S * (1 + len(g.attempts)) for g in groups])
        rows = [[Verdict(score, Source.GROUND, why, parts) for score, why, parts in reply["row"]] for reply in replies]
        return rows + [[Verdict(None, Source.GROUND, GONE) for _ in g.attempts] for g in groups[len(rows) :]]

    # --- the proposer's face ------------------------------------------------------------------------------------------

    def score(self, answers: Mapping[str, str]) -> float:
        """The share of anchors that `answers` (task id -> answer) gets right, as far as the ladder tells: the best share told so
        far unless this one beats it by a `step`. A missing answer is wrong, with a warning.

        Raises `UserError` for unknown ids, answers that are no strings or too long, and once the budget is spent;
        `GraderFailed` where the process is gone.
        """
        told = self.tell(answers)
        if told.missing:
            what = f"{told.missing} of {len(self._anchors)} anchor tasks have no answer: they count as wrong"
            warnings.warn(what, stacklevel=2)
        return told.score

    def tell(self, answers: Mapping[str, str]) -> Told:
        """`score` with what there is to say about it."""
        answers = _well_formed(answers, self._anchors)
        with self._scoring:  # one at a time: nobody's time may tell of another's answers
            self._ask({"warm": True}, [START_S])
            due = time.monotonic() + self.reply_s
            replies = self._ask({"score": answers, "seconds": self.reply_s}, [self.reply_s + LATE_S])
            if not replies:
                raise GraderFailed(GONE)
            time.sleep(max(0.0, due - time.monotonic()))
            self.left = replies[0]["left"]
        return Told(replies[0]["told"], len(self._anchors) - len(answers), self.left)

    # --- the pipe -----------------------------------------------------------------------------------------------------

    def _ask(self, what: Mapping[str, Any], limits_s: Sequence[float]) -> list[dict[str, Any]]:
        """One reply for each limit (seconds); fewer where the process is gone or late, which ends it."""
        if os.getpid() != self._owner:
            raise SealBroken("the score service belongs to the process that started it, not to a fork of it")
        replies: list[dict[str, Any]] = []
        with self._pipe:
            self._number += 1
            request: Mapping[str, Any] | None = {"token": self._token, "number": self._number, **what}
            for seconds in limits_s:
                reply = self._talk(request, seconds)
                if reply is None:
                    self._lose()
                    break
                _raise_refusal(reply)
                replies.append(reply)
                request = None
        return replies

    def _talk(self, request: Mapping[str, Any] | None, seconds: float) -> Any:
        """Send a request, if there is one, and read a reply to the last one sent; None where the process is gone or was late."""
        shot = threading.Timer(seconds, self._process.kill)
        shot.daemon = True
        shot.start()
        try:
            if request is not None:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")  # type: ignore[union-attr]
                self._process.stdin.flush()  # type: ignore[union-attr]
            while True:
                reply = json.loads(self._process.stdout.readline())  # type: ignore[union-attr]
                if reply == "ready":
                    return reply
                if reply[0] == self._number:  # else one to a request whose asker was interrupted
                    return reply[1]
        except (OSError, ValueError):
            return None
        finally:
            shot.cancel()

    def _lose(self) -> None:
        if self.close.alive:
            log.error("%s: nothing can be graded, and nothing promoted", GONE)
        self.close()


def _hello(tasks: TaskSet, token: str, budget: int) -> dict[str, Any]:
    parts = {"Anchor": (tasks.anchor, tasks.anchor_vault), "Exam": (tasks.exam, tasks.exam_vault)}
    sealed = {kind: {task.id: [task.check, vault.open(task)] for task in part} for kind, (part, vault) in parts.items()}
    return {"parent": os.getpid(), "token": token, "budget": budget, "sealed": sealed}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # nothing in a fork, whose child it is not
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what could not be written any more
            pipe.close()  # type: ignore[union-attr]
    process.wait()


def _raise_refusal(reply: Mapping[str, Any]) -> None:
    if "broken" in reply:
        raise SealBroken(reply["broken"])
    if "refused" in reply:
        raise UserError(reply["refused"])


def _well_formed(answers: Mapping[str, str], ids: set[str]) -> dict[str, str]:
    """The submission, or `UserError`. What is said here depends on nothing that is sealed."""
    if not isinstance(answers, Mapping):
        raise UserError(f"a submission is a mapping of task id to answer, not a {type(answers).__name__}")
    submission = dict(answers)
    for id, answer in submission.items():
        if id not in ids:
            raise UserError(f"unknown task {str(id)[:60]!r}: a submission has the ids of anchor tasks and no others")
        if not isinstance(answer, str):
            raise UserError(f"answer of {id!r} is a {type(answer).__name__}: give strings, and leave out tasks without an answer")
        if len(answer) > LONGEST:
            raise UserError(f"answer of {id!r} has {len(answer)} characters: give {LONGEST} at most")
    return submission
