"""What the stages of one round are given."""

from __future__ import annotations

from dataclasses import dataclass, field

from antaeus.engine.base import Engine
from antaeus.types import Practice, TaskSet, Vault


@dataclass(frozen=True)
class Round:
    """Round `number` (1, 2, ...) of a run with `seed`. `vault` holds the practice answers for recipes that learn from ground truth, and
    is empty for others. `done` is the share of learning that lies behind, in rounds or in tokens of the budget."""

    number: int
    seed: int
    engine: Engine
    tasks: TaskSet
    vault: Vault = field(default_factory=lambda: Vault(Practice, {}))
    done: float = 0.0

    @property
    def draw(self) -> str:
        """The seed of what is drawn in this round; a stage that draws twice adds a name to it."""
        return f"{self.seed}/{self.number}"
