"""Class confusion (minimum class confusion, 1912.03699; SUTA, 2203.14222): how much tokens are mistaken for one another.

With P [T, V] the distributions at T tokens and W their weights 1 + e^-H, C = P^T W P says how much of class i's weight goes to class j;
its rows are normalised, and the loss is the mean over classes of what lies off the diagonal. As each row of P sums to 1, that is
1 - mean_i Q_i / S_i with S_i = sum_t w_t p_ti and Q_i = sum_t w_t p_ti^2, and V x V matrices are never needed.

Classes are the tokens that were drawn: of a vocabulary of 49,152, where SUTA has 32 characters, nearly all never occur and would drown
the few that do. S and Q are sums over a whole batch. They are gathered first, so that it may be differentiated in parts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from antaeus.engine.draw import statistics


class Table(NamedTuple):
    """The classes (token ids), and of each S and Q; [K] each."""

    ids: Tensor
    mass: Tensor
    square: Tensor


def blank(drawn: Tensor) -> Table:
    """Before anything is counted; the classes are the tokens among `drawn`."""
    ids = drawn.unique()
    return Table(ids, torch.zeros_like(ids, dtype=torch.float32), torch.zeros_like(ids, dtype=torch.float32))


def counted(table: Table, logits: Tensor) -> Table:
    """With the tokens of these logits [N, V]."""
    p, w = _chances(logits, table)
    return Table(table.ids, table.mass + (w * p).sum(0), table.square + (w * p**2).sum(0))


def share(logits: Tensor, table: Table) -> Tensor:
    """What these tokens, logits [N, V], contribute to the confusion of the batch that was counted: summed over its parts, value and
    gradient are those of the whole. The weights are constants, as in SUTA."""
    p, w = _chances(logits, table)
    each = w / (len(table.ids) * table.mass)
    slope = (each * (p * table.square / table.mass - p**2)).sum()
    return slope + (each * (p - p**2)).sum().detach() - slope.detach()


def _chances(logits: Tensor, table: Table) -> tuple[Tensor, Tensor]:
    """The probabilities of the classes [N, K], and the weights [N, 1]."""
    entropy = statistics(logits.detach())[2]
    return (logits[:, table.ids] - logits.logsumexp(-1, keepdim=True)).exp(), 1 + torch.exp(-entropy)[:, None]
