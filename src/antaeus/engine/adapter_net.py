"""A net whose rows belong to adapters: one pass of the frozen base for all of them, grouped low-rank products beside it.

Adapters at work in a batch have seats, 0 to k - 1; each row of the batch belongs to one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from antaeus.engine.adapter_plans import Example
from antaeus.engine.blocks import Blocks
from antaeus.engine.context import Context
from antaeus.engine.forward import Ids, Net, common_beginning, pad
from antaeus.engine.losses import logprobs_of
from antaeus.engine.update import chunk
from antaeus.errors import UserError

Pair = tuple[Tensor, Tensor]
"""A [k, r, in] and B [k, out, r] of one layer, a seat after the other."""


@dataclass
class Seated(Context):
    """A context that knows in whose seat each row is, [R]."""

    seat: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def follow(self, rows: Tensor) -> None:
        super().follow(rows)
        self.seat = self.seat[rows]

    def join(self, other: Context) -> None:
        assert isinstance(other, Seated)
        super().join(other)
        self.seat = torch.cat([self.seat, other.seat])


def product(blocks: Blocks, x: Tensor, pair: Pair, scale: float) -> Tensor:
    """scale x B A x of tokens `x` [N, in], each by its own seat's matrices: [N, out]."""
    a, b = map(blocks.of, pair)
    return blocks.back(torch.bmm(torch.bmm(blocks.lay(x), a.transpose(1, 2)) * scale, b.transpose(1, 2)))


class AdaptedNet(Net):
    """`Net` over the model of another one, with adapters on its layers. Prompts carry their seat in front of their ids."""

    def __init__(self, net: Net, seats: int) -> None:
        self.__dict__.update(net.__dict__)  # opened and checked already
        self.seats = seats
        self.blocks: Blocks | None = None  # of the pass under way

    def start(self, seats: Sequence[int]) -> Seated:
        """A context of rows that have read nothing, one for each of these seats."""
        empty = self.nothing(len(seats))
        return Seated(empty.mask, empty.position, empty.hidden, empty.packing, seat=torch.tensor(seats, device=self.device))

    def prefill(self, prompts: Sequence[Ids]) -> Seated:
        """As `Net.prefill`, the common beginning once for each seat: what an adapter has read is of no use to another."""
        seats, texts = [p[0] for p in prompts], [p[1:] for p in prompts]
        owners = sorted(set(seats))
        shared = common_beginning(texts) if self.packs and len(owners) < len(seats) else 0
        context = self.start(owners if shared else seats)
        if shared:
            self.extend(context, *pad([texts[0][:shared]] * len(owners), self.device))
            context.select(torch.tensor([owners.index(seat) for seat in seats], device=self.device))
        ids, real = pad([text[shared:] for text in texts], self.device, left=not self.packs)
        context.hidden = self.extend(context, ids, real)[real.sum(1).cumsum(0) - 1]
        return context

    def _read(self, context: Context, ids: Tensor, positions: Tensor, mask: Tensor, real: Tensor | None = None) -> Tensor:
        assert isinstance(context, Seated)
        seat = context.seat
        tokens = torch.full_like(seat, ids.shape[1]) if real is None else real.sum(1)
        self.blocks = Blocks(seat.repeat_interleave(tokens), self.seats)
        return super()._read(context, ids, positions, mask, real)

    def add(self, name: str, pair: Pair, scale: float, layer: nn.Module, args: tuple[Tensor], out: Tensor) -> Tensor:
        """The forward hook of a layer: what the adapters add to its output [..., out]."""
        x = args[0].reshape(-1, args[0].shape[-1])
        if self.blocks is None or len(x) != self.blocks.items:
            raise UserError(f"layer {name!r} does not see every token of a batch; leave it out of the adapters' targets")
        return out.add_(product(self.blocks, x, pair, scale).view_as(out))  # no linear layer needs its own output again


@contextmanager
def adapted(net: Net, layers: Mapping[str, nn.Module], pairs: Sequence[Pair], scale: float) -> Iterator[AdaptedNet]:
    """Inside, the layers add their pairs and nothing of the base asks for gradients; afterwards all is as it was."""
    view, asking = AdaptedNet(net, len(pairs[0][0])), [p for p in net.model.parameters() if p.requires_grad]
    both = zip(layers.items(), pairs, strict=True)
    hooks = [layer.register_forward_hook(partial(view.add, name, pair, scale)) for (name, layer), pair in both]  # type: ignore[arg-type]
    try:
        for p in asking:
            p.requires_grad_(False)
        yield view
    finally:
        for hook in hooks:
            hook.remove()
        for p in asking:
            p.requires_grad_(True)


class Row(NamedTuple):
    """An example in a batch: in whose seat, and what each of its tokens weighs."""

    seat: int
    example: Example
    weight: float


def backward(net: AdaptedNet, rows: Sequence[Row]) -> Tensor:
    """Backpropagate the rows' weighted loss; returns each seat's share, [k]. A row's last token is only predicted, never read.

    The head is differentiated chunk by chunk as soon as it is computed, so that no more than a chunk's logits ever exist.
    """
    ids, real = pad([row.example.ids for row in rows], net.device)
    hidden = net.extend(net.start([row.seat for row in rows]), ids[:, :-1], real[:, 1:])
    counts = pad([row.example.counts() for row in rows], net.device)[0][:, 1:].bool()
    weights, seats = (torch.tensor(c, device=net.device)[:, None] for c in ([r.weight for r in rows], [r.seat for r in rows]))
    states = hidden.index_select(0, counts[real[:, 1:]].nonzero().squeeze(1))
    size = chunk(net)
    each = [t.expand(counts.shape)[counts].split(size) for t in (ids[:, 1:], weights)]
    losses, slopes = [], []
    for state, target, weight in zip(states.split(size), *each, strict=True):
        leaf = state.detach().requires_grad_()
        loss = -weight * logprobs_of(net.logits(leaf).float(), target)
        loss.sum().backward()
        losses.append(loss.detach())
        slopes.append(leaf.grad)
    states.backward(torch.cat(slopes))
    return torch.zeros(net.seats, device=net.device).index_add_(0, seats.expand(counts.shape)[counts], torch.cat(losses))


def that_fit(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Rows in batches of at most `max_tokens` tokens if padded (attention is), alike lengths together."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.example.ids)):
        if batch and (len(batch) + 1) * len(row.example.ids) > max_tokens:
            yield batch
            batch = []
        batch.append(row)
    yield batch
