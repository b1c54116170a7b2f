"""Asks `symbolic` in worker processes that can be killed: are two formulas the same?

math-verify (on sympy) may hang for ever (`9!!!!!!!!`), eat all memory, or stop only by a signal that works in the main thread.
Hence a few long-lived workers, each a plain `python -c` child that talks lines over pipes (no `multiprocessing`, so that it
also works from threads and from a script without a main guard). A worker that is late, dies or is interrupted is thrown away.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from antaeus.answers.normal import is_number

log = logging.getLogger(__name__)
START_S = 60.0  # a cold machine reads sympy from disk
_CHILD = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from antaeus.answers.symbolic import serve; serve()"


class GraderFailed(Exception):
    """No verdict: the worker was late, died or could not start. Neither right nor wrong."""


def same(a: str, b: str, timeout_s: float) -> bool | None:
    """True or False as two LaTeX formulas are equal; None where the worker took over `timeout_s` seconds or died.

    A formula that was late once or killed two workers is not tried again: one hanging answer costs one time-out, not 64.
    """
    if any(_given_up.get(key, 0.0) >= timeout_s for key in (a, b, (a, b))):
        return None
    if _clearly_apart(a, b):
        return False
    try:
        return _settled(a, b, timeout_s)
    except GraderFailed:
        return None


@lru_cache(maxsize=16_384)
def _settled(a: str, b: str, timeout_s: float) -> bool:
    reply, step, late = _pool.ask(a, b, timeout_s)
    if reply is None:
        culprit = (a, b, (a, b))[step]
        _blame((a, b) if culprit in (a, b) and is_number(culprit) else culprit, timeout_s if late else math.inf, late)
        raise GraderFailed  # only verdicts are cached, an exception is not
    if len(_rough) >= 16_384:
        _rough.clear()
    _rough.update({text: [complex(*z) for z in numbers or ()] for text, numbers in zip((a, b), reply[1:], strict=True)})
    return reply[0]


_rough: dict[str, list[complex]] = {}  # a formula's numbers as the worker that read it sent them, empty if it has none


def _clearly_apart(a: str, b: str) -> bool:
    """Most pairs of formulas need no second question. Never true of two that a worker would call the same."""
    x, y = (_rough.get(text) or _plain_number(text) for text in (a, b))
    return any(abs(p - q) > 1e-6 * max(abs(p), abs(q)) for p, q in zip(x, y, strict=False))


def _plain_number(text: str) -> list[complex]:
    if not is_number(text) or len(text) > 200:
        return []
    number = complex(float(Fraction(text)))
    return [number] if abs(number) > 1e-12 else []


_given_up: dict[str | tuple[str, str], float] = {}  # the time-out that was too short, seconds
_killers: set[str | tuple[str, str]] = set()


def _blame(key: str | tuple[str, str], up_to_s: float, late: bool) -> None:
    if len(_given_up) + len(_killers) >= 4096:
        _given_up.clear()
        _killers.clear()
    if late or key in _killers:
        _given_up[key] = up_to_s
    else:
        _killers.add(key)  # the first time the worker may have been killed from outside


class Worker:
    """One child process. Use from one thread at a time; after anything but a verdict it must be killed."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-c", _CHILD, json.dumps([p for p in sys.path if isinstance(p, str)])]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL  # its own session: ctrl-C is the parent's affair
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, start_new_session=True)
        hello = self._within(START_S, self._line)[0]
        if hello != b'"ready"\n':
            self.kill()
            missing = ImportError("math-verify cannot be imported (pip install math-verify[antlr4_13_2])")
            raise missing if hello == b'"missing"\n' else OSError("a worker process did not start")

    def ask(self, a: str, b: str, timeout_s: float) -> tuple[list[Any] | None, int, bool]:
        """The reply `[verdict, ...]` or None; the step it was at: 0 reading a, 1 reading b, 2 comparing; whether it was late."""
        step, reply = 2, None

        def talk() -> None:
            nonlocal step, reply
            self.process.stdin.write(json.dumps([a, b, timeout_s]).encode() + b"\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
            while reply is None and (line := self._line()):
                said = json.loads(line)
                step, reply = (said, None) if isinstance(said, int) else (2, said)

        _, late = self._within(timeout_s, talk)
        return reply, step, late

    def kill(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what could not be written any more
                pipe.close()  # type: ignore[union-attr]
        self.process.wait()

    def _line(self) -> bytes:
        return self.process.stdout.readline()  # type: ignore[union-attr]

    def _within(self, seconds: float, action: Callable[[], Any]) -> tuple[Any, bool]:
        """The action's result (None if the pipe broke) and whether the worker was shot because it took too long."""
        shots: list[bool] = []
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), lambda: (shots.append(True), self.process.kill()))
        timer.daemon = True
        timer.start()
        try:
            result = action()
        except OSError:
            result = None
        finally:
            timer.cancel()
            timer.join()  # after this no shot can hit the next question
        return result, bool(shots)


class Pool:
    """At most `size` warm workers, started when first needed. Safe to share between threads; a forked child starts afresh."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.missing = False  # math-verify is not installed: do not try again
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()

    def ask(self, a: str, b: str, timeout_s: float) -> tuple[list[Any] | None, int, bool]:
        """As `Worker.ask`; waiting for a free worker and starting one do not count as its time."""
        with self._slots:
            worker = self._take()
            reply, late = None, True
            try:
                reply, step, late = worker.ask(a, b, timeout_s)
            finally:  # also on ctrl-C: a worker whose answer nobody read must not be asked again
                if reply is None or late:
                    self._drop(worker)
                else:
                    self._idle.append(worker)
            return reply, step, late

    def close(self) -> None:
        for worker in list(self._all):
            self._drop(worker)

    def _take(self) -> Worker:
        with contextlib.suppress(IndexError):  # none idle
            while (worker := self._idle.pop()).process.poll() is not None:
                self._drop(worker)
            return worker
        if self.missing:
            raise GraderFailed
        try:
            worker = Worker()
        except (OSError, ImportError) as error:
            self.missing = isinstance(error, ImportError)
            log.warning("symbolic answers cannot be compared: %s", error)
            raise GraderFailed from None
        self._all.add(worker)
        return worker

    def _drop(self, worker: Worker) -> None:
        self._all.discard(worker)
        worker.kill()


def _start_afresh() -> None:
    global _pool
    _pool = Pool(_pool.size)


_pool = Pool(min(4, os.cpu_count() or 1))
atexit.register(lambda: _pool.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
