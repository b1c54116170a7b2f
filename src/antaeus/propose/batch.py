"""Which practice tasks a round works on: a pure function of the round, so that a resumed run sees what it would have seen."""

from __future__ import annotations

import random
from collections.abc import Sequence

from antaeus.types import Practice


def batch(practice: Sequence[Practice], round: int, size: int, seed: int) -> list[Practice]:
    """`size` different tasks for round 1, 2, ...: each epoch is a fresh shuffle, and a remainder too small for a round is left out."""
    size = min(size, len(practice))
    per_epoch = len(practice) // size
    epoch, position = divmod(round - 1, per_epoch)
    order = list(practice)
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order[position * size : (position + 1) * size]
