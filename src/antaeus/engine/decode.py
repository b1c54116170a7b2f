"""Rollouts: our own batched decoding loop. Prompts are read once for their whole group; finished rows leave the batch and
waiting ones come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from antaeus.engine.base import Sampling
from antaeus.engine.context import Context
from antaeus.engine.draw import draw
from antaeus.engine.forward import Net
from antaeus.engine.memory import exhausted
from antaeus.engine.packed import packed
from antaeus.engine.sharpen import sharpened
from antaeus.errors import UserError
from antaeus.noise import uniforms
from antaeus.types import Attempt, Stop

ROOM = 64  # columns by which the cache grows: on average half of them are attended to in vain
LEAVE = 0.25  # share of free places at which rows leave, or come in, together: a move costs about one step of attention, or three steps


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
        self.special = _special(tokenizer, strings) if strings else frozenset()  # stops that no text shows

    def ended(self, ids: list[int]) -> Stop | None:
        if ids[-1] in self.eos:
            return "eos"
        if ids[-1] in self.special:
            return "stop"
        if ids[-1] in self.suspects:
            text = self.tokenizer.decode(ids[-self.tail :], skip_special_tokens=True)
            if any(s in text for s in self.strings):
                return "stop"
        return None

    def text(self, ids: list[int]) -> str:
        """The text of a completion, cut before the first stop string (one that is a special token shows in no text)."""
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        ends = [at for s in self.strings if (at := text.find(s)) >= 0]
        return text[: min(ends)] if ends else text


def _special(tokenizer: PreTrainedTokenizerBase, strings: tuple[str, ...]) -> frozenset[int]:
    """The special tokens among these strings, which decoding leaves out of the text."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(i for i in added.union(tokenizer.all_special_ids) if tokenizer.convert_ids_to_tokens(i) in strings)


@torch.inference_mode()
def decode(
    net: Net, stops: Stops, prompts: Sequence[tuple[str, tuple[int, ...]]], how: Sampling, *, seed: str, max_rows: int
) -> list[list[Attempt]]:
    """`how.n` attempts at each (task id, prompt ids), in order, at most `max_rows` rows at a time (memory)."""
    rows = [Row(task, i, ids) for task, ids in prompts for i in range(how.n)]
    batch = Batch(net, how, seed, max_rows, deque(rows))
    with packed(net.model, how.max_tokens):
        while batch.waiting or batch.live:
            try:
                batch.admit()
                batch.read(_append(batch.live, batch.draw(), stops, how.max_tokens))
            except RuntimeError as err:
                if not exhausted(err):
                    raise
                batch.shrink()
    attempts = [_attempt(row, stops) for row in rows]
    return [attempts[i : i + how.n] for i in range(0, len(attempts), how.n)]


@dataclass
class Batch:
    """The rows being decoded and what they have read. Finished rows are fed along until enough of them can leave together."""

    net: Net
    how: Sampling
    seed: str
    max_rows: int
    waiting: deque[Row]
    live: list[Row] = field(default_factory=list)
    context: Context = field(init=False)
    noise: np.ndarray = field(init=False)  # the uniform numbers of all its steps, row by row

    def admit(self) -> None:
        """Fill up with waiting rows where a share of the batch is free. Where the model counts columns, new rows cannot stand beside
        old ones: there they wait until all are done."""
        free = self.max_rows - len(self.live)
        if self.waiting and (not self.live or (self.net.packs and free >= LEAVE * self.max_rows)):
            rows = list(islice(self.waiting, free))
            self._prefill(rows)
            for _ in rows:
                self.waiting.popleft()
        if not self.context.room:
            self.context.reserve(min(ROOM, self.how.max_tokens))

    def shrink(self) -> None:
        """Memory ran out: half as many rows from here on. Those under way begin anew, and draw what they drew before."""
        if self.max_rows == 1:
            raise UserError(
                "out of memory while sampling a single row: lower max_tokens, shorten the prompts or take a smaller model"
            )
        for row in reversed(self.live):
            if row.stop is None:
                row.ids, row.logprobs, row.entropies = [], [], []
                self.waiting.appendleft(row)
        self.max_rows = max(1, min(self.max_rows, len(self.waiting)) // 2)
        self.live, self.context = [], self.net.nothing(1)

    def _prefill(self, rows: list[Row]) -> None:
        distinct = list(dict.fromkeys(row.prompt for row in rows))
        at = {prompt: i for i, prompt in enumerate(distinct)}
        context = self.net.prefill(distinct)
        owner = torch.tensor([at[row.prompt] for row in rows], device=self.net.device)
        context.branch(owner) if self.how.n > 1 else context.select(owner)
        noise = np.stack([uniforms(self.seed, row.task_id, row.index, self.how.max_tokens) for row in rows])
        if self.live:
            context.join(self.context)
            noise = np.concatenate([noise, self.noise])
        self.context, self.noise, self.live = context, noise, rows + self.live

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """The next token of each row, its log-probability and the entropy, [R] each."""
        u = [self.noise[i, min(len(row.ids), self.how.max_tokens - 1)] for i, row in enumerate(self.live)]
        logits = self.net.logits(self.context.hidden)
        logits = sharpened(logits.float(), self.how.sharpen) if self.how.sharpen else logits
        return draw(logits, torch.tensor(u, device=self.net.device), self.how.temperature, self.how.top_k, self.how.top_p)

    def read(self, ids: Tensor) -> None:
        """Let finished rows leave, where they are enough, and feed the others the tokens just drawn, [R]."""
        left = [i for i, row in enumerate(self.live) if row.stop is None]
        if not left:
            self.live = []
            return
        if len(left) <= (1 - LEAVE) * len(self.live):
            keep = torch.tensor(left, device=self.net.device)
            self.context.select(keep)
            self.live, self.noise, ids = [self.live[i] for i in left], self.noise[left], ids[keep]
        self.context.hidden = self.net.extend(self.context, ids[:, None], torch.ones_like(ids, dtype=torch.bool)[:, None])


def _append(live: list[Row], drawn: tuple[Tensor, Tensor, Tensor], stops: Stops, max_tokens: int) -> Tensor:
    """Give each unfinished row its token; a finished row that has not left yet is fed along and forgotten."""
    columns = [t.tolist() for t in drawn]
    for row, token, logprob, entropy in zip(live, *columns, strict=True):
        if row.stop is None:
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.entropies.append(entropy)
            row.stop = stops.ended(row.ids) or ("length" if len(row.ids) == max_tokens else None)
    return drawn[0]


def _attempt(row: Row, stops: Stops) -> Attempt:
    assert row.stop is not None
    return Attempt(
        task_id=row.task_id, index=row.index, prompt_ids=row.prompt, ids=tuple(row.ids), text=stops.text(row.ids), stop=row.stop,
        logprobs=tuple(row.logprobs), entropies=tuple(row.entropies),
    )  # fmt: skip
