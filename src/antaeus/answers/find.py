r"""Find the final answer in a text.

One principle: a form that is there but empty, hedged or cut off is *no answer*; the next form is tried only where a form is
absent. So `\boxed{}` is None, and so is "The answer is \boxed{5" of a truncated text. All scans are linear in the text.
"""

from __future__ import annotations

import re
from collections import deque

from antaeus.answers.normal import canonical, hedged, is_blank
from antaeus.errors import UserError

FORMS = ("auto", "boxed", "marker", "number", "line")

_THINK_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THINK = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*+\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_MARKER = re.compile(r"####|\banswers?\b\W{0,3}?(?:is\b|are\b|:|=)", re.IGNORECASE)
_RESULT = re.compile(r"[ \t]*(?!\d+[.)]\s)[-+\u2212]?[$\\(]*[-\d.]")  # after #### it is a result, not a Markdown heading
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", re.DOTALL)
_PHRASE = 2000  # characters of a text after a marker that are looked at

_DIGITS = r"(?:\d{1,3}(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?|\.\d++"
_NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_.\\])(?:(?<![)\]}}])[-\u2212+])?"
    rf"(?:(?:\d++[ ]?)?\\[dtc]?frac(?:\{{-?\d++\}}\{{\d++\}}|\s?\d\s?\d)|\d++[ ]\d++/\d++|(?:{_DIGITS})(?:\s?/\s?\d++)?)"
    rf"(?:[eE][-+]?\d++(?![A-Za-z\d]))?(?:\s?(?:\\times|\\cdot|\u00d7|\*)\s?10(?=\^))?(?:\^\{{?-?\d++\}}?)?"
)
_INSIDE = re.compile(r"(?:[\^_]\{?|\\(?:sqrt(?:\[\d*\])?|[dtc]?frac)\{?|\}\{)$")  # before a number that is only part of something
_DOUBT = re.compile(r"\b(?:or|maybe|perhaps|possibly|alternatively|either)\b\W*$", re.IGNORECASE)
_NOT = re.compile(
    r"(?:\b(?:can)?not|\bnever|n['’]t)[\s$*(\\]+(?:(?!but\b|only\b)[A-Za-z]+[\s$*(\\]+){0,2}$", re.IGNORECASE
)  # "not 5", "isn't equal to 5"
_LISTED = re.compile(r"(?:[\d.]+\s*,\s*){2}(?:and\s+)?$")  # the last of three numbers or more is no final answer
_AFTER = re.compile(
    r"\\?[%$)]*(?:[,;]?\s*$|[,;]?\s+\(?(?!and\b|pi\b|sqrt)[A-Za-z]{2})"
)  # end or words: not a formula, not a list


def extract(text: str, how: str = "auto") -> str | None:
    r"""The final answer in `text` as written there, or None. Never raises for any text.

    `how`: "boxed" the last balanced \boxed{} or \fbox{}; "marker" what follows the last "####", "answer is", "Answer:"; "number"
    the final number; "line" the first non-empty line; "auto" the first of boxed, marker, number that is there. Text before
    </think> and after an unclosed <think> is not looked at. Several answers ("5 or 7", two boxes in one sentence) are None.
    Raises `UserError` for another `how`.
    """
    if how not in FORMS:
        raise UserError(f"extract: there is no way to find answers called {how!r}; use one of {', '.join(FORMS)}")
    if not isinstance(text, str):
        return None
    spoken = _THINK.split(_THINK_END.split(text)[-1], maxsplit=1)[0]
    found = (
        _auto(spoken) if how == "auto" else {"boxed": _boxed, "marker": _marker, "number": _number, "line": _line}[how](spoken)
    )
    return None if found is None or is_blank(found) or hedged(found) else found.strip()


# Each of these returns None where its form is absent and "" where it is there but gives no answer.


def _auto(text: str) -> str | None:
    return next((found for form in (_boxed, _marker, _number) if (found := form(text)) is not None), None)


def _boxed(text: str) -> str | None:
    boxes, cut_off = _boxes(text)
    if not boxes:
        return "" if cut_off else None
    *earlier, (start, inner, end) = boxes  # of nested boxes the innermost
    answer, key = text[inner:end], canonical(text[inner:end])
    for other_start, other_inner, other_end in reversed(earlier):
        if other_end > start:
            continue  # it contains the last one
        if _SENTENCE_END.search(text, other_end + 1, start):
            break
        if canonical(text[other_inner:other_end]) != key:
            return ""
        start = other_start
    return answer


def _boxes(text: str) -> tuple[list[tuple[int, int, int]], bool]:
    """Where the command, the content and the end of the content of each closed box are, and whether one is never closed."""
    boxes: list[tuple[int, int, int]] = []
    unclosed: list[tuple[int, int] | None] = []  # None: another brace
    for token in _BRACE.finditer(text):
        if token["box"]:
            unclosed.append((token.start(), token.end()))
        elif token["open"]:
            unclosed.append(None)
        elif token["close"] and unclosed and (box := unclosed.pop()):
            boxes.append((*box, token.start()))
    return sorted(boxes), any(unclosed)


def _marker(text: str) -> str | None:
    start = _after_last_marker(text)
    if start is None:
        return None
    phrase = text[start : start + _PHRASE].lstrip(" \t\r\n:=*_")
    if (boxed := _boxed(phrase)) is not None:
        return boxed
    math = _MATH.match(phrase)
    sentence = _SENTENCE_END.split(phrase[math.end() if math else 0 :], maxsplit=1)[0].strip(" *_\t\r")
    if not math:
        return _from_sentence(re.sub(r"^\\?\$", "", sentence))
    whole = math[0] + " " + sentence
    return whole if _MATH.search(sentence) or hedged(sentence) else next(filter(None, math.groups()))


def _after_last_marker(text: str) -> int | None:
    last_line, start = text.rstrip().rfind("\n") + 1, None
    for found in _MARKER.finditer(text):
        if found[0] != "####" or found.start() >= last_line or _RESULT.match(text, found.end()):
            start = found.end()
    return start


def _from_sentence(sentence: str) -> str:
    """The number that a sentence ends with after "=", begins with, or contains among many words; otherwise the sentence."""
    numbers = list(_NUMBER.finditer(sentence))
    if not numbers:
        return sentence
    if any(_DOUBT.search(_before(sentence, number)) for number in numbers):
        return ""
    affirmed = [number for number in numbers if not _NOT.search(_before(sentence, number))]
    if not affirmed or len(affirmed) == 1 < len(numbers):  # "not 5", "not 5 but 6"
        return affirmed[0][0] if affirmed else ""
    first, last = affirmed[0], affirmed[-1]
    ends = [_AFTER.match(sentence, number.end()) for number in (first, last)]
    if ends[1] and "," not in sentence and re.fullmatch(r"[^=]*=\s*\$?", sentence[: last.start()]):
        return last[0]
    if ends[0] and first.start() == 0:
        return "" if re.match(r"\W*(?:or|maybe)\b", sentence[first.end() :]) else first[0]
    return last[0] if len(re.findall("[A-Za-z]{2,}", sentence)) > 3 else sentence


def _number(text: str) -> str | None:
    last = deque(_NUMBER.finditer(text), maxlen=1)
    if not last:
        return None
    (found,) = last
    return "" if any(form.search(_before(text, found)) for form in (_INSIDE, _DOUBT, _NOT, _LISTED)) else found[0]


def _before(text: str, number: re.Match[str]) -> str:
    return text[max(0, number.start() - 40) : number.start()]


def _line(text: str) -> str | None:
    found = re.search(r"\S[^\r\n]*", text)
    return found[0] if found else None
