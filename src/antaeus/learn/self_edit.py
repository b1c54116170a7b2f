"""A self-edit for a puzzle, as SEAL has them (2506.10943): one JSON object that says which augmenters make the examples, which tokens
count, the learning rate and the passes. It may come from anywhere, and is read as something that a stranger wrote."""

from __future__ import annotations

import json
from typing import Any

from antaeus.learn.bounds import Bounds, Settings
from antaeus.moves import AUGMENTERS

SWITCHES = {f"use_{group}_augmentations": group for group in AUGMENTERS}
LOSSES = {"train_using_all_tokens": "all", "train_using_output_tokens": "output"}
RATES = ("1e-5", "3e-5", "1e-4", "3e-4", "1e-3", "3e-3", "1e-2", "3e-2", "1e-1")
EPOCHS = ("1", "2", "3", "5", "8", "12", "20", "50")
ORACLE = Settings(1e-4, 2, "output", tuple(AUGMENTERS))
"""The settings with which the authors found out which puzzles can be solved at all."""


def template(bounds: Bounds) -> tuple[str | tuple[str, ...], ...]:
    """The object's fixed parts, and the alternatives of its seven fields: what lies on the grids of rates and passes within the bounds, or
    the upper bound where nothing does."""
    rates = [r for r in RATES if bounds.lowest_rate <= float(r) <= bounds.highest_rate] or [f"{bounds.highest_rate:g}"]
    epochs = [e for e in EPOCHS if int(e) <= bounds.most_epochs]
    losses = [f'"{name}"' for name, loss in LOSSES.items() if loss in bounds.losses]
    switches = [
        (f'"{name}": ', ("true", "false") if group in bounds.augmentations else ("false",)) for name, group in SWITCHES.items()
    ]
    chosen = [('"strategy": ', losses), ('"learning_rate": ', rates), ('"num_train_epochs": ', epochs)]
    return ('{"data_generation": {', *_fields(switches), '}, "training": {', *_fields(chosen), "}}")


def written(settings: Settings) -> str:
    """The text of a self-edit with these settings."""
    switches = {name: group in settings.augmentations for name, group in SWITCHES.items()}
    strategy = next(name for name, loss in LOSSES.items() if loss == settings.loss)
    rest = {"learning_rate": settings.learning_rate, "num_train_epochs": settings.epochs}
    return json.dumps({"data_generation": switches, "training": {"strategy": strategy, **rest}})


def read(text: str, bounds: Bounds) -> Settings | str:
    """The settings that a text holds, from its first brace on, whatever follows the object; or in words why they may not be used."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except (ValueError, RecursionError):  # no brace, broken, too deep, or a number of thousands of digits
        return "no JSON object"
    parts = [found.get(key) for key in ("data_generation", "training")]
    if not all(isinstance(part, dict) for part in parts):
        return "not both of data_generation and training, each an object"
    switches, training = parts
    if why := _wrong(switches, SWITCHES, "augmentation") or _wrong(
        training, ("strategy", "learning_rate", "num_train_epochs"), "setting"
    ):
        return why
    if strays := [name for name, on in switches.items() if not isinstance(on, bool)]:
        return f"{strays[0]} is neither true nor false"
    groups = tuple(SWITCHES[name] for name in SWITCHES if switches[name])
    loss = LOSSES.get(training["strategy"]) if isinstance(training["strategy"], str) else None
    if loss is None:
        return f"strategy {repr(training['strategy'])[:40]} is not one of {', '.join(LOSSES)}"
    settings = Settings(training["learning_rate"], training["num_train_epochs"], loss, groups)
    return bounds.check(settings) or settings


def _wrong(found: dict[str, Any], known: Any, what: str) -> str:
    unknown, missing = [name for name in found if name not in known], [name for name in known if name not in found]
    return f"unknown {what} {unknown[0][:40]!r}" if unknown else f"{missing[0]} is missing" if missing else ""


def _fields(fields: list[Any]) -> list[Any]:
    """Names and alternatives in turn, with commas between them."""
    return [part for i, (name, values) in enumerate(fields) for part in (", " * (i > 0) + name, tuple(values))]
