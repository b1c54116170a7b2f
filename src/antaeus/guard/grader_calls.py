"""How graders are called: the signatures people have, recognised by the names of their parameters, and what they return.

Known are a function of gold and answer, in either order and with a prompt or verl's `data_source` and `extra_info` beside them
(verl's `compute_score(data_source, solution_str, ground_truth, extra_info=None)`), and TRL's reward function
`f(completions, prompts=None, **columns) -> list[float]`. Where names do not tell which of two parameters is the gold, both
orders are offered, and the one under which golds pass is the right one.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

_GOLD = re.compile(
    r"(gold|golden|true|correct|expected|reference|ref|target|truth|ground_?truth|gt|label|y_true)s?(_(answer|solution|label))?|answer_key"
)
_ANSWER = re.compile(
    r"((model|student|predicted|generated|given)_)?(prediction|pred|response|completion|output|candidate|guess|hypothesis|text"
    r"|generation)s?|solution_str|y_pred|predicted|generated|given|(model|student|predicted|generated|given)_(answer|solution)"
)
_EITHER = {"answer", "solution"}  # one or the other, as its partner tells
_BESIDE = {"prompt", "question", "problem", "query", "prompts", "data_source", "extra_info", "completion_ids", "trainer_state"}
_COLUMNS = ("answer", "solution", "ground_truth")  # what data sets of TRL's users call the gold


@dataclass(frozen=True, slots=True)
class Convention:
    """One way to call a grader: `call(gold, answer, prompt)` returns whatever the grader does; `batch`: a list of one score."""

    name: str
    call: Callable[[str, Any, str], Any]
    batch: bool = False


def conventions(function: Callable[..., Any]) -> list[Convention]:
    """The ways in which `function` may be meant to be called, the likeliest first; none where it is no grader."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if any(p.name == "completions" for p in named):
        return _trl(function, named, any(p.kind is p.VAR_KEYWORD for p in parameters))
    pair = [p for p in named if p.name.lower() not in _BESIDE and (p.default is p.empty or _is_known(p.name))]
    if len(pair) != 2:
        return []
    beside = [p for p in named if p not in pair and p.name.lower() in _BESIDE and p.default is p.empty]
    verl = "verl's " if any(p.name == "data_source" for p in named) else ""
    return [
        Convention(
            f"{verl}{shown(function)}: {gold.name} is the gold, {answer.name} the answer",
            partial(_call, function, gold, answer, beside),
        )
        for gold, answer in _orders(*pair)
    ]


def shown(function: Any) -> str:
    """Name and parameters in one line."""
    inner = function.func if isinstance(function, partial) else function
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    names = [stars.get(p.kind, "") + p.name for p in inspect.signature(function).parameters.values()]
    return f"{getattr(inner, '__name__', type(inner).__name__)}({', '.join(names)})"


def score_of(value: Any, batch: bool = False) -> tuple[float | None, str]:
    """The score in what a grader returned, or None and why there is none. A dict's is its "score" (verl), a tuple's the first."""
    if inspect.isawaitable(value):
        value = asyncio.run(_awaited(value))
    if batch:
        if not hasattr(value, "__len__") or isinstance(value, str | Mapping) or len(value) != 1:
            return None, f"returned {_kind(value)} instead of a list of one score"
        value = value[0]
    elif isinstance(value, tuple | list) and value:
        value = value[0]
    if isinstance(value, Mapping):
        if "score" not in value:
            return None, "returned a dict without 'score'"
        value = value["score"]
    if hasattr(value, "item"):  # an array or tensor of one element
        value = value.item()  # type: ignore[union-attr]
    if not isinstance(value, bool | int | float):
        return None, f"returned {_kind(value)}"
    return (float(value), "") if math.isfinite(value) else (None, f"returned {value}")


def _orders(first: inspect.Parameter, second: inspect.Parameter) -> list[tuple[inspect.Parameter, inspect.Parameter]]:
    """(gold, answer), in one order if the names tell."""
    gold, answer = ([bool(names.fullmatch(p.name.lower())) for p in (first, second)] for names in (_GOLD, _ANSWER))
    forth, back = gold[0] or answer[1], gold[1] or answer[0]
    if forth == back:
        return [(first, second), (second, first)]
    return [(first, second)] if forth else [(second, first)]


def _call(function: Any, gold: inspect.Parameter, answer: inspect.Parameter, beside: Any, g: str, a: Any, prompt: str) -> Any:
    value = {gold.name: g, answer.name: a} | {
        p.name: {"data_source": "antaeus", "extra_info": None}.get(p.name, prompt) for p in beside
    }
    order = [p for p in inspect.signature(function).parameters.values() if p.name in value]
    positional = [value.pop(p.name) for p in order if p.kind is p.POSITIONAL_ONLY]
    return function(*positional, **value)


def _trl(function: Any, named: list[inspect.Parameter], open_ended: bool) -> list[Convention]:
    beside = {p.name for p in named if p.name in _BESIDE}
    columns = {p.name for p in named if p.name not in beside | {"completions"}}
    columns = {p.name for p in named if p.name in columns and (p.default is p.empty or _is_known(p.name))}
    columns |= set(_COLUMNS) if open_ended else set()
    beside |= {"prompts"} if open_ended else set()

    def call(messages: bool, gold: str, answer: Any, prompt: str) -> Any:
        said = [{"role": "assistant", "content": answer}] if messages else answer
        given: dict[str, Any] = {name: [gold] for name in columns} | {name: [prompt] for name in beside & {"prompts", "prompt"}}
        given |= {name: [[]] if name == "completion_ids" else None for name in beside - set(given)}
        return function(completions=[said], **given)

    forms = (("text", False), ("messages", True))
    name = f"TRL's {shown(function)}, completions as"
    return [Convention(f"{name} {form}", partial(call, messages), batch=True) for form, messages in forms] if columns else []


def _is_known(name: str) -> bool:
    return any(names.fullmatch(name.lower()) for names in (_GOLD, _ANSWER)) or name.lower() in _EITHER


async def _awaited(value: Any) -> Any:
    return await value


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
