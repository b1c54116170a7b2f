"""From strings, TOML and keyword arguments to one checked configuration, and back to TOML.

Precedence: defaults, then the configuration file, then what is given by hand. Every error names the key and what it takes.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from antaeus.errors import UserError
from antaeus.guard.mitigation import MITIGATIONS
from antaeus.recipes import RECIPES
from antaeus.recipes.base import Recipe, knob
from antaeus.store.files import toml

T = TypeVar("T")


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run that is not the recipe's."""

    recipe: str = knob("ttrl", "the recipe")
    model: str = knob(
        "smollm2", "smollm2 (embedded), lab (half a million parameters), tiny (random, for tests), a local folder, or a hub id"
    )
    tasks: str = knob("add2", "built-in tasks, arc[:SIZE], gym:NAME, hub:NAME[:SPLIT], or a JSONL file")
    practice: str = knob("", "JSONL file of practice rows, instead of those of `tasks`")
    anchor: str = knob("", "JSONL file of anchor rows with answers")
    exam: str = knob("", "JSONL file of exam rows with answers")
    n_practice: int = knob(0, "practice tasks; 0 = 256 of what is generated, all of a file", low=0)
    n_anchor: int = knob(0, "anchor tasks; 0 = 64, all of a file given for them", low=0)
    n_exam: int = knob(0, "exam tasks; 0 = 200, all of a file given for them", low=0)
    extract: str = knob(
        "", "how to read an answer; empty = the task set's", choices=("", "auto", "boxed", "number", "marker", "line")
    )
    stop: str = knob("", "a text that ends an attempt; empty = the task set's")
    max_tokens: int = knob(0, "token limit of an attempt; 0 = the task set's", low=0)
    anchor_every: int = knob(5, "rounds between looks at the anchors", low=1)
    tries: int = knob(1, "attempts at each anchor and exam task: 1 is greedy, more are sampled", low=1)
    also: str = knob("", "other task sets, separated by commas, on which a promoted version may not fall")
    lineage: str = knob("", "folder of a lineage: its runs share one error budget, see docs/guard.md")
    proposals: int = knob(50, "how many runs the lineage may judge in all", low=1)
    exams: int = knob(1, "on how many exams, one after another: fresh exam tasks begin the next, with a share of its own", low=1)
    on_alarm: str = knob(
        "stop", "what follows an alarm; with note a merge that harms stays, too", choices=("note", "stop", "rollback")
    )
    mitigation: str = knob(
        "lr", "after rolling back: " + "; ".join(f"{k} = {v}" for k, v in MITIGATIONS.items()), choices=tuple(MITIGATIONS)
    )
    patience: int = knob(0, "end learning after so many looks at the anchors without a better one; 0 = never", low=0)
    budget: int = knob(0, "end learning once so many tokens were sampled and trained on; 0 = after `rounds`", low=0)
    curriculum: str = knob(
        "all", "practise all tasks, or the third that the base agrees on most, or answers right most often",
        choices=("all", "agreement", "pass_rate"),
    )  # fmt: skip
    labels: str = knob("own", "majorities of the learner itself, or fixed ones of the base", choices=("own", "fixed"))
    reference: str = knob(
        "base", "what a KL term is measured to: the base, a moving average of the policy, or the policy as it was some rounds ago",
        choices=("base", "average", "reset"),
    )  # fmt: skip
    reference_rounds: int = knob(10, "rounds that the average reaches back, or after which the reference is reset", low=1)
    lora: int = knob(0, "rank of a LoRA adapter to train; 0 = the model's own weights", low=0)
    part: str = knob(
        "all", "which of the model's own weights are trained: all, or normalisation layers", choices=("all", "norms")
    )
    device: str = knob("", "cpu, cuda or cuda:N; empty = the best there is")
    dtype: str = knob("", "bfloat16 or float32; empty = bfloat16 where it is fast")
    seed: int = knob(0, "seed of everything that varies", low=0, high=2**31 - 1)


def configure(recipe: str, given: Mapping[str, Any], file: Path | None = None) -> tuple[RunConfig, Recipe]:
    """The checked configuration of a run. `given` mixes keys of the run and of the recipe; values may be strings."""
    stored = read(file) if file else {}
    recipe = recipe or str(stored.get("recipe", ""))
    if not recipe:
        raise UserError("no recipe given: name one, such as ttrl (`antaeus list` shows all), or a --config that does")
    if recipe not in RECIPES:
        raise UserError(f"unknown recipe {recipe!r}{suggest(recipe, RECIPES)}; `antaeus list` shows all")
    kind = RECIPES[recipe]
    values = {**stored, **given, "recipe": recipe}
    if values.get("practice") and "tasks" not in values:  # own prompts, not own prompts behind the default's worked examples
        values["tasks"] = values["practice"]
    run_keys, recipe_keys = ({f.name for f in dataclasses.fields(c)} for c in (RunConfig, kind))
    for key in values:
        if key not in run_keys | recipe_keys:
            raise UserError(
                f"unknown key {key!r} for recipe {recipe}{suggest(key, run_keys | recipe_keys)}; `antaeus list {recipe}` shows all"
            )
    return _build(RunConfig, values), _build(kind, values)


def read(file: Path) -> dict[str, Any]:
    """A configuration file as one flat mapping: the keys of the run, and those of its [settings] table."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file}: no such configuration file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise UserError(f"{file}: cannot be read as TOML: {err}") from err
    settings = table.pop("settings", {})
    if nested := [k for k, v in table.items() if isinstance(v, dict)]:
        raise UserError(f"{file}: unknown table [{nested[0]}]; only [settings] may follow the run's keys")
    if not isinstance(settings, dict):
        raise UserError(f"{file}: settings must be a table")
    return {**table, **settings}


def write(run: RunConfig, recipe: Recipe) -> str:
    """The complete configuration as TOML; `configure` reads it back to the same."""
    return toml({"": dataclasses.asdict(run), "settings": dataclasses.asdict(recipe)})


def parse_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """`key=value` words of a command line."""
    out: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise UserError(f"{pair!r} is not of the form key=value")
        if key in out:
            raise UserError(f"{key} is given twice")
        out[key] = value
    return out


def suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _build(kind: type[T], values: Mapping[str, Any]) -> T:
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{k: _checked(fields[k], v) for k, v in values.items() if k in fields})


def _checked(field: dataclasses.Field[Any], value: Any) -> Any:
    value = _typed(field, value)
    low, high, choices = (field.metadata[k] for k in ("low", "high", "choices"))
    if choices and value not in choices:
        raise UserError(f"{field.name}={value!r}: must be one of {', '.join(choices)}{suggest(value, choices)}")
    if isinstance(value, int | float) and ((low is not None and value < low) or (high is not None and value > high)):
        bounds = f"at least {low}" if high is None else f"at most {high}" if low is None else f"between {low} and {high}"
        raise UserError(f"{field.name}={value}: must be {bounds}")
    return value


def _typed(field: dataclasses.Field[Any], value: Any) -> Any:
    kind = {"int": int, "float": float, "str": str}[str(field.type)]
    wrong = UserError(
        f"{field.name}={value!r}: must be {'a whole number' if kind is int else 'a number' if kind is float else 'text'}"
    )
    if isinstance(value, bool) or (kind is str and not isinstance(value, str)) or (kind is int and isinstance(value, float)):
        raise wrong
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if isinstance(number, float) and not math.isfinite(number):
        raise wrong
    return number
