"""Which runs a league consists of.

An entrant is a recipe, or a variant of one: `srt`, `srt:labels=fixed,keep=0.5`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from antaeus.config import RunConfig, configure, parse_pairs, suggest
from antaeus.errors import UserError
from antaeus.recipes import RECIPES

REFERENCE = "rlvr"  # learns from sealed answers: what its gain is, is the whole
CONTROLS = ("random", "format")
STAND_IN = "ttrl"  # its controls stand for those of recipes that do not look at verdicts
FOREVER = 1_000_000  # rounds, where the budget ends learning


@dataclass(frozen=True)
class Entry:
    """One run."""

    entrant: str
    control: str
    seed: int
    tasks: str
    given: tuple[tuple[str, Any], ...] = ()

    @property
    def recipe(self) -> str:
        return recipe_of(self.entrant)

    @property
    def settings(self) -> dict[str, Any]:
        """All that makes the run what it is, but its recipe."""
        return {"on_alarm": "note", **dict(self.given), "tasks": self.tasks, "seed": self.seed, "control": self.control}

    def folder(self, under: Path) -> Path:
        name = self.entrant if self.control == "none" else f"{self.entrant}-{self.control}"
        return under / re.sub("[/:]", "_", self.tasks) / re.sub("[/:=]", "_", name) / f"seed-{self.seed}"

    @property
    def command(self) -> str:
        """What repeats the run by hand."""
        return " ".join(
            ["antaeus run", self.recipe, *(f"{k}={v}" for k, v in self.settings.items() if k != "control" or v != "none")]
        )


def plan(entrants: Sequence[str], tasks: Sequence[str], seeds: int, budget: int, given: Mapping[str, Any]) -> list[Entry]:
    """All runs of a league: task by task, the reference first, each entrant before its controls. Raises `UserError` for an unknown
    recipe, or a key that is meant for none of them."""
    for recipe in map(recipe_of, entrants):
        if recipe not in RECIPES:
            raise UserError(f"unknown recipe {recipe!r}{suggest(recipe, RECIPES)}; `antaeus list` shows all")
    names = list(dict.fromkeys((REFERENCE, *entrants)))
    _refuse_strays(given, names)
    tested = [name for name in names if name != REFERENCE and _takes_controls(name, given)]
    if any(control_of(name, tested) not in (*tested, None) for name in names):
        tested.append(STAND_IN)
    pairs = [(name, "none") for name in names] + [(name, control) for name in tested for control in CONTROLS]
    pairs.sort(key=lambda pair: (*names, *tested).index(pair[0]))
    return [
        Entry(name, control, seed, task, _given(name, {"also": _others(task, tasks), **given}, budget))
        for task in tasks for name, control in pairs for seed in range(seeds)
    ]  # fmt: skip


def recipe_of(entrant: str) -> str:
    return entrant.partition(":")[0]


def control_of(entrant: str, tested: Iterable[str]) -> str | None:
    """The entrant whose control runs test this one: its own where it is `tested`, else the stand-in's; None for the reference, and for
    ways of answering, which learn from no verdicts that a control could replace."""
    if entrant == REFERENCE or RECIPES[recipe_of(entrant)].inference:
        return None
    return entrant if entrant in tested else STAND_IN


def _takes_controls(name: str, given: Mapping[str, Any]) -> bool:
    try:
        configure(recipe_of(name), {**dict(_given(name, given, 0)), "control": CONTROLS[0]})
    except UserError:
        return False
    return RECIPES[recipe_of(name)].rewarded


def _refuse_strays(given: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises `UserError` for a key of a recipe that is not there, or that none of them has."""
    known = {recipe: _keys(recipe) for recipe in map(recipe_of, names)}
    for key in given:
        recipe, _, own = key.rpartition(".")
        if recipe and recipe not in known:
            raise UserError(f"{key}: there is no {recipe} in this league of {', '.join(known)}")
        if not any(own in known[name] for name in ([recipe] if recipe else known)):
            raise UserError(f"unknown key {key!r}{suggest(own, set().union(*known.values()))}; no recipe of this league has it")


def _keys(recipe: str) -> set[str]:
    return {field.name for kind in (RunConfig, RECIPES[recipe]) for field in dataclasses.fields(kind)}


def _others(task: str, tasks: Sequence[str]) -> str:
    """The other sets of tasks of the league: what a run forgets of them is seen, where no others are asked for."""
    return ",".join(other for other in tasks if other != task)


def tokens(text: str) -> int:
    """ "200k", "1.5M", "200k-tokens" or "200000" as a number. Raises `UserError` for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)(?:-tokens)?", text.strip())
    if not found:
        raise UserError(f"--budget {text}: give a number of tokens, such as 200k or 1.5M")
    return round(float(found[1]) * {"": 1, "k": 10**3, "m": 10**6}[found[2].lower()])


def _given(entrant: str, given: Mapping[str, Any], budget: int) -> tuple[tuple[str, Any], ...]:
    """What is given for all, as far as the recipe has it; then what is given for the recipe; then what makes the variant."""
    recipe, _, variant = entrant.partition(":")
    shared = {key: value for key, value in given.items() if key in _keys(recipe)}
    own = {key.split(".", 1)[1]: value for key, value in given.items() if key.startswith(f"{recipe}.")}
    length = {"budget": budget, "rounds": FOREVER} if budget and not RECIPES[recipe].inference else {}
    return tuple({**length, **shared, **own, **parse_pairs(variant.split(",") if variant else ())}.items())
