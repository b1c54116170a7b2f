"""A grader in a child process, where it may hang, crash, print and exit: each of these is an outcome, none of them reaches us.

The child reads questions as lines of JSON and answers each with a line; what the grader itself prints goes nowhere. One that is
late is killed with everything it started, and the next question gets a fresh child.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from antaeus.errors import UserError
from antaeus.guard.grader_calls import Convention, conventions, score_of
from antaeus.guard.grader_loading import EXPECTED, load

START_S = 120.0  # a grader's file may import torch
MEMORY = 8 << 30  # bytes of data a grader may hold
_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from antaeus.guard.grader_child import serve; serve()"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a grader said: a score, or None and why there is none. `late`: it took too long."""

    score: float | None
    why: str = ""
    late: bool = False
    died: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where a grader is: a Python file or an importable module, the function's name ("" = find it), arguments bound to it."""

    module: str
    function: str = ""
    bound: dict[str, Any] = field(default_factory=dict)


class Here:
    """A function called in this process. Exceptions are outcomes; one that hangs, hangs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._ways = conventions(function)
        if not self._ways:
            raise UserError(f"{getattr(function, '__name__', function)!r} is no grader: {EXPECTED}")
        self.names = [way.name for way in self._ways]

    def ask(self, gold: str, answer: str | None, how: int = 0, prompt: str = "") -> Outcome:
        return _outcome(self._ways[how], gold, answer, prompt)

    def close(self) -> None:
        pass


class Child:
    """A grader in a process of its own. Raises `UserError` where it cannot be loaded. `names` are the ways to call it."""

    def __init__(self, target: Target, timeout_s: float = 5.0) -> None:
        self._target, self._timeout_s = target, timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        reply = self._start()
        if "names" not in reply:
            self.close()
            raise UserError(
                reply.get("error") or f"{target.module}: it took more than {START_S:.0f} s to import, or ended the process"
            )
        self.names: list[str] = reply["names"]

    def ask(self, gold: str, answer: str | None, how: int = 0, prompt: str = "") -> Outcome:
        """The outcome of one question, within the time-out (seconds); starting a child anew does not count."""
        if self._process is None and "names" not in self._start():
            self.close()
            return Outcome(None, "could not be started again", died=True)
        reply, late = self._talk([gold, answer, how, prompt, self._timeout_s], self._timeout_s)
        if reply is not None:
            return Outcome(*reply)
        self.close()
        return (
            Outcome(None, f"took more than {self._timeout_s:g} s", late=True)
            if late
            else Outcome(None, "ended its process", died=True)
        )

    def close(self) -> None:
        """Kill the child with everything it started."""
        if self._process:
            _kill(self._process)
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()  # type: ignore[union-attr]
            self._process.wait()
        self._process = None

    def _start(self) -> dict[str, Any]:
        target = json.dumps([self._target.module, self._target.function, self._target.bound])
        command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), target]
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, start_new_session=True)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(self._process.stdout, self._lines), daemon=True).start()
        reply, _ = self._talk(None, START_S)
        return reply or {}

    def _talk(self, question: Any, timeout_s: float) -> tuple[Any, bool]:
        """The reply, None if there was none; and whether that is because it was late."""
        assert self._process is not None and self._process.stdin is not None
        timer = threading.Timer(timeout_s, _kill, [self._process])  # ends a write that blocks, too
        timer.start()
        try:
            if question is not None:
                self._process.stdin.write(json.dumps(question).encode() + b"\n")
                self._process.stdin.flush()
            line = self._lines.get(timeout=timeout_s + 1.0)
            return (json.loads(line), False) if line else (None, not timer.is_alive())
        except (OSError, ValueError):
            return None, not timer.is_alive()
        except queue.Empty:
            return None, True
        finally:
            timer.cancel()
            timer.join()  # after this no shot can hit the next child


def _listen(pipe: Any, lines: queue.SimpleQueue[bytes]) -> None:
    """A pipe that a grandchild holds open blocks this thread and nobody else."""
    with contextlib.suppress(OSError, ValueError):
        for line in pipe:
            lines.put(line)
    lines.put(b"")


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


# -- in the child


def serve() -> None:
    """A child's life: the ways to call the grader, then a line `[score, why]` for each line `[gold, answer, way, prompt, seconds]`."""
    replies, questions = os.fdopen(os.dup(1), "w", buffering=1), os.fdopen(os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)  # what a grader prints must not look like a score
    _limit_memory()
    faulthandler.dump_traceback_later(START_S + 5, exit=True)  # ends a child whose parent is gone, even where the GIL is held
    try:
        ways = load(*json.loads(sys.argv[2]))
    except UserError as error:
        print(json.dumps({"error": str(error)}), file=replies)
        return
    print(json.dumps({"names": [way.name for way in ways]}), file=replies)
    faulthandler.cancel_dump_traceback_later()
    for line in questions:
        gold, answer, how, prompt, seconds = json.loads(line)
        faulthandler.dump_traceback_later(seconds + 5, exit=True)
        outcome = _outcome(ways[how], gold, answer, prompt)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps([outcome.score, outcome.why]), file=replies)


def _outcome(way: Convention, gold: str, answer: str | None, prompt: str) -> Outcome:
    try:
        return Outcome(*score_of(way.call(gold, answer, prompt), way.batch))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit as well
        return Outcome(None, f"raised {type(error).__name__}: {' '.join(str(error).split())[:80]}")


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows; a stricter limit
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
