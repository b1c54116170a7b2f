"""One canonical text for the many ways to write an answer. No model, no sympy: microseconds."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

_LONGEST = 10_000  # characters; beyond, an answer is its own text and nothing else
_DIGITS = 4000  # Python refuses to convert integers of more than 4300 digits

_SHORT_INTEGER = re.compile(r"-?[1-9][0-9]{0,17}|0")
_DECIMAL = r"(?:[1-9][0-9]{0,2}(?:(?:,[0-9]{3})++|(?: [0-9]{3})++)(?![0-9])|[0-9]++)(?:\.[0-9]*+)?|\.[0-9]++"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?) ?(?:"
    rf"(?:(?P<whole>[0-9]++)(?: (?=[0-9])| ?(?=\\frac)))?"
    rf"(?:\\frac ?\{{ ?(?P<top>-?(?:{_DECIMAL})) ?\}} ?\{{ ?(?P<bottom>{_DECIMAL}) ?\}}"
    rf"|(?P<over>{_DECIMAL}) ?/ ?(?P<under>{_DECIMAL}))"
    rf"|(?P<decimal>{_DECIMAL})(?:[eE](?P<power>[-+]?[0-9]{{1,3}})(?![0-9]))?)"
)
_TEXT = r"\\(?:text|textrm|textbf|textit|textnormal|mathrm|mathbf|mathit|mbox|operatorname|emph) ?\{"
_UNIT = re.compile(
    r" ?(?:\\?%|percent|per cent|\^ ?\{? ?\\circ ?\}?|\\degrees?(?![A-Za-z])|degrees?)"
    rf"| ?{_TEXT}(?P<tex>[^{{}}0-9\\]*)\}}(?: ?\^ ?\{{?(?P<power>[23])\}}?)?"
    r"| ?(?P<short>cm|mm|km|kg|mg|ml)"
    r"| (?P<plain>(?:[A-Za-z]{3,}|cm|mm|km|kg|mg|ml|ft|lb|oz|hr)(?: [A-Za-z]+){0,2})"
)
_SCALE = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NO_UNIT = re.compile(
    r"\b(?:squared?|cubed?|factorial|over|times|plus|minus|and|divided|point|hal(?:f|ves)|thirds?|fourths?|quarters?|dozens?"
    r"|mod|base|choose|more|less|than|is|not|no|to|sin|cos|tan|log|exp|sqrt|pi)\b"
)
QUANTITY = re.compile(r"(-?[0-9]+(?:/[0-9]+|\.[0-9]+)?)(\\text\{[^{}]*\}(?:\^[23])?)?")  # what `canonical` makes of one
_HEDGE = re.compile(r"(?<![A-Za-z\\])(?:or|maybe|perhaps|possibly|either|alternatively)(?![A-Za-z])", re.IGNORECASE)
_FUNCTIONS = re.compile(r"(?<![\\A-Za-z])(pi|sin|cos|tan|cot|sec|csc|log|ln|exp|infinity|infty)(?![A-Za-z])")
_SPACING = re.compile(
    r"(?P<row>\\\\)|\\! ?|\\(?:left|right|displaystyle|textstyle|big[lr]?|Big[lr]?|bigg[lr]?)(?![A-Za-z])|\{(?P<comma>,)\}"
    r"|\\[$]|[$]|(?P<space>\\[,;:> ()\[\]]|~|\\q?quad(?![A-Za-z])|\\boxed ?(?=\{))"
)
_REPEATING = re.compile(r"(?<![0-9])([0-9]*+)\.([0-9]*+)\\(?:overline|bar)(?![A-Za-z]) ?(?:\{ ?([0-9]+) ?\}|([0-9]))")
_LESS = {">": "<", r"\ge": r"\leq", r"\geq": r"\leq"}
_GREATER = re.compile(r"(>|\\geq?(?![A-Za-z]))")
_WORDS = ["pi", "infty", "times", "cdot", "cdot", "leq", "geq", "neq", "in", "cup", "cap", "pm"]
_SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d", "-"),
        **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", ""),
        **dict.fromkeys("°º", r"^\circ "),
        **dict.fromkeys("÷⁄", "/"),
        **{c: rf"\{word} " for c, word in zip("π∞×·⋅≤≥≠∈∪∩±", _WORDS, strict=True)},
        "√": "sqrt ",
        "’": "'",
    }
)


def canonical(answer: str) -> str:
    """One text for the many ways to write an answer: equal texts are equal answers (not the other way round), usable as a key.

    A number becomes an integer "-7", a fraction in lowest terms "1/2" or, beyond 4000 digits, a decimal without idle zeros.
    """
    return _canonical(answer) if len(answer) <= 200 else _normal(answer)  # the cache holds no essays


@lru_cache(maxsize=16_384)
def _canonical(answer: str) -> str:
    return answer if _SHORT_INTEGER.fullmatch(answer) else _normal(answer)


def _normal(answer: str) -> str:
    text = " ".join(answer.split())
    return text if len(text) > _LONGEST else _normal_form(text) or text  # "$" or "." alone stay what they are


def is_blank(answer: str) -> bool:
    r"""Is nothing left of the answer once spacing and wrappers are gone, as of `$\text{ }$`?"""
    return not answer.strip() or (len(answer) <= 200 and not _SHORT_INTEGER.fullmatch(answer) and not _normal_form(answer))


def is_number(key: str) -> bool:
    """Is this canonical text a plain number, which no other plain number equals?"""
    found = QUANTITY.fullmatch(key)
    return found is not None and not found[2]


def hedged(text: str) -> bool:
    """Does the answer leave itself a way out ("5 or 7", "maybe 3")?"""
    return _HEDGE.search(text) is not None


def _normal_form(text: str) -> str:
    text = _tidy(text)
    if whole := _quantity(text):
        return whole
    name, equals, value = text.rpartition("=")
    if equals and (value := _quantity(value.strip())):  # "x = 5 cm": the unit is still to be seen here
        return _formula(name + equals) + value
    return _formula(text)


def _tidy(text: str) -> str:
    """Unicode to LaTeX, wrappers and spacing off, one form of fraction."""
    text = re.sub("[¼-¾⅐-⅞]", lambda m: r"\frac{" + _nfkc(m[0]).replace("⁄", "}{") + "}", text)
    text = re.sub("[⁰¹²³⁴-⁹⁺⁻ⁿ]+", lambda m: "^{" + _nfkc(m[0]) + "}", text)  # NFKC alone makes 102 of 10²
    text = re.sub("[₀-₉]+", lambda m: "_{" + _nfkc(m[0]) + "}", text)
    text = _nfkc(text.translate(_SYMBOLS)).translate(_SYMBOLS)
    text = _SPACING.sub(lambda m: m["row"] or m["comma"] or (" " if m["space"] else ""), text)
    text = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", text)
    text = re.sub(r"\\frac ?(?:([0-9])|\{([^{}]*)\}) ?(?:([0-9])|\{([^{}]*)\})", _fraction_in_braces, text)
    text = _REPEATING.sub(_repeating, text)
    text = " ".join(text.split()).strip("*").lstrip(" ,;").rstrip(" ,;\\")
    text = text[:-1].strip() if text.endswith(".") and not text.endswith("..") else text
    return text[1:-1].strip() if re.fullmatch(r"\{[^{}]*\}", text) else text


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("\u2212", "-")


def _fraction_in_braces(found: re.Match[str]) -> str:
    return rf"\frac{{{found[1] or found[2]}}}{{{found[3] or found[4]}}}"


def _repeating(found: re.Match[str]) -> str:
    """0.1(6): the digits up to the end of the first period, less those before it, over 90."""
    before, period = found[1] + found[2], found[3] or found[4]
    if len(before + period) > _DIGITS:
        return found[0]
    top = int(before + period) - int(before or 0)
    return rf"\frac{{{top}}}{{{(10 ** len(period) - 1) * 10 ** len(found[2])}}}"


def _quantity(text: str) -> str | None:
    r"""`7`, `1/2` or `5\text{cm}` where the text is a number with at most a currency sign before and a unit after it."""
    currency = text[:1] if text[:1] in "£€¥" else ""
    found = _NUMBER.match(text, len(currency))
    tail = _UNIT.fullmatch(text, found.end()) if found else None
    if not found or (found.end() < len(text) and not tail):
        return None
    words = (currency + " " + ((tail["tex"] or tail["short"] or tail["plain"] or "") if tail else "")).casefold().split()
    factor = _SCALE.get(words[0], 1) if words else 1
    unit = " ".join(words if factor == 1 else words[1:]).strip(".").removesuffix("s")
    if hedged(unit) or _NO_UNIT.search(unit) or (value := _number(found, factor)) is None:
        return None
    power = "^" + tail["power"] if tail and tail["power"] else ""
    return value + (rf"\text{{{unit}}}{power}" if unit not in ("", "percent", "degree") else "")


def _number(found: re.Match[str], factor: int) -> str | None:
    if len(found[0]) > _DIGITS:
        return _long_decimal(found)
    value, below = (
        _fraction(found["top"] or found["over"] or found["decimal"]),
        _fraction(found["bottom"] or found["under"] or "1"),
    )
    if not below or (found["whole"] and not 0 < value < below):  # 1/0, or a mixed number that is none
        return None
    value = (value / below + int(found["whole"] or 0)) * factor * Fraction(10) ** int(found["power"] or 0)
    return str(-value if found["sign"] == "-" else value)


def _fraction(decimal: str) -> Fraction:
    return Fraction(decimal.replace(",", "").replace(" ", "").removesuffix("."))


def _long_decimal(found: re.Match[str]) -> str | None:
    if not found["decimal"] or found["power"]:
        return None
    whole, _, rest = found["decimal"].replace(",", "").replace(" ", "").partition(".")
    digits = f"{whole.lstrip('0') or '0'}.{rest.rstrip('0')}".rstrip(".")
    return ("-" if found["sign"] == "-" and digits != "0" else "") + digits


def _formula(text: str) -> str:
    if len(chain := _GREATER.split(text)) > 3 and "<" not in text and r"\le" not in text:
        text = "".join(f" {_LESS.get(part, part)} " for part in reversed(chain))  # 4 > x > 1 is 1 < x < 4
    for _ in range(4):  # \text{} inside \text{}, sqrt() inside sqrt(); deeper nesting is left as it is
        text = re.sub(rf"{_TEXT}([^{{}}]*)\}}", r" \1 ", text)
        text = re.sub(r"\\?sqrt ?\(([^()]*)\)|(?<!\\)sqrt ?([0-9]+|[A-Za-z])", lambda m: r"\sqrt{%s}" % (m[1] or m[2]), text)
    text = _FUNCTIONS.sub(r"\\\1 ", text).replace(r"\infinity", r"\infty")
    text = re.sub(r"(?:\^|\*\*) ?(?:(-?[0-9]+|[A-Za-z])|\{ ?(-?\w+) ?\})", lambda m: "^{%s}" % (m[1] or m[2]), text)
    text = re.sub(r"(?<=[0-9]) ?x ?(?=10 ?\^)", r"\\times ", text)
    text = re.sub(r"_\{(\w)\}", r"_\1", text)
    text = re.sub(r",? and ", ", ", text) if re.search("[0-9]", text) else text
    text = re.sub(r"(?<![\w,]) |(?<=,) (?![0-9]{3}(?![0-9]))| (?!\w)", "", " ".join(text.split()))  # not in "\sin x", "1, 200"
    choice = re.fullmatch(r"\(?([A-Z])[).:]*", text)
    words = re.fullmatch(r"[A-Za-z]{2,}(?: [A-Za-z]+)*", text)
    return choice[1] if choice else text.casefold() if words else text
