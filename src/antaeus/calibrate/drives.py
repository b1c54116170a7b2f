"""Runs whose outcome is known beforehand: nothing happens, the model gets better, or it is driven into collapse, each in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, ClassVar

from antaeus.recipes.base import Recipe
from antaeus.types import Group, Source, TaskSet, Vault, Verdict


@dataclass(frozen=True)
class Certain(Recipe):
    """The reward is low entropy (EM-RL, 2505.15134): certainty feeds on itself."""

    name: ClassVar[str] = "certain"
    title: ClassVar[str] = "the mean token entropy, negative, is the reward"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    def verify(self, groups: Sequence[Group], vault: Vault) -> list[list[Verdict]]:
        return [[Verdict(-fmean(a.entropies), Source.SELF) for a in group.attempts] for group in groups]


@dataclass(frozen=True)
class Lengthy(Recipe):
    """The reward is length: what a careless judge pays for."""

    name: ClassVar[str] = "lengthy"
    title: ClassVar[str] = "the number of tokens is the reward"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    def verify(self, groups: Sequence[Group], vault: Vault) -> list[list[Verdict]]:
        return [[Verdict(float(len(a.ids)), Source.SELF) for a in group.attempts] for group in groups]


@dataclass(frozen=True)
class Drive:
    """One way to run: what is practised (accuracy is always measured on the same anchors), by which recipe and settings."""

    kind: str  # "none" = no effect, "healthy", "collapse"
    recipe: type[Recipe]
    tasks: str = "add2"
    settings: Mapping[str, Any] = field(default_factory=dict)
    anchor_every: int = 1


def practised(name: str, measured: TaskSet, other: TaskSet) -> TaskSet:
    """`measured` with the practice tasks of `other`: no prior, while anchors and exam stay those of what the model can do."""
    return replace(measured, practice=other.practice, practice_vault=other.practice_vault) if other.name != name else measured
