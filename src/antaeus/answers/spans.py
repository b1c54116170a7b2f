"""Short answers in words, compared as SQuAD compares them (1606.05250): exact match and token F1 after normalisation.

What differs: punctuation is Unicode's, so that "24–10" is "24-10"; letters are compared after NFKC and case folding. An answer of nothing
but articles and punctuation ("A", "the") is compared as it stands, and no answer never wins.

Accepted answers stand one a line.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normal(text: str) -> str:
    """Folded, without punctuation and articles, words one space apart."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = "".join(c for c in folded if c.isspace() or not (c in string.punctuation or unicodedata.category(c)[0] in "PC"))
    return " ".join(_ARTICLES.sub(" ", kept).split())


def exact(accepted: str, answer: str) -> bool:
    """Whether the answer is one of those accepted."""
    return bool(answer.strip()) and (answer == accepted or _key(answer) in map(_key, accepted.splitlines()))


def f1(accepted: str, answer: str) -> float:
    """The best harmonic mean of precision and recall of the answer's words, over those accepted; 1 where it is exact."""
    if exact(accepted, answer):
        return 1.0
    return max((_overlap(normal(line).split(), normal(answer).split()) for line in accepted.splitlines()), default=0.0)


def _key(text: str) -> str:
    return normal(text) or text.strip().casefold() or "\n"


def _overlap(gold: list[str], said: list[str]) -> float:
    common = (Counter(gold) & Counter(said)).total()
    return 2 * common / (len(gold) + len(said)) if common else 0.0
