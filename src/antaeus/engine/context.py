"""What a batch of rows has read: the key/value cache, shared where rows began alike, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from antaeus.engine.attention import Packing, Trunk, spread

pad = torch.nn.functional.pad


class Room(DynamicLayer):
    """A cache layer that takes packed keys and values, and that `reserve` gives room to grow in place; without room it grows by
    concatenation and is differentiable. What its rows have in common stands once, in `trunk`.

    With room, a model that packs is handed all of it, filled or not: one block of memory, which matrix products read without a
    copy of their own. The mask hides what is not filled.
    """

    room: tuple[Tensor, Tensor] | None = None
    trunk: tuple[Tensor, Tensor] | None = None
    filled = 0

    def __init__(self, packing: Packing) -> None:
        super().__init__()
        self.packing = packing

    def get_seq_length(self) -> int:
        return super().get_seq_length() if self.room is None else self.filled

    def reserve(self, extra: int) -> None:
        """Room for `extra` more columns, zero until they are filled."""
        assert self.keys is not None and self.values is not None
        self.filled = self.get_seq_length()
        wider = [pad(t[:, :, : self.filled], (0, 0, 0, extra)) for t in (self.keys, self.values)]
        self.room = (wider[0], wider[1])
        self._show()

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.packing.beginnings = self.trunk
        if self.packing.real is not None:
            key_states, value_states = spread(key_states, self.packing), spread(value_states, self.packing)
        if self.room is None:
            return super().update(key_states, value_states)
        start, self.filled = self.filled, self.filled + key_states.shape[2]
        self.room[0][:, :, start : self.filled], self.room[1][:, :, start : self.filled] = key_states, value_states
        return self._show()

    def _show(self) -> tuple[Tensor, Tensor]:
        assert self.room is not None
        width = None if self.packing.able else self.filled
        self.keys, self.values = self.room[0][:, :, :width], self.room[1][:, :, :width]
        return self.keys, self.values

    def pick(self, columns: Tensor) -> None:
        """Keep of each row these columns, [R, T], in this order; no room is left."""
        index = columns[:, None, :, None]
        if self.keys is not None and self.keys.shape[2] == 0:  # rows that have nothing of their own yet: a column to pick
            self.reserve(1)
        keys, values = (t.take_along_dim(index, 2) for t in self.room or (self.keys, self.values))  # type: ignore[union-attr]
        self.keys, self.values, self.room = keys, values, None

    def append(self, other: Room) -> None:
        """Take the rows of another layer with as many columns, behind one's own, and its beginnings."""
        assert self.keys is not None and self.values is not None and other.keys is not None and other.values is not None
        self.keys, self.values = torch.cat([self.keys, other.keys]), torch.cat([self.values, other.values])
        if self.trunk is not None and other.trunk is not None:
            self.trunk = (_stack(self.trunk[0], other.trunk[0]), _stack(self.trunk[1], other.trunk[1]))

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) these rows, in this order."""
        keys, values = self.room or (self.keys, self.values)
        assert keys is not None and values is not None
        self.keys, self.values = keys.index_select(0, rows), values.index_select(0, rows)
        if self.room is not None:
            self.room = (self.keys, self.values)
            self._show()

    def branch(self, rows: int) -> None:
        """Let what has been read be what `rows` new ones have in common, which have nothing of their own yet."""
        assert self.keys is not None and self.values is not None
        self.trunk = (self.keys, self.values)
        self.keys, self.values = (t.new_zeros(rows, t.shape[1], 0, t.shape[3]) for t in self.trunk)

    def prune(self, beginnings: Tensor) -> None:
        """Keep these beginnings only."""
        assert self.trunk is not None
        self.trunk = (self.trunk[0][beginnings], self.trunk[1][beginnings])


def _stack(a: Tensor, b: Tensor) -> Tensor:
    """[P, K, T, D] and [Q, K, U, D] -> [P + Q, K, max(T, U), D], zeros behind the shorter."""
    width = max(a.shape[2], b.shape[2])
    return torch.cat([pad(t, (0, 0, 0, width - t.shape[2])) for t in (a, b)])


@dataclass
class Context:
    """What a batch of rows has read: which cached columns of their own are real [R, T], next positions [R], last hidden states [R, D].

    `trunk` tells what rows began with in common, where that is kept once. `room` is how many columns stand reserved behind their own T.
    """

    mask: Tensor
    position: Tensor
    hidden: Tensor
    packing: Packing
    trunk: Trunk | None = None
    room: int = 0

    def __post_init__(self) -> None:
        self.cache = Cache(layer_class_to_replicate=partial(Room, self.packing))  # type: ignore[arg-type]

    def select(self, rows: Tensor) -> None:
        """Keep (or repeat) these rows, in this order."""
        for layer in self.cache.layers:
            layer.select(rows)  # type: ignore[union-attr]
        self.mask = self.mask[rows]
        if self.trunk is not None:
            self._prune(self.trunk.mask, self.trunk.owner[rows])
        self.follow(rows)

    def branch(self, rows: Tensor) -> None:
        """Let new rows go on from these, which from here on are read and kept once for all of them."""
        if not self.packing.able:
            self.select(rows)
            return
        assert self.trunk is None and not self.room
        for layer in self.cache.layers:
            layer.branch(len(rows))  # type: ignore[union-attr]
        self.trunk, self.mask = Trunk(self.mask, rows), self.mask.new_zeros(len(rows), 0)
        self.follow(rows)

    def follow(self, rows: Tensor) -> None:
        """Keep of what goes with each row that of these."""
        self.position, self.hidden = self.position[rows], self.hidden[rows]

    def join(self, other: Context) -> None:
        """Take the rows of `other` (used up by it) behind one's own. Only what is real is kept of either, left-aligned. Both have begun
        from trunks, or neither."""
        width = int(torch.cat([self.mask.sum(1), other.mask.sum(1)]).max())
        self._align(width)
        other._align(width)
        if self.trunk and other.trunk:
            self.trunk = self.trunk.join(other.trunk)
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.append(theirs)  # type: ignore[union-attr]
        self.mask, self.position = torch.cat([self.mask, other.mask]), torch.cat([self.position, other.position])
        self.hidden = torch.cat([self.hidden, other.hidden])

    def _prune(self, mask: Tensor, owner: Tensor) -> None:
        """Forget the beginnings that no row goes on from."""
        kept, owner = owner.unique(return_inverse=True)
        if len(kept) < len(mask):
            for layer in self.cache.layers:
                layer.prune(kept)  # type: ignore[union-attr]
        self.trunk = Trunk(mask[kept], owner)

    def _align(self, width: int) -> None:
        """Move every row's real columns to the left end of `width` columns."""
        columns = self.mask.byte().argsort(dim=1, descending=True, stable=True)[:, :width]
        columns = pad(columns, (0, width - columns.shape[1]))  # whatever stands there is hidden
        self.mask = torch.arange(width, device=self.mask.device) < self.mask.sum(1)[:, None]
        for layer in self.cache.layers:
            layer.pick(columns)  # type: ignore[union-attr]
        self.room = 0

    def reserve(self, extra: int) -> None:
        """Room for `extra` more columns in every layer: from here on the cache grows in place (inference only). Columns that rows
        have left behind go."""
        width = int(self.mask.sum(1).max()) if self.mask.shape[1] else 0
        if self.packing.able and width < self.mask.shape[1]:
            self._align(width)
        self.room = extra
        for layer in self.cache.layers:
            layer.reserve(extra)  # type: ignore[union-attr]
