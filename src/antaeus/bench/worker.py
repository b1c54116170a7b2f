"""The parent's end of the line to a process that takes a step when it is told to (`work.py` has the other end)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing import get_context
from statistics import median
from typing import Any

from antaeus.bench.work import Turn, Work, serve
from antaeus.errors import UserError


class Worker:
    """A process that takes a step when it is asked to; `about` is what it said of itself when it was ready."""

    def __init__(self, name: str, worker: Callable[[Turn, Work], None], work: Work) -> None:
        context = get_context("spawn")
        self.name = name
        self.reports: list[dict[str, Any]] = []
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(worker, theirs, work))
        self._process.start()
        theirs.close()
        try:
            self.about = self._hear()
        except BaseException:  # nobody else could close it, and Python waits for its children at the end
            self.close()
            raise

    def step(self) -> float:
        """Let it take one step. Returns its seconds."""
        self._pipe.send("go")
        self.reports.append(self._hear())
        return self.reports[-1]["seconds"]

    def close(self) -> None:
        self._pipe.close()
        self._process.join(5)
        self._process.terminate()
        self._process.join()

    def _hear(self) -> dict[str, Any]:
        try:
            said = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise UserError(
                f"the process of {self.name} ended with code {self._process.exitcode}: see above; -9 is usually a lack of "
                "memory: lower --prompts, --samples or --tokens"
            ) from None
        if isinstance(said, UserError):
            raise said
        return said


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}
