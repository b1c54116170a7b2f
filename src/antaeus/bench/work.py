"""The work of a measured step, the same for whoever does it, and the protocol by which a process does it when it is told to."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from random import Random
from typing import Any

from antaeus.bench import peak
from antaeus.config import configure
from antaeus.engine import models
from antaeus.errors import UserError
from antaeus.propose.batch import batch
from antaeus.propose.builtin import builtin, require_sizes
from antaeus.recipes.ttrl import TTRL
from antaeus.solve.rollout import ask
from antaeus.types import TaskSet


@dataclass(frozen=True, slots=True)
class Work:
    """`steps` steps of `prompts` x `samples` completions of `tokens` tokens. `dtype` and `device`, as torch names them, are told to
    the peer: those that ours chose."""

    model: str
    prompts: int
    samples: int
    tokens: int
    steps: int
    dtype: str = ""
    device: str = ""

    def recipe(self) -> TTRL:
        return TTRL(rounds=self.steps, prompts=self.prompts, samples=self.samples, schedule="constant", agreement=0.0)

    def tasks(self) -> TaskSet:
        """Two-digit sums behind four worked examples. Without stop strings, every completion has `tokens` tokens."""
        with warnings.catch_warnings(action="ignore"):  # that there are fewer sums than asked for: they come again, then
            sums = builtin("add2", 0, n_practice=self.prompts * self.steps)
        return replace(sums, max_tokens=self.tokens, stop=())

    def texts(self) -> list[str]:
        """The prompts of all steps, in order."""
        recipe, tasks = self.recipe(), self.tasks()
        return [str(ask(task, chat=False)) for i in range(self.steps) for task in batch(tasks.practice, i + 1, recipe.prompts, 0)]

    def completions(self, tokenizer: Any) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
        """For each step, `prompts` x `samples` rows of prompt ids and exactly `tokens` completion ids: other sums, told on."""
        texts, rng = self.texts(), Random("completions")
        prose = [i for text in texts for i in tokenizer.encode(text)] * (1 + self.tokens // 8)
        prompts = [tuple(tokenizer.encode(text)) for text in texts for _ in range(self.samples)]
        starts = [int(rng.random() * (len(prose) - self.tokens)) for _ in prompts]
        rows = [(prompt, tuple(prose[i : i + self.tokens])) for prompt, i in zip(prompts, starts, strict=True)]
        size = self.prompts * self.samples
        return [rows[i : i + size] for i in range(0, len(rows), size)]


def prepared(model: str, sizes: Mapping[str, int], repeats: int) -> Work:
    """`repeats` steps after a warm-up: checked, and with the model's folder, so that both sides read the same."""
    require_sizes(tokens=sizes["tokens"], repeats=repeats)
    configure("ttrl", {k: sizes[k] for k in ("prompts", "samples")})
    work = Work(model, sizes["prompts"], sizes["samples"], sizes["tokens"], steps=repeats + 1)
    if work.prompts > (n := len(work.tasks().practice)):
        raise UserError(f"prompts={work.prompts}: there are only {n} different sums")
    return replace(work, model=str(models.fetch(model)))


class Turn:
    """A worker's end of the line: it says what it is, then waits before each step and reports after it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._began = (0.0, 0.0)
        self._base = 0

    def ready(self, **about: Any) -> None:
        self.settle()
        self._pipe.send(about)

    def settle(self) -> None:
        """From here on counts what is held at most: neither loading nor what was measured before."""
        self._base = peak.forget()

    def begin(self) -> None:
        self._pipe.recv()
        self._began = _now()

    @contextmanager
    def part(self, name: str) -> Iterator[dict[str, float]]:
        """A part of a step, within. Yields what will hold its seconds, by the clock (`name`) and of all threads (`name`_cpu)."""
        seconds: dict[str, float] = {}
        began = _now()
        yield seconds
        wall, cpu = _since(began)
        seconds |= {name: wall, f"{name}_cpu": cpu}

    def end(self, **parts: float) -> None:
        wall, cpu = _since(self._began)
        held = {"base_mb": self._base, "peak_mb": peak.peak_mb(), "peak_rss_mb": peak.peak_rss_mb()}
        self._pipe.send({"seconds": wall, "cpu_seconds": cpu, **held, "parts": parts})


def serve(worker: Callable[[Turn, Work], None], pipe: Connection, work: Work) -> None:
    """The main function of a worker's process. What libraries print goes to standard error: standard output is for the result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the parent, which closes the line
    os.dup2(2, 1)
    try:
        worker(Turn(pipe), work)
    except UserError as err:
        pipe.send(err)
    except EOFError:
        pass  # the parent has gone


def _now() -> tuple[float, float]:
    """The clock and what all threads have taken, seconds, once the GPU has done what it was told."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = _now()
    return wall - began[0], cpu - began[1]
