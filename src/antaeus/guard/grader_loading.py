"""Find the grader in a Python file or module. Runs in the child: importing a file runs it."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from antaeus.errors import UserError
from antaeus.guard.grader_calls import Convention, conventions, shown

_USUAL = ("compute_score", "grade", "reward_func", "reward", "score")
EXPECTED = (
    "expected f(gold, answer), verl's compute_score(data_source, solution_str, ground_truth, extra_info=None) "
    "or TRL's f(completions, answer, **kwargs)"
)


def load(module: str, name: str, bound: dict[str, Any]) -> list[Convention]:
    """The ways to call the function `name` of a file or module ("": the one that is a grader). Raises `UserError`."""
    try:
        code = _from_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
    except BaseException as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{module} cannot be imported: {type(error).__name__}: {why}") from None
    functions = {k: v for k, v in vars(code).items() if inspect.isfunction(v) and v.__module__ == code.__name__}
    if name and not callable(functions.get(name, getattr(code, name, None))):
        raise UserError(f"{module} has no function {name!r}{_list(functions)}")
    if name:
        function = functools.partial(getattr(code, name), **bound) if bound else getattr(code, name)
        if ways := conventions(function):
            return ways
        raise UserError(f"{module}: {shown(function)} is no grader: {EXPECTED}")
    found = {k: ways for k, v in functions.items() if not k.startswith("_") and (ways := conventions(v))}
    usual = [k for k in _USUAL if k in found]
    if len(found) != 1 and not usual:
        what = "several functions may be the grader" if found else "no function is a grader"
        raise UserError(f"{module}: {what}{_list(found or functions)}; " + (f"choose with {module}:NAME" if found else EXPECTED))
    return found[usual[0]] if usual else next(iter(found.values()))


def _from_file(path: Path) -> Any:
    sys.path.insert(0, str(path.resolve().parent))
    name = f"antaeus_grader_{path.stem}"  # not over a module of the same name, such as math
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _list(functions: Iterable[str]) -> str:
    return f" ({', '.join(names)})" if (names := [*functions][:8]) else " (it defines none)"
