"""Which runs a league consists of."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antaeus.errors import UserError
from antaeus.recipes import RECIPES

REFERENCE = "rlvr"  # learns from sealed answers: what its gain is, is the whole
CONTROLS = ("random", "format")
STAND_IN = "ttrl"  # its controls stand for those of recipes that do not look at verdicts
FOREVER = 1_000_000  # rounds, where the budget ends learning


@dataclass(frozen=True)
class Entry:
    """One run."""

    recipe: str
    control: str
    seed: int
    tasks: str
    given: tuple[tuple[str, Any], ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """All that makes the run what it is, but its recipe."""
        return {"on_alarm": "note", **dict(self.given), "tasks": self.tasks, "seed": self.seed, "control": self.control}

    def folder(self, under: Path) -> Path:
        name = self.recipe if self.control == "none" else f"{self.recipe}-{self.control}"
        return under / self.tasks.replace("/", "_").replace(":", "_") / name / f"seed-{self.seed}"

    @property
    def command(self) -> str:
        """What repeats the run by hand."""
        return " ".join(
            ["antaeus run", self.recipe, *(f"{k}={v}" for k, v in self.settings.items() if k != "control" or v != "none")]
        )


def plan(recipes: Sequence[str], tasks: Sequence[str], seeds: int, budget: int, given: Mapping[str, Any]) -> list[Entry]:
    """All runs of a league: task by task, the reference first, each recipe before its controls. Raises `UserError` for an unknown
    recipe, or a key that is meant for none of them."""
    for name in recipes:
        if name not in RECIPES:
            near = difflib.get_close_matches(name, RECIPES, 1)
            raise UserError(f"unknown recipe {name!r}{f' (did you mean {near[0]}?)' if near else ''}; `antaeus list` shows all")
    names = list(dict.fromkeys((REFERENCE, *recipes)))
    if strays := [key for key in given if "." in key and key.split(".")[0] not in names]:
        raise UserError(f"{strays[0]}: there is no {strays[0].split('.')[0]} in this league of {', '.join(names)}")
    tested = [name for name in recipes if RECIPES[name].rewarded and name != REFERENCE]
    if len(tested) < len(set(recipes) - {REFERENCE}) and STAND_IN not in tested:
        tested.append(STAND_IN)
    pairs = [(name, "none") for name in names] + [(name, control) for name in tested for control in CONTROLS]
    pairs.sort(key=lambda pair: (*names, *tested).index(pair[0]))
    return [
        Entry(name, control, seed, task, _given(name, {"also": _others(task, tasks), **given}, budget))
        for task in tasks for name, control in pairs for seed in range(seeds)
    ]  # fmt: skip


def _others(task: str, tasks: Sequence[str]) -> str:
    """The other sets of tasks of the league: what a run forgets of them is seen, where no others are asked for."""
    return ",".join(other for other in tasks if other != task)


def tokens(text: str) -> int:
    """ "200k", "1.5M", "200k-tokens" or "200000" as a number. Raises `UserError` for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)(?:-tokens)?", text.strip())
    if not found:
        raise UserError(f"--budget {text}: give a number of tokens, such as 200k or 1.5M")
    return round(float(found[1]) * {"": 1, "k": 10**3, "m": 10**6}[found[2].lower()])


def control_of(recipe: str) -> str:
    """The recipe whose control runs test this one."""
    return recipe if RECIPES[recipe].rewarded and recipe != REFERENCE else STAND_IN


def _given(name: str, given: Mapping[str, Any], budget: int) -> tuple[tuple[str, Any], ...]:
    shared = {key: value for key, value in given.items() if "." not in key}
    own = {key.split(".", 1)[1]: value for key, value in given.items() if key.startswith(f"{name}.")}
    length = {"budget": budget, "rounds": FOREVER} if budget and not RECIPES[name].inference else {}
    return tuple({**length, **shared, **own}.items())
