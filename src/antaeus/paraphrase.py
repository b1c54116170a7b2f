"""When do two texts ask the same in other words? By the meaning of their words, with numbers kept.

Rule. A held-out text is retold by a text with the same numbers (digits, one more allowed; up to twenty also spelt out) and other
words, if the cosine of their mean word vectors, numbers left out, is at least `NEAR`, and the text is at most `NEARER` times as far
from it (in 1 - cosine) as its nearest held-out neighbour. Numbers that more than half of the held-out texts hold are a template's
and do not count; of a held-out text with fewer than two the match is only a suspicion, and without any it needs
`NEAR_WITHOUT_NUMBERS`. Held-out texts that resemble another one more than `ALIKE` are variants of a template, which mean vectors
cannot tell apart: they are guarded by `antaeus.overlap` alone, and counted in `alike`. Sums ("34 + 57 =") have no words: they are
retold by a text of at most 16 words with their numbers and operations ("What do you get when 34 is added to 57?").

Measured with 264 held-out GSM8K problems: of 34 that were reworded by hand 32 are found and one is suspected (in the last a number
is spelt that stands in digits); of 18 retold with other people and things none, which are other tasks. False alarms: none in 1236
other GSM8K problems, 200 of MATH-500, 150 finance formula problems, and 64 practice tasks of each of 94 reasoning-gym generators
against 96 held-out ones. Of 1000 SQuAD questions, beside 264 others about the same passages, 4 are falsely suspected.

The word vectors are those of `antaeus.vectors`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from antaeus.overlap import tokens
from antaeus.vectors import SIZE, available, total, unit

NEAR = 0.7
NEAR_WITHOUT_NUMBERS = 0.85
NEARER = 0.5
ALIKE = 0.85
COMMON = 0.5  # share of the held-out texts
SHORT = 8  # words: a held-out text of fewer is not looked for inside longer texts
_STORY = 16  # words: no longer text is a sum
_WINDOW = 6  # sentences

_SPELT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty"
)
_NUMBER = {word: str(i) for i, word in enumerate(_SPELT.split())}
_SIGNS = {
    "+": "plus add added adding sum",
    "-": "minus subtract subtracted subtracting difference",
    "*": "times multiply multiplied multiplying product",
    "/": "divide divided dividing quotient",
}
_SIGN = {word: sign for sign, words in _SIGNS.items() for word in [sign, *words.split()]}
_DIGITS = re.compile(r"[\d.,]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")

Words = tuple[str, ...]


class Retold(NamedTuple):
    """The held-out text that another one retells. Not `sure`: it has fewer than two numbers, so that its words speak almost alone."""

    id: str
    cosine: float
    sure: bool


class Paraphrases:
    """Held-out texts as (id, text), built once; `hit` costs an embedding (0.2 ms) and a product with all of them.

    `blind` counts the texts with words where no word vectors are installed, `alike` those that resemble another too much.
    """

    def __init__(self, texts: Iterable[tuple[str, str]]) -> None:
        pairs = list(texts)
        self._ids = [name for name, _ in pairs]
        self._said = [tokens(text) for _, text in pairs]
        self._words = [_words(said) for said in self._said]
        common = Counter(n for said in self._said for n in _digits(said))
        self._numbers = [{n for n in _digits(s) if common[n] <= max(3, COMMON * len(pairs))} for s in self._said]
        self._sums: dict[object, list[int]] = {}
        for i, said in enumerate(self._said):
            self._sums.setdefault(_sum(said), []).append(i)
        self._templates = {_template(said): i for i, said in reversed([*enumerate(self._said)])}
        worded = sum(map(bool, self._words))
        self.blind = 0 if available() else worded
        self._vectors = np.stack([embed(text) for _, text in pairs]) if worded and not self.blind else np.zeros((0, SIZE))
        self._needed, self.alike = self._thresholds()

    def hit(self, text: str) -> Retold | None:
        """The held-out text that `text` retells (the surest, then the nearest), None if there is none."""
        said = tokens(text)
        if (i := self._same_sum(said)) is not None:
            return Retold(self._ids[i], 1.0, True)
        return self._nearest(embed(text), said) if len(self._vectors) and _words(said) else None

    def hit_inside(self, text: str) -> Retold | None:
        """As `hit`, for any run of up to 6 sentences of a longer text. Sums and texts of fewer than 8 words are not looked for."""
        parts = [part for part in _SENTENCE.split(text) if part.strip()]
        if not len(self._vectors) or len(_words(tokens(text))) < SHORT:
            return None
        totals = np.cumsum([np.zeros(SIZE), *map(_total, parts)], axis=0)
        spans = [(i, j) for i in range(len(parts)) for j in range(i + 1, min(i + _WINDOW, len(parts)) + 1)]
        near = np.stack([unit(totals[j] - totals[i]) for i, j in spans]) @ self._vectors.T >= self._needed
        runs = (
            (totals[j] - totals[i], tokens(" ".join(parts[i:j]))) for (i, j), row in zip(spans, near, strict=True) if row.any()
        )
        hits = [hit for found, said in runs if (hit := self._nearest(unit(found), said, SHORT)) is not None]
        return max(hits, key=lambda hit: (hit.sure, hit.cosine), default=None)

    def renumbered(self, text: str) -> str | None:
        """Id of a held-out text that has the same words in the same places, and other numbers."""
        said = tokens(text)
        i = self._templates.get(_template(said))
        return self._ids[i] if i is not None and _digits(said) and self._said[i] != said else None

    def _nearest(self, vector: np.ndarray, said: Words, least: int = 1) -> Retold | None:
        cosines, words = self._vectors @ vector, _words(said)
        near = [i for i in map(int, np.flatnonzero(cosines >= self._needed)) if words != self._words[i]]
        told = [i for i in near if len(self._words[i]) >= least and self._same_numbers(i, said)]
        found = [Retold(self._ids[i], float(cosines[i]), len(self._numbers[i]) > 1) for i in told]
        return max(found, key=lambda hit: (hit.sure, hit.cosine), default=None)  # a suspicion must not hide what is sure

    def _same_numbers(self, i: int, said: Words) -> bool:
        return self._numbers[i] <= _numbers(said) and len(_digits(said) - _numbers(self._said[i])) <= 1

    def _same_sum(self, said: Words) -> int | None:
        there = self._sums.get(key, ()) if (key := _sum(said)) else ()
        return next(
            (i for i in there if _words(said) != self._words[i] and _agree(_written(said), _written(self._said[i]))), None
        )

    def _thresholds(self) -> tuple[np.ndarray, int]:
        if not len(self._vectors):
            return np.zeros(0), 0
        cosines = self._vectors @ self._vectors.T
        np.fill_diagonal(cosines, -1.0)
        neighbour = cosines.max(axis=1)
        least = np.array([NEAR if numbers else NEAR_WITHOUT_NUMBERS for numbers in self._numbers])
        needed = np.maximum(least, 1 - NEARER * (1 - neighbour))
        alike = np.array([bool(words) for words in self._words]) & (neighbour > ALIKE)
        return np.where(alike, np.inf, needed), int(alike.sum())


def embed(text: str) -> np.ndarray:
    """Mean word vector of `text` without its numbers, of length 1 (0 where there are no words), [256]."""
    return unit(_total(text))


def _total(text: str) -> np.ndarray:
    return total(_DIGITS.sub(" ", text))


def _words(said: Sequence[str]) -> Words:
    return tuple(token for token in said if token[0].isalpha())


def _digits(said: Sequence[str]) -> set[str]:
    return {token for token in said if token[0].isdigit()}


def _numbers(said: Sequence[str]) -> set[str]:
    return _digits(said) | {_NUMBER[token] for token in said if token in _NUMBER}


def _template(said: Words) -> Words:
    return tuple("#" if token[0].isdigit() else token for token in said)


# -- sums


def _sum(said: Words) -> object:
    """Numbers in order of size and the kinds of operation of a sum, in signs or in words; None for anything else."""
    numbers = sorted(_NUMBER.get(token, token) for token in said if token[0].isdigit() or token in _NUMBER)
    signs = frozenset(_SIGN[token] for token in said if token in _SIGN)
    return (*numbers, signs) if len(numbers) > 1 and signs and len(_words(said)) <= _STORY else None


def _written(said: Words) -> Words:
    """The part of a sum that is written in signs: "34 + 57 = ?" -> 34 + 57; nothing of one in words."""
    formal = tuple(token for token in said if not token[0].isalpha() and token != "=")
    return formal if any(token in _SIGNS for token in formal) else ()


def _agree(a: Words, b: Words) -> bool:
    return not a or not b or a == b
