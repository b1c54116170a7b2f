"""Grading of reasoning-gym answers (Apache-2.0, checked against version 0.1.25), and the sealing of what it takes.

Two things keep the generators' own scorers from being ground truth, and are mended here:

* partial credit (leg_counting gives a sentence around the right number 0.2): only a score of exactly 1.0 counts as right;
* some scorers run `eval` or sympy's `parse_expr` on the answer, which executes what a model wrote: such an answer reaches its
  scorer only if it is plain text or plain algebra. A scorer that is merely slow is not interrupted.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from antaeus.errors import UserError

CHECK = "reasoning-gym:"
_EVALUATED = ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion")  # by eval, and then never for full marks
_PARSED = ("countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration")
_FUNCTION = re.compile(r"a?(?:sin|cos|tan)h?|sec|csc|cot|exp|log|ln|sqrt|Abs|pi")
_ALGEBRA = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load, ast.Call),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.UAdd, ast.USub),
)
_SIZE = 10_000  # virtual; fixed because the tasks of one generator (acre) depend on it


def grade_gym(*, check: str, sealed: str, answer: str | None) -> bool | None:
    """Whether `answer` gets full marks from the generator named by `check` for the entry in `sealed`.

    None = the grader failed: the scorer raises for the right answer as well. One that raises only for this answer has been
    given something unreadable, which is wrong; otherwise a model could withdraw an attempt by writing nonsense.
    """
    name = check.removeprefix(CHECK)
    score = dataset(name, 0).score_answer
    if answer is None or not _harmless(name, answer):
        return False
    try:
        return float(score(answer, _unsealed(sealed))) == 1.0
    except Exception:  # scorers of a hundred authors
        return False if _works(score, sealed) else None


def gold_of(sealed: str) -> str | None:
    """The entry's own answer; None where its generator gives none."""
    return answer if isinstance(answer := _unsealed(sealed)["answer"], str) else None


def _works(score: Any, sealed: str) -> bool:
    try:
        entry = _unsealed(sealed)
        score(entry["answer"] if isinstance(entry["answer"], str) else "", entry)
    except Exception:
        return False
    return True


@cache
def dataset(name: str, seed: int) -> Any:
    """The generator `name`. Raises `UserError` for an unknown one and where reasoning-gym is not installed."""
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError:
        raise UserError("gym: tasks need the package reasoning-gym: pip install 'antaeus[gym]'") from None
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=3)
        near = f"did you mean {' or '.join(close)}?" if close else f"it has {len(DATASETS)}, such as leg_counting"
        raise UserError(f"reasoning-gym has no generator {name!r}; {near}")
    return reasoning_gym.create_dataset(name, seed=seed, size=_SIZE)


# -- sealing: JSON that keeps tuples, keys that are no strings, and fractions, on all of which scorers depend


def seal(entry: Mapping[str, Any]) -> str:
    """An entry (question, answer, metadata) as the sealed text that `grade_gym` takes."""
    return json.dumps(_tagged(entry), ensure_ascii=False)


def _unsealed(sealed: str) -> dict[str, Any]:
    return json.loads(sealed, object_hook=_untagged)


def _tagged(value: Any) -> Any:
    for plain in (str, bool, int, float):  # numpy's scalars derive from them
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and "~" not in value:
            return {str(key): _tagged(item) for key, item in value.items()}
        return {"~": "dict", "of": [[_tagged(key), _tagged(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, tuple):
        return {"~": "tuple", "of": [_tagged(item) for item in value]}
    if isinstance(value, Fraction):
        return {"~": "fraction", "of": str(value)}
    if value is None:
        return None
    raise UserError(f"reasoning-gym gave a {type(value).__name__}, which cannot be sealed; choose another generator")


def _untagged(value: dict[str, Any]) -> Any:
    make = {"dict": dict, "tuple": tuple, "fraction": Fraction}
    return make[value["~"]](value["of"]) if "~" in value else value


# -- what may reach a scorer that evaluates


def _harmless(name: str, answer: str) -> bool:
    if name in _EVALUATED:
        return re.fullmatch(r"[\w\s.-]*", answer) is not None  # no call, no operator that could grow
    return name not in _PARSED or _is_algebra(answer.strip())


def _is_algebra(text: str) -> bool:
    """Sums, products, small powers and known functions of numbers and one-letter variables, not longer than 400 characters."""
    if len(text) > 400 or not text.isascii():
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(isinstance(node, _ALGEBRA) and _is_small(node) for node in nodes)


def _is_small(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and abs(node.value) < 1e12
    if isinstance(node, ast.Name):
        return len(node.id) == 1 or _FUNCTION.fullmatch(node.id) is not None
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and _FUNCTION.fullmatch(node.func.id) is not None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _powers(node.left) <= 1 and _powers(node.right) == 0 and math.prod(_constants(node.right)) <= 64
    return True


def _powers(node: ast.AST) -> int:
    return sum(isinstance(inner, ast.Pow) for inner in ast.walk(node))


def _constants(node: ast.AST) -> Iterable[float]:
    return (max(1, abs(n.value)) for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, int | float))
