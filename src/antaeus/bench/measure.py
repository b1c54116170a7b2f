"""The same work done by us and by a peer in turn, each in a process of its own.

* `step`: one whole learning step. `prompts` x `samples` completions of exactly `tokens` tokens to two-digit sums with four worked
  examples are sampled and voted on, advantages computed, and all weights updated, which are then ready to be sampled from again. In a run,
  prompts whose attempts agree cost our update nothing; here every completion is learned from, as the peer learns from all.
* `decode`: the sampling of such completions alone, beside `generate` of transformers.
* `update`: an update on given completions alone, beside the padded step of an ordinary training loop: all in our data type
  (`transformers`), or the loop that most would use (`trainer`).
* `adapters`: `prompts` adapters trained together for `samples` steps of one sequence of `tokens` tokens, beside PEFT's one by one.
* `edits`: `prompts` self-edits of `samples` documents of about `tokens` tokens, each learned by an adapter of its own that then answers
  questions (`edits.py`), beside PEFT's one by one: with documents padded as SEAL's authors pad them (`official`), and without (`peft`).
* `growth`: ours alone, as the work grows (`growth.py`).

Both sides read the same model folder and the same prompts, in the same data type (`trainer`: autocast to it). The guard's work is in
neither.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from antaeus.bench import adapters, edits, ours, peft_peer
from antaeus.bench.growth import SIZES, growth
from antaeus.bench.trainer_peer import trainer
from antaeus.bench.transformers_peer import generate, padded
from antaeus.bench.trl_peer import trl
from antaeus.bench.work import Turn, Work, prepared
from antaeus.bench.worker import Worker, spread
from antaeus.config import suggest
from antaeus.errors import UserError

Side = Callable[[Turn, Work], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """What can be compared: our side, the peers' by name (the usual one first), usual sizes, and the parts of the floor that count.
    Where `reckon` makes a result of its own of the workers, all peers are usual."""

    ours: Side
    peers: Mapping[str, Side]
    sizes: Mapping[str, int]
    parts: tuple[str, ...] = ()
    reckon: Callable[..., dict[str, Any]] | None = None


def _sizes(prompts: int, samples: int, tokens: int) -> dict[str, int]:
    return {"prompts": prompts, "samples": samples, "tokens": tokens}


KINDS = {
    "step": Kind(ours.step, {"trl": trl}, _sizes(8, 16, 32), ("sample", "update")),
    "decode": Kind(ours.decode, {"transformers": generate}, _sizes(8, 8, 64), ("sample",)),
    "update": Kind(ours.update, {"transformers": padded, "trainer": trainer}, _sizes(8, 16, 32), ("update",)),
    "adapters": Kind(adapters.together, {"peft": adapters.alone}, _sizes(16, 40, 55), ("adapters",)),
    "edits": Kind(
        edits.together, {"official": peft_peer.official, "peft": peft_peer.unpadded}, _sizes(16, 8, 55), reckon=edits.reckoned
    ),
}
PACKAGES = {"trainer": "transformers", "official": "peft"}  # of peers with another name


def compare(
    what: str = "step", *, model: str = "smollm2", peer: str | None = None, prompts: int | None = None, samples: int | None = None,
    tokens: int | None = None, repeats: int = 3, say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Seconds of ours and of `peer` ("none": ours alone; by default the kind's own, of "edits" all), measured in turn `repeats` times after
    a warm-up of each. Sizes left out are the kind's.

    Returns plain records:
    * `ours` and `peer` (None without one): all `seconds`, their median, min and max; `cpu_seconds`, the median of what all threads
      took, which other programs on the machine change less; `tokens_per_s`, and `peak_rss_mb`, the largest resident set once it was loaded;
    * `speedup`, the peer's seconds / ours pair by pair, and `ratio`, our median / the peer's (None without one);
    * `matmul` and `memory`, the machine's rates, and the `floor` they set: `seconds` of arithmetic, and their `share` of our median (1:
      nothing but products); where completions are sampled, `read_s` of reading weights and cache, and its `read_share` of our sampling.

    "growth" and "edits" (`edits.reckoned`) return other records, see there. Raises `UserError` for an unknown kind or peer, bad sizes, and
    a peer that is not installed.
    """
    known = (*KINDS, "growth")
    if what not in known:
        raise UserError(f"cannot measure {what!r}{suggest(what, known)}; there are {', '.join(known)}")
    given = {k: n for k, n in (("prompts", prompts), ("samples", samples), ("tokens", tokens)) if n is not None}
    if what == "growth":
        _require((), peer or "none")
        return {"bench": what, "model": model, **growth(prepared(model, {**SIZES, **given}, repeats), say)}
    kind = KINDS[what]
    peers = [_require(kind.peers, name) for name in ([*kind.peers] if peer is None and kind.reckon else [peer])]
    work = prepared(model, {**kind.sizes, **given}, repeats)
    with _workers(kind, [name for name in peers if name != "none"], work) as workers:
        for i in range(work.steps):
            lines = [f"{worker.name} {worker.step():.2f} s" for worker in workers]
            say(f"{f'{what} {i} of {repeats}' if i else 'warm-up'}: {', '.join(lines)}")
    return {"bench": what, "model": model, **(kind.reckon(work, *workers) if kind.reckon else _result(kind, work, *workers))}


def _require(peers: Iterable[str], peer: str | None) -> str:
    peer = peer or next(iter(peers))
    if peer not in (known := (*peers, "none")):
        raise UserError(f"unknown peer {peer!r}{suggest(peer, known)}; there are {', '.join(known)}")
    package = PACKAGES.get(peer, peer)
    if peer != "none" and importlib.util.find_spec(package) is None:
        raise UserError(f"{package} is not installed, with which ours is compared: `pip install {package}`, or --peer none")
    return peer


@contextmanager
def _workers(kind: Kind, peers: Sequence[str], work: Work) -> Iterator[list[Worker]]:
    """Ours and the peers', which are told the data type and device that ours chose."""
    with ExitStack() as stack:
        workers = [Worker("antaeus", kind.ours, work)]
        stack.callback(workers[0].close)
        about = workers[0].about
        for peer in peers:
            workers.append(Worker(peer, kind.peers[peer], replace(work, dtype=about["dtype"], device=about["device"])))
            stack.callback(workers[-1].close)
        yield workers


def _result(kind: Kind, work: Work, own: Worker, peer: Worker | None = None) -> dict[str, Any]:
    about = dict(own.about)
    matmul, memory, floor = (about.pop(name) for name in ("matmul", "memory", "floor"))
    least = sum(floor[f"{part}_s"] for part in kind.parts)
    mine, parts = _measured(work, own), _parts(own)
    reading = {"read_share": floor["read_s"] / parts.get("sample", mine["median"])} if "sample" in kind.parts else {}
    theirs = {"name": peer.name, **peer.about, **_measured(work, peer)} if peer else None
    pairs = [b / a for a, b in zip(mine["seconds"], theirs["seconds"], strict=True)] if theirs else []
    sizes = {"prompts": work.prompts, "samples": work.samples, "tokens": work.tokens, "repeats": work.steps - 1}
    return {
        **sizes, **about,
        "ours": {**mine, "parts": parts}, "peer": theirs,
        "speedup": spread(pairs) if pairs else None, "ratio": mine["median"] / theirs["median"] if theirs else None,
        "matmul": matmul, "memory": memory,
        "floor": {**floor, "seconds": least, "share": least / mine["median"], **reading},
    }  # fmt: skip


def _measured(work: Work, worker: Worker) -> dict[str, Any]:
    """All but the warm-up."""
    seconds, cpu = ([report[key] for report in worker.reports[1:]] for key in ("seconds", "cpu_seconds"))
    rate = work.prompts * work.samples * work.tokens / median(seconds)
    peak = worker.reports[-1]["peak_rss_mb"]
    return {"seconds": seconds, **spread(seconds), "cpu_seconds": median(cpu), "tokens_per_s": rate, "peak_rss_mb": peak}


def _parts(worker: Worker) -> dict[str, float]:
    return {name: median(report["parts"][name] for report in worker.reports[1:]) for name in worker.reports[0]["parts"]}
