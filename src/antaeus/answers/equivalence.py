r"""When are two answers the same? The one relation behind votes and rewards.

Cheap and exact first: `canonical` text, then numbers as fractions, then the shape (units, names, lists); only what is left goes
to math-verify in worker processes (`workers`, `symbolic`). Choices made on purpose:

* no tolerance: 3.14 is neither 3.141 nor pi, and 0.333333 is not 1/3;
* a percent or degree sign, a dollar sign and a unit in \text{} or after a space are not part of the value: "50\%" is "50" (and
  not "0.5"), "5 cm" is "5"; but "5 cm" is not "5 m". Likewise "x=5" is "5" but not "y=5". Both rules are one-sided and therefore
  not transitive ("5 cm", "5", "5 m"): classes compare with the first member of a class;
* {1,2} and a bare list "1,2" have no order, (1,2) and [1,2] have; a bare list is the same as a tuple in the same order;
* "1,234" is a thousand, "1, 234" and "(1,234)" are two numbers; "1 1/2" and "1\frac12" are 3/2; "5 million" is 5000000;
* words are compared as text, whatever their case; so are number bases (12_3), times and ratios (3:30), "0.33...", and anything
  longer than 500 characters. Variables keep their case;
* an answer that hedges ("5 or 7") is the same as nothing but its own text.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence

from antaeus.answers import workers
from antaeus.answers.normal import QUANTITY, canonical, hedged, is_number

log = logging.getLogger(__name__)

_LONGEST_FORMULA = 500  # characters
_COMMAND = re.compile(r"\\(?:begin|end) ?\{\w+\}|\\(?:mathbb|overline|vec|hat|bar) ?\{\w+\}|\\[A-Za-z]+")
_OPAQUE = re.compile(  # what math-verify reads wrongly: a base, two numbers side by side, a ratio, dots, towers of powers, words
    r"[0-9]_|[0-9] [0-9]|:|\.[0-9]*\.|\^(?:\{[^{}]*\}|\w)\^|[A-Za-z]{4,}|^[A-Za-z]{2,}(?: [A-Za-z]+)*$|^[A-Z]$"
    r"|(?<![A-Za-z])(?:not|non?|is|are|the|for|if)(?![A-Za-z])"  # "not 0" is not a product that is 0
)
_NAMED = re.compile(
    r"(\\?[A-Za-z]+(?:_\w|_\{\w+\})?'*(?:\([A-Za-z,]+\))?|\([A-Za-z](?:,[A-Za-z])*\))(?:=|\\in(?![A-Za-z]) ?)(.+)"
)
_RELATION = re.compile(r"[=<>]|\\(?:leq?|geq?|neq?|in|approx|equiv)(?![A-Za-z])")


def judge(*, gold: str, answer: str | None, timeout_s: float = 5.0) -> bool | None:
    """Is `answer` the same as `gold`? None: the grader failed (time-out, crash): to be counted, never a wrong answer.

    Never raises; symmetric. None and blank text are the same as nothing, not even as each other. `timeout_s` (seconds) bounds
    each question to a worker; most answers need none, a list may need one for each pair of its members.
    """
    if not isinstance(gold, str) or not isinstance(answer, str) or not gold.strip() or not answer.strip():
        return False
    if len({_currency(gold), _currency(answer)} - {""}) > 1:
        return False
    try:
        return _same(canonical(gold), canonical(answer), timeout_s)
    except Exception:
        log.warning("the grader failed on %.200r and %.200r", gold, answer, exc_info=True)
        return None


def equivalent(*, gold: str, answer: str | None, timeout_s: float = 5.0) -> bool:
    """`judge`, with a failure of the grader taken for "no"."""
    return judge(gold=gold, answer=answer, timeout_s=timeout_s) is True


def classes(answers: Sequence[str | None], *, timeout_s: float = 5.0) -> list[int | None]:
    """The class of each answer: 0, 1, ... in order of first appearance; None for no answer, which is in no class.

    An answer joins the first class whose first member it is `equivalent` to. Numbers never wait for a worker among themselves.
    """
    of_key: dict[str, int] = {}
    members: list[str] = []  # the first of each class
    formulas: list[int] = []  # classes whose first member is not a plain number: all a number has to be compared with
    labels: list[int | None] = []
    for answer in answers:
        if not isinstance(answer, str) or not answer.strip():
            labels.append(None)
            continue
        key = canonical(answer)
        if key not in of_key:
            rivals = formulas if is_number(key) else range(len(members))
            same = (i for i in rivals if equivalent(gold=members[i], answer=answer, timeout_s=timeout_s))
            of_key[key] = next(same, len(members))
            if of_key[key] == len(members):
                members.append(answer)
                formulas += [] if is_number(key) else [of_key[key]]
        labels.append(of_key[key])
    return labels


def plurality(answers: Sequence[str | None]) -> tuple[list[int | None], int | None, int]:
    """The class of each answer, the most frequent class (None where there is no answer at all), and how many are in it. Of equally
    frequent classes the one seen first."""
    labels = classes(answers)
    count = Counter(label for label in labels if label is not None)
    winner, n = count.most_common(1)[0] if count else (None, 0)  # insertion order breaks ties
    return labels, winner, n


def _currency(text: str) -> str:
    r"""The sign of a currency; a dollar is one where it is written \$ or stands alone, a pair of them is LaTeX."""
    dollar = r"\$" in text or text.count("$") == 1
    return "$" if dollar else next((sign for sign in "£€¥" if sign in text), "")


def _same(a: str, b: str, timeout_s: float) -> bool | None:
    """The relation on canonical texts."""
    if a == b:
        return True
    if hedged(a) or hedged(b) or max(len(a), len(b)) > _LONGEST_FORMULA:
        return False
    x, y = QUANTITY.fullmatch(a), QUANTITY.fullmatch(b)
    if x and y:
        return x[1] == y[1] and (x[2] == y[2] or not (x[2] and y[2]))
    a, b = sorted((x[1] if x else a, y[1] if y else b))  # the same question whichever is the gold
    left, right = _members(a), _members(b)
    if left and right:
        return _same_lists(*left, *right, timeout_s)
    if (left and is_number(b)) or (right and is_number(a)):
        return False
    if values := _values(a, b):
        return _same(*values, timeout_s)
    if _opaque(a) or _opaque(b) or _only_case_differs(a, b):
        return False
    return workers.same(a, b, timeout_s)


def _values(a: str, b: str) -> tuple[str, str] | None:
    """Canonical texts of what is behind "x=", where both have it for the same x or only one has it and the other no relation."""
    x, y = _NAMED.fullmatch(a), _NAMED.fullmatch(b)
    if (x and y and x[1] == y[1]) or (x and not _RELATION.search(b)) or (y and not _RELATION.search(a)):
        return canonical(x[2] if x else a), canonical(y[2] if y else b)
    return None


def _members(text: str) -> tuple[str, list[str]] | None:
    """The brackets ("", "()", "[)" ...) and the members of a list of two or more; None for what is no list."""
    found = re.fullmatch(r"(\(|\[|\\\{)(.*)(\)|\]|\\\})", text)
    if found and (parts := _split(found[2])):
        return (found[1] + found[3], parts) if len(parts) > 1 else None
    if text.count(r"\pm") == 1 and "," not in text:
        return "", [text.replace(r"\pm", sign) for sign in "+-"]
    return ("", parts) if (parts := _split(text)) and len(parts) > 1 else None


def _split(text: str) -> list[str] | None:
    """At the commas outside all brackets; None where a bracket closes that was not opened."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return None
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _same_lists(brackets: str, left: list[str], other: str, right: list[str], timeout_s: float) -> bool | None:
    if len(left) != len(right) or (brackets != other and {brackets, other} not in ({"", "()"}, {"", r"\{\}"})):
        return False
    names = [len({m[1] for part in parts if (m := _NAMED.fullmatch(part))}) > 1 for parts in (left, right)]
    ordered = "()" in (brackets, other) or brackets not in ("", r"\{\}") or names[0] != names[1]
    rest, failed = list(right), False
    for part in left:
        for candidate in rest[:1] if ordered else list(rest):
            verdict = _same(canonical(part), canonical(candidate), timeout_s)
            if verdict:
                rest.remove(candidate)
                break
            failed |= verdict is None
        else:
            return None if failed else False
    return True


def _opaque(text: str) -> bool:
    return _OPAQUE.search(_COMMAND.sub("@", text)) is not None  # not a space: "2\\sqrt2" is not "2 2"


def _only_case_differs(a: str, b: str) -> bool:
    """math-verify takes R for r."""
    letters, others = (set(re.findall("[A-Za-z]", _COMMAND.sub("@", text))) for text in (a, b))
    return letters != others and {c.lower() for c in letters} == {c.lower() for c in others}
