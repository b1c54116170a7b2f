"""The same work done by us and by a peer in turn, each in a process of its own.

* `step`: one whole learning step. `prompts` x `samples` completions of exactly `tokens` tokens to two-digit sums with four worked
  examples are sampled and voted on, advantages computed, and all weights updated, which are then ready to be sampled from again. In a run,
  prompts whose attempts agree cost our update nothing; here every completion is learned from, as the peer learns from all.
* `decode`: the sampling of such completions alone, beside `generate` of transformers.
* `update`: an update on given completions alone, beside the padded step of an ordinary training loop.
* `adapters`: `prompts` adapters trained together for `samples` steps of one sequence of `tokens` tokens, beside PEFT's one by one.

Both sides read the same model folder in the same data type and the same prompts. The guard's work is in neither.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from statistics import median
from typing import Any

from antaeus.bench import adapters, ours
from antaeus.bench.transformers_peer import generate, padded
from antaeus.bench.trl_peer import trl
from antaeus.bench.work import Turn, Work, serve
from antaeus.config import configure, suggest
from antaeus.engine import models
from antaeus.errors import UserError
from antaeus.propose.builtin import require_sizes

Side = Callable[[Turn, Work], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be measured: our side, the peer's name and side, usual sizes, and the parts of the floor that count."""

    ours: Side
    name: str
    peer: Side
    sizes: Mapping[str, int]
    parts: tuple[str, ...]


def _sizes(prompts: int, samples: int, tokens: int) -> dict[str, int]:
    return {"prompts": prompts, "samples": samples, "tokens": tokens}


KINDS = {
    "step": Kind(ours.step, "trl", trl, _sizes(8, 16, 32), ("sample", "update")),
    "decode": Kind(ours.decode, "transformers", generate, _sizes(8, 8, 64), ("sample",)),
    "update": Kind(ours.update, "transformers", padded, _sizes(8, 16, 32), ("update",)),
    "adapters": Kind(adapters.together, "peft", adapters.alone, _sizes(16, 40, 55), ("adapters",)),
}


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


def compare(
    what: str = "step", *, model: str = "smollm2", peer: str | None = None, prompts: int | None = None, samples: int | None = None,
    tokens: int | None = None, repeats: int = 3, say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Seconds of ours and of `peer` ("none": ours alone; by default the kind's own), measured in turn `repeats` times after a warm-up
    of each. Sizes left out are the kind's.

    Returns plain records:
    * `ours` and `peer` (None without one): all `seconds`, their median, min and max; `cpu_seconds`, the median of what all threads
      took, which other programs on the machine change less; `tokens_per_s`, and `peak_rss_mb`, the largest resident set;
    * `speedup`, the peer's seconds / ours pair by pair, and `ratio`, our median / the peer's (None without one);
    * `matmul`, the machine's rates, and the `floor` they set: `seconds`, and their `share` of our median (1: nothing but products).

    Raises `UserError` for an unknown kind or peer, bad sizes, and a peer that is not installed.
    """
    if what not in KINDS:
        raise UserError(f"cannot measure {what!r}{suggest(what, KINDS)}; there are {', '.join(KINDS)}")
    kind = KINDS[what]
    peer = _require(kind, peer)
    given = {k: n for k, n in (("prompts", prompts), ("samples", samples), ("tokens", tokens)) if n is not None}
    work = _work(model, {**kind.sizes, **given}, repeats)
    with _workers(kind, peer, work) as workers:
        for i in range(work.steps):
            lines = [f"{worker.name} {worker.step():.2f} s" for worker in workers]
            say(f"{f'{what} {i} of {repeats}' if i else 'warm-up'}: {', '.join(lines)}")
    return {"bench": what, "model": model, **_result(kind, work, *workers)}


def _require(kind: Kind, peer: str | None) -> str:
    peer = peer or kind.name
    if peer not in (known := (kind.name, "none")):
        raise UserError(f"unknown peer {peer!r}{suggest(peer, known)}; there are {', '.join(known)}")
    if peer != "none" and importlib.util.find_spec(peer) is None:
        raise UserError(f"{peer} is not installed, with which ours is compared: `pip install {peer}`, or --peer none")
    return peer


def _work(model: str, sizes: Mapping[str, int], repeats: int) -> Work:
    """Checked, and with the model's folder, so that both sides read the same."""
    require_sizes(tokens=sizes["tokens"], repeats=repeats)
    configure("ttrl", {k: sizes[k] for k in ("prompts", "samples")})
    work = Work(model, sizes["prompts"], sizes["samples"], sizes["tokens"], steps=repeats + 1)
    if work.prompts > (n := len(work.tasks().practice)):
        raise UserError(f"prompts={work.prompts}: there are only {n} different sums")
    return replace(work, model=str(models.fetch(model)))


@contextmanager
def _workers(kind: Kind, peer: str, work: Work) -> Iterator[list[Worker]]:
    """Ours and the peer's, which is told the data type and device that ours chose."""
    with ExitStack() as stack:
        workers = [Worker("antaeus", kind.ours, work)]
        stack.callback(workers[0].close)
        if peer != "none":
            about = workers[0].about
            workers.append(Worker(peer, kind.peer, replace(work, dtype=about["dtype"], device=about["device"])))
            stack.callback(workers[1].close)
        yield workers


def _result(kind: Kind, work: Work, own: Worker, peer: Worker | None = None) -> dict[str, Any]:
    about = dict(own.about)
    matmul, floor = about.pop("matmul"), about.pop("floor")
    least = sum(floor[f"{part}_s"] for part in kind.parts)
    mine = _measured(work, own)
    theirs = {"name": peer.name, **peer.about, **_measured(work, peer)} if peer else None
    pairs = [b / a for a, b in zip(mine["seconds"], theirs["seconds"], strict=True)] if theirs else []
    sizes = {"prompts": work.prompts, "samples": work.samples, "tokens": work.tokens, "repeats": work.steps - 1}
    return {
        **sizes, **about,
        "ours": {**mine, "parts": _parts(own)}, "peer": theirs,
        "speedup": _spread(pairs) if pairs else None, "ratio": mine["median"] / theirs["median"] if theirs else None,
        "matmul": matmul, "floor": {**floor, "seconds": least, "share": least / mine["median"]},
    }  # fmt: skip


def _measured(work: Work, worker: Worker) -> dict[str, Any]:
    """All but the warm-up."""
    seconds, cpu = ([report[key] for report in worker.reports[1:]] for key in ("seconds", "cpu_seconds"))
    rate = work.prompts * work.samples * work.tokens / median(seconds)
    peak = worker.reports[-1]["peak_rss_mb"]
    return {"seconds": seconds, **_spread(seconds), "cpu_seconds": median(cpu), "tokens_per_s": rate, "peak_rss_mb": peak}


def _parts(worker: Worker) -> dict[str, float]:
    return {name: median(report["parts"][name] for report in worker.reports[1:]) for name in worker.reports[0]["parts"]}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def describe(result: Mapping[str, Any]) -> str:
    """A result in a few lines of text."""
    ours, peer, floor = result["ours"], result["peer"], result["floor"]
    lines = [
        ("{prompts} {what[0]} x {samples} {what[1]} x {tokens} tokens, {dtype} on {device}, {threads} threads").format(
            what=("adapters", "steps") if result["bench"] == "adapters" else ("prompts", "samples"), **result
        ),
        _line("antaeus", ours) + "  " + ", ".join(f"{name} {s:.2f}" for name, s in ours["parts"].items()),
    ]
    if peer:
        lines.append(_line("{name} {version}".format(**peer), peer))
        lines.append("antaeus is {median:.1f} times as fast ({min:.1f} to {max:.1f})".format(**result["speedup"]))
    best = max(rate["gflops"] for rate in result["matmul"] if rate["dtype"] == result["dtype"])
    lines.append(
        "arithmetic alone: {seconds:.2f} s, {share:.0%} of ours".format(**floor) + f"; products run at up to {best:.0f} GFLOP/s"
    )
    return "\n".join(lines)


def _line(name: str, side: Mapping[str, Any]) -> str:
    numbers = "{median:8.2f} s ({min:.2f} to {max:.2f}; {cpu_seconds:.2f} CPU) {tokens_per_s:8.1f} tokens/s {peak_rss_mb:7d} MB"
    return f"{name:<12}" + numbers.format(**side)
