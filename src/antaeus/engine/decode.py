"""Rollouts: our own batched decoding loop. Prompts are read once for their whole group; finished rows leave the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from antaeus.engine.base import Sampling
from antaeus.engine.draw import draw
from antaeus.engine.forward import Net
from antaeus.engine.packed import packed
from antaeus.noise import uniforms
from antaeus.types import Attempt, Stop

ROOM = 64  # columns by which the cache grows: on average half of them are attended to in vain
LEAVE = 0.25  # share of finished rows at which the rest is moved together: a move costs about one step of attention


@dataclass
class Row:
    """One completion in the making."""

    task_id: str
    index: int
    prompt: tuple[int, ...]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    stop: Stop | None = None


class Stops:
    """Finds out when a completion ends. Only tokens that contain the last character of a stop string cost a look at the text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, eos: frozenset[int], strings: tuple[str, ...]) -> None:
        self.tokenizer, self.eos, self.strings = tokenizer, eos, strings
        # twice, since some tokenizers drop the space a text begins with
        pieces = tokenizer.batch_decode([[i, i] for i in range(len(tokenizer))]) if strings else []
        last = {s[-1] for s in strings} | {"\ufffd"}  # a piece of a character may complete one
        self.suspects = frozenset(i for i, piece in enumerate(pieces) if not last.isdisjoint(piece))
        self.tail = 4 * max(map(len, strings), default=0) + 4  # tokens that can hold the longest stop string

    def ended(self, ids: list[int]) -> Stop | None:
        if ids[-1] in self.eos:
            return "eos"
        if ids[-1] in self.suspects:
            text = self.tokenizer.decode(ids[-self.tail :], skip_special_tokens=True)
            if any(s in text for s in self.strings):
                return "stop"
        return None

    def text(self, ids: list[int]) -> str:
        """The text of a completion, cut before the first stop string."""
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        ends = [at for s in self.strings if (at := text.find(s)) >= 0]
        return text[: min(ends)] if ends else text


@torch.inference_mode()
def decode(
    net: Net, stops: Stops, prompts: Sequence[tuple[str, tuple[int, ...]]], how: Sampling, *, seed: str, max_rows: int
) -> list[list[Attempt]]:
    """`how.n` attempts at each (task id, prompt ids), in order, at most `max_rows` rows at a time (memory)."""
    rows = [Row(task, i, ids) for task, ids in prompts for i in range(how.n)]
    with packed(net.model, how.max_tokens):
        for start in range(0, len(rows), max_rows):
            _wave(net, stops, rows[start : start + max_rows], how, seed)
    attempts = [_attempt(row, stops) for row in rows]
    return [attempts[i : i + how.n] for i in range(0, len(attempts), how.n)]


def _wave(net: Net, stops: Stops, rows: list[Row], how: Sampling, seed: str) -> None:
    """Decode these rows to their ends, together."""
    distinct = list(dict.fromkeys(row.prompt for row in rows))
    at = {prompt: i for i, prompt in enumerate(distinct)}
    context = net.prefill(distinct)
    context.select(torch.tensor([at[row.prompt] for row in rows], device=net.device))
    noise = np.stack([uniforms(seed, row.task_id, row.index, how.max_tokens) for row in rows])
    u, live = torch.from_numpy(noise).to(net.device), list(rows)
    for step in range(how.max_tokens):
        if step % ROOM == 0:
            context.reserve(min(ROOM, how.max_tokens - step))
        ids = _append(live, draw(net.logits(context.hidden), u[:, step], how.temperature, how.top_k, how.top_p), stops)
        left = [i for i, row in enumerate(live) if row.stop is None]
        if not left or step + 1 == how.max_tokens:
            break
        if len(left) <= (1 - LEAVE) * len(live):
            keep = torch.tensor(left, device=net.device)
            context.select(keep)
            live, ids, u = [live[i] for i in left], ids[keep], u[keep]
        context.hidden = net.extend(context, ids[:, None], torch.ones_like(ids, dtype=torch.bool)[:, None])
    for row in live:
        row.stop = row.stop or "length"


def _append(live: list[Row], drawn: tuple[Tensor, Tensor, Tensor], stops: Stops) -> Tensor:
    """Give each unfinished row its token; a finished row that has not left yet is fed along and forgotten."""
    columns = [t.tolist() for t in drawn]
    for row, token, logprob, entropy in zip(live, *columns, strict=True):
        if row.stop is None:
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.entropies.append(entropy)
            row.stop = stops.ended(row.ids)
    return drawn[0]


def _attempt(row: Row, stops: Stops) -> Attempt:
    assert row.stop is not None
    return Attempt(
        task_id=row.task_id, index=row.index, prompt_ids=row.prompt, ids=tuple(row.ids), text=stops.text(row.ids), stop=row.stop,
        logprobs=tuple(row.logprobs), entropies=tuple(row.entropies),
    )  # fmt: skip
