"""The program inside the sealed process of `guard.service`: it alone knows the answers of anchors and exam, and grades.

It talks JSON lines over its pipes. First it is told everything it will ever know; then it takes requests, each with the token of
the object that started it:

    {"mark": [[kind, id, [answer, ...]], ...]}  ->  a line {"row": [[score, why, parts], ...]} for each task
    {"warm": true}                              ->  {}, once every grader of the anchors is loaded
    {"score": {id: answer}, "seconds": s}       ->  {"told": share, "left": questions}: what the ladder tells, never more

Whatever is refused is a line {"broken": why} (a seal) or {"refused": why} (the user's to mend).
"""

from __future__ import annotations

import hmac
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from antaeus.errors import UserError
from antaeus.guard.ladder import Ladder
from antaeus.types import Anchor, Attempt, Exam, Group, SealBroken, Source, Task, Vault, Verdict
from antaeus.verify.ground import ground

ATTEMPT_S = 30.0  # a grader that takes longer has failed; a formula's own limit is below that
KINDS: Mapping[str, type[Task]] = {kind.__name__: kind for kind in (Anchor, Exam)}


def serve() -> None:
    """The life of the process: until its parent closes the pipe or dies."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a scorer prints must not look like a verdict
    hello = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with, args=(hello["parent"],), daemon=True).start()
    signal.signal(signal.SIGALRM, _late)
    sealed = Sealed(hello)
    print(json.dumps("ready"), file=out)
    for line in sys.stdin:
        request = json.loads(line)
        for reply in sealed.replies(request):
            print(json.dumps([request["number"], reply]), file=out)


def _end_with(parent: int) -> None:
    """A pipe that a forked child of the parent still holds does not close when the parent dies."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


class Sealed:
    """The answers, the checks they are graded by, and the ladder."""

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self._token = hello["token"]
        self._checks = {kind: {id: check for id, (check, _) in hello["sealed"][kind].items()} for kind in KINDS}
        self._vaults = {kind: Vault(KINDS[kind], {id: text for id, (_, text) in hello["sealed"][kind].items()}) for kind in KINDS}
        self._ladder = Ladder(len(self._checks["Anchor"]), hello["budget"])

    def replies(self, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            if not hmac.compare_digest(request["token"], self._token):
                raise SealBroken("only the object that started the score service may ask it")
            if "warm" in request:
                self._warm()
                yield {}
            elif "score" in request:
                share = self._ladder.tell(request["score"], lambda: self._right(request["score"], request["seconds"]))
                yield {"told": share, "left": self._ladder.left}
            else:
                asked = [(self._task(kind, id), answers) for kind, id, answers in request["mark"]]
                yield from (
                    {"row": [_plain(self._grade(task, answer, ATTEMPT_S)) for answer in answers]} for task, answers in asked
                )
        except SealBroken as error:
            yield {"broken": str(error)}
        except UserError as error:
            yield {"refused": str(error)}

    def _task(self, kind: str, id: str) -> Task:
        if id not in self._checks.get(kind, {}):
            raise SealBroken(f"the score service has no sealed answer of {kind} task {id!r}")
        return KINDS[kind](id, "", check=self._checks[kind][id])

    def _grade(self, task: Task, answer: str | None, seconds: float) -> Verdict:
        try:
            with _limit(seconds):
                return _ground(task, answer, self._vaults[type(task).__name__])
        except _Late:
            return Verdict(None, Source.GROUND, "the grader failed or timed out")

    def _warm(self) -> None:
        """What takes long the first time only, and would be cut off: on an answer of nobody's."""
        for check in set(self._checks["Anchor"].values()):
            _ground(Anchor("", "", check=check), "1+x", Vault(Anchor, {"": "x+1"}))

    def _right(self, answers: Mapping[str, str], seconds: float) -> int:
        """Right answers among those that can be graded in `seconds`: how long it takes must not tell more than the ladder."""
        ends = time.monotonic() + seconds
        left = ((id, answer, ends - time.monotonic()) for id, answer in answers.items())
        return sum(rest > 0 and self._grade(self._task("Anchor", id), answer, rest).score == 1.0 for id, answer, rest in left)


def _ground(task: Task, answer: str | None, vault: Vault) -> Verdict:
    return ground(Group(task, (Attempt(task.id, 0, (), (), "", "eos", (), (), answer),)), vault)[0]


def _plain(verdict: Verdict) -> list[Any]:
    return [verdict.score, verdict.why, dict(verdict.parts)]


class _Late(BaseException):
    """Passes through the `except Exception` of graders."""


def _late(*_: Any) -> None:
    raise _Late


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
