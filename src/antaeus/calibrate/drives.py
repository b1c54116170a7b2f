"""Runs whose outcome is known beforehand: nothing happens, the model gets better, or is driven into collapse, each in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from antaeus.recipes.base import Recipe
from antaeus.recipes.rent import RENT
from antaeus.recipes.rlvr import RLVR
from antaeus.recipes.round import Round
from antaeus.recipes.ttrl import TTRL
from antaeus.types import Group, Source, TaskSet, Verdict


class Lengthy(Recipe):
    """The reward is length: what a careless judge pays for."""

    name: ClassVar[str] = "lengthy"
    title: ClassVar[str] = "the number of tokens is the reward"
    rung: ClassVar[int] = 4
    source: ClassVar[Source] = Source.SELF

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [[Verdict(float(len(attempt.ids)), self.source) for attempt in group.attempts] for group in groups]


@dataclass(frozen=True)
class Drive:
    """One way to run: by which recipe, on which practice tasks. Anchors and exam are always two-digit sums, which the model can do."""

    kind: Literal["none", "healthy", "collapse"]
    recipe: type[Recipe]
    settings: Mapping[str, Any] = field(default_factory=dict)
    practice: str = "add2"

    def tasks(self, measured: TaskSet, practised: TaskSet) -> TaskSet:
        return replace(measured, practice=practised.practice, practice_vault=practised.practice_vault)


def drives(model: str) -> dict[str, Drive]:
    """What is run on a model. Rates are such that a ruined run has lost five points after some five to fifteen rounds."""
    lab = model == "lab"
    steady = {"rounds": 30 if lab else 18, "schedule": "constant", "prompts": 16 if lab else 8}
    votes = {**steady, "agreement": 0.0}
    learns = {"rounds": 30, "schedule": "constant"} if lab else {"rounds": 20}
    slow, usual = ({**learns, "lr": 2e-5}, {**learns, "lr": 5e-5}) if lab else (learns, learns)
    rates = {"mul2": 1.5e-4, "fast": 6e-4, "random": 2e-4, "certain": 4e-5, "lengthy": 5e-5} if lab else {
        "mul2": 3e-5, "fast": 3e-5, "random": 4e-5, "certain": 4e-5, "lengthy": 2e-5}  # fmt: skip
    return {
        "no-op": Drive("none", TTRL, {"rounds": 2, "control": "no-op"}),
        "votes": Drive("healthy", TTRL, slow),
        "labels": Drive("healthy", RLVR, usual),
        "no prior": Drive("collapse", TTRL, {**votes, "lr": rates["mul2"]}, practice="mul2"),
        "high rate": Drive("collapse", TTRL, {**votes, "lr": rates["fast"]}),
        "random reward": Drive("collapse", TTRL, {**votes, "lr": rates["random"], "control": "random"}),
        "entropy reward": Drive("collapse", RENT, {**steady, "lr": rates["certain"]}),
        "length reward": Drive("collapse", Lengthy, {**steady, "lr": rates["lengthy"]}),
    }
