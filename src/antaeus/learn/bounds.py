"""Bounds on the settings that a model may choose for its own training: what lies outside is a reason in words, never a crash.

Who meets a reason records a failure of that choice and trains nothing: the answers are then those of the untrained policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_HUGE = 1e300


@dataclass(frozen=True, slots=True)
class Settings:
    """What was chosen, as it was read: a value may be of any type, since a model wrote it. `loss`: "all" tokens, or the "output"'s."""

    learning_rate: Any
    epochs: Any
    loss: Any = "all"
    augmentations: Any = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be chosen, limits included. The defaults hold the published search spaces (SEAL, 2506.10943: rates of 1e-4 to 2e-3 for
    passages and 1e-4 for puzzles, 1 to 20 passes) with room below and above."""

    lowest_rate: float = 1e-6
    highest_rate: float = 1e-2
    most_epochs: int = 20
    losses: tuple[str, ...] = ("all", "output")
    augmentations: tuple[str, ...] = ("basic", "size", "chain", "repeat")

    def check(self, settings: Settings) -> str | None:
        """Why these settings may not be used; None where they may."""
        rate, epochs, loss = settings.learning_rate, settings.epochs, settings.loss
        if not _number(rate) or not self.lowest_rate <= rate <= self.highest_rate:
            return f"learning_rate {_said(rate)} is not a number from {self.lowest_rate:g} to {self.highest_rate:g}"
        if not _number(epochs) or epochs != int(epochs) or not 1 <= epochs <= self.most_epochs:
            return f"epochs {_said(epochs)} is not a whole number from 1 to {self.most_epochs}"
        if loss not in self.losses:
            return f"loss {_said(loss)} is not one of {', '.join(self.losses)}"
        named = settings.augmentations
        if not isinstance(named, list | tuple | set | frozenset):
            return f"augmentations {_said(named)} is not a list of names"
        unknown = [name for name in named if name not in self.augmentations]
        return f"augmentation {_said(unknown[0])} is not one of {', '.join(self.augmentations)}" if unknown else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE  # NaN is not below it either


def _said(value: Any) -> str:
    return "too large to write" if isinstance(value, int) and abs(value) >= _HUGE else repr(value)[:40]
