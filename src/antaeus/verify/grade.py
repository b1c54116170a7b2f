"""Grades in a model's own words, read from probabilities: what it would say is not sampled, but expected.

An expected grade sees what a sampled one rounds away (the whole scale is weighed), and has no parser to fail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from antaeus.engine.base import Engine
from antaeus.types import Attempt, Prompt


@dataclass(frozen=True, slots=True)
class Grade:
    """The reply tokens of each grade word to the same question, and the words' probabilities among one another; they sum to 1."""

    prompt_ids: tuple[int, ...]
    replies: tuple[tuple[int, ...], ...]
    shares: tuple[float, ...]
    worth: tuple[float, ...]

    @property
    def expected(self) -> float:
        """S = sum of share x worth."""
        return sum(q * w for q, w in zip(self.shares, self.worth, strict=True))

    @property
    def slopes(self) -> tuple[float, ...]:
        """dS / d log p of each word: q (w - S), which sum to 0. As advantages of the words' lessons they make the gradient of S."""
        return tuple(q * (w - self.expected) for q, w in zip(self.shares, self.worth, strict=True))


def grades(engine: Engine, questions: Sequence[Prompt], words: Mapping[str, float], temperature: float = 1.0) -> list[Grade]:
    """The model's grade in reply to each question. `words` are the replies that count, with what each is worth; a word of several
    tokens has the product of their probabilities. Raises `UserError` where a question exceeds the model's context."""
    encoded = [[engine.encode(question, word, end=False) for word in words] for question in questions]
    asked = [Attempt("grade", 0, p, ids, "", "length", (), ()) for row in encoded for p, ids in row]
    scored = iter(engine.score(asked, temperature=temperature))
    worth = tuple(words.values())
    return [
        Grade(row[0][0], tuple(ids for _, ids in row), _normalised([sum(next(scored).logprobs) for _ in row]), worth)
        for row in encoded
    ]


def _normalised(logs: Sequence[float]) -> tuple[float, ...]:
    top = max(logs)
    each = [math.exp(x - top) for x in logs]
    return tuple(x / sum(each) for x in each)
