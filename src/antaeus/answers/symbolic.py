"""What runs inside a worker: are two LaTeX formulas the same? math-verify, behind guards against its quirks:

* it compares with an absolute tolerance (1/2004! = 1/2006!, 0.333333 = 1/3): two numbers must also agree to 80 significant
  digits, two formulas at three points, two equations up to a factor. No tolerance a user could see is left;
* it is asymmetric: it must say yes both ways;
* its units rule drops a trailing letter ("2h" = "2"): switched off, units are `equivalence`'s affair;
* it reads i as a variable, except now and then: here a free i is the imaginary unit;
* it reads "12_3" as 12, "1 2" as 3, "3:4" as 3/4, R as r, words as products of letters: `equivalence` never sends such text.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import zlib
from functools import lru_cache
from typing import Any

MEMORY = 2 << 30  # bytes of address space a worker may use


def serve() -> None:
    """A worker's life, in lines of JSON: "ready", then `[verdict, numbers of a, numbers of b]` for each line `[a, b, seconds]`.

    Before a step that may hang it says which: 0 or 1 for a formula it reads for the first time, then 2 for comparing.
    """
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints must not look like a verdict
    _limit(0.0, memory=True)
    logging.disable(logging.CRITICAL)
    try:
        _same(r"\sqrt{8}+x", r"x+2\sqrt{2}")  # loads everything, so that the first question is not late
    except ImportError:
        print('"missing"', file=out)
        return
    print('"ready"', file=out)
    for line in sys.stdin:
        a, b, seconds = json.loads(line)
        _limit(seconds)
        new = [i for i, text in enumerate((a, b)) if text not in _forms]
        for i in new:
            print(i, file=out)
            _read((a, b)[i])
        if new:
            print(2, file=out)
        print(json.dumps([_same(a, b), _rough(a), _rough(b)]), file=out)


def _limit(seconds: float, memory: bool = False) -> None:
    """A worker whose parent was killed must end too: its processor time is limited for each question. Not on Windows."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    with contextlib.suppress(ValueError, OSError):  # a stricter limit is set already, or macOS
        if memory:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        elif seconds < 1e6:
            soft = int(used.ru_utime + used.ru_stime + seconds) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


_forms: dict[str, Any] = {}


def _read(text: str) -> Any:
    """The sympy object, its numeric values computed; None where math-verify cannot read all of the text as one formula."""
    if text not in _forms:
        if len(_forms) >= 1024:
            _forms.clear()
        try:
            _forms[text] = _parse(text)
        except (MemoryError, RecursionError):
            raise  # the worker dies of it: no verdict
        except Exception:  # sympy raises all sorts of things at what makes no sense, such as an interval from i to 2
            _forms[text] = None
    return _forms[text]


def _parse(text: str) -> Any:
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import Float, I, Rational

    rules = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")
    target = [LatexExtractionConfig(normalization_config=rules)]
    found = parse(f"${text}$", target, fallback_mode="no_fallback", parsing_timeout=None)  # type: ignore[arg-type]
    if not found or isinstance(found[0], str):
        return None
    exact = {s: I for s in found[0].free_symbols if s.name == "i"} | {f: Rational(str(f)) for f in found[0].atoms(Float)}
    formula = found[0].xreplace(exact) if exact else found[0]
    _differ(formula, formula)  # whatever hangs here hangs because of this text and no other
    return formula


def _same(a: str, b: str) -> bool:
    from math_verify import verify

    x, y = _read(a), _read(b)
    if x is None or y is None or _differ(x, y):
        return False
    return all(verify(p, q, timeout_seconds=None, allow_set_relation_comp=True) for p, q in ((x, y), (y, x)))


def _rough(text: str) -> list[tuple[float, float]] | None:
    """Real and imaginary part at each of the points of `_values`, for the parent to rule out pairs; None if it must ask."""
    from sympy import Expr

    if not isinstance(form := _read(text), Expr):
        return None
    try:
        numbers = [complex(value) for value in _values(form)]
    except (TypeError, ValueError, OverflowError):  # not numbers
        return None
    return [(z.real, z.imag) for z in numbers] if all(1e-12 < abs(z) < 1e300 for z in numbers) else None


def _differ(a: Any, b: Any) -> bool:
    """True where numbers show that the two are not the same; False means no more than that math-verify may decide."""
    try:
        return _numbers_differ(a, b)
    except (MemoryError, RecursionError):
        raise
    except Exception:  # a variable minus an interval
        return False


def _numbers_differ(a: Any, b: Any) -> bool:
    from sympy import Expr, FiniteSet, Interval, MatrixBase
    from sympy.core.relational import Relational
    from sympy.logic.boolalg import And

    if isinstance(a, MatrixBase) and isinstance(b, MatrixBase):
        return a.shape != b.shape or any(map(_differ, a.flat(), b.flat()))
    if isinstance(a, Interval) and isinstance(b, Interval):
        return _differ(a.start, b.start) or _differ(a.end, b.end)
    if isinstance(a, And) and isinstance(b, And):
        return len(a.args) != len(b.args) or any(map(_differ, *(getattr(x, "_unsorted_args", x.args) for x in (a, b))))
    if isinstance(a, FiniteSet) and isinstance(b, FiniteSet):
        return any(all(_differ(x, y) for y in q.args) for p, q in ((a, b), (b, a)) for x in p.args)
    if isinstance(a, Relational) and isinstance(b, Relational):
        return _apart_up_to_factor(_gap(a), _gap(b))
    if isinstance(a, Expr) and isinstance(b, Expr):
        return any(_apart(x, y, a - b) for x, y in zip(_values(a), _values(b), strict=False))  # a number has one value only
    return False


@lru_cache(maxsize=1024)
def _values(formula: Any) -> tuple[Any, ...]:
    """The formula to 100 digits at three points (a number: three times itself), each variable at a place fixed by its name."""
    from sympy import Integral, Limit, Product, Rational, Sum

    if formula.has(Sum, Product, Integral, Limit):
        formula = formula.doit()

    def point(k: int) -> dict[Any, Any]:
        return {s: Rational(zlib.crc32(f"{k}{s.name}".encode()) % 9973 + 2003, 7001) for s in formula.free_symbols}

    return tuple(formula.evalf(100, subs=point(k)) for k in range(3 if formula.free_symbols else 1))


def _apart(x: Any, y: Any, difference: Any) -> bool:
    from sympy import Float

    if x == y or not (x.is_number and y.is_number and x.is_finite and y.is_finite):
        return False
    if abs(x - y) <= Float("1e-80") * max(abs(x), abs(y)):
        exact = 0 if difference.free_symbols else difference.doit()
        return bool(getattr(exact, "is_Rational", False) and exact != 0)
    vague = any(number._prec < 60 for number in (x - y).atoms(Float) | x.atoms(Float) | y.atoms(Float))
    return not vague or difference.equals(0) is not True  # e.g. a zero that is written as a sum of roots


def _gap(relation: Any) -> Any:
    return relation.lhs - relation.rhs


def _apart_up_to_factor(a: Any, b: Any) -> bool:
    x, y = _values(a), _values(b)
    return any(_apart(x[k] * y[0], x[0] * y[k], a * y[0] - b * x[0]) for k in range(1, min(len(x), len(y))))
