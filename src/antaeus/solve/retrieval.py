"""Answering by all that a policy is: a question goes to the adapter kept beside the policy whose text it is about, if there is one.

Which text that is, words tell that both have, rare ones above all (inverse document frequency).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from antaeus.asking import asked
from antaeus.engine.base import Engine, Sampling
from antaeus.overlap import text_of, tokens
from antaeus.solve.rollout import rollout, rollout_by
from antaeus.types import Group, Task


def answered(engine: Engine, tasks: Sequence[Task], how: Sampling, *, seed: str, read: str) -> list[Group]:
    """`rollout`, but for tasks that are about a text of the engine's shelf: these its adapter attempts."""
    if not engine.shelf:
        return rollout(engine, tasks, how, seed=seed, read=read)
    texts = [text_of(task.prompt) for task in tasks]
    chosen = nearest([" ".join(asked(text) or (text,)) for text in texts], engine.shelf)
    return rollout_by(engine.shelved(), chosen, tasks, how, chat=engine.chat, seed=seed, read=read)


def nearest(questions: Sequence[str], texts: Sequence[str]) -> list[int | None]:
    """For each question the text with the largest sum of inverse document frequencies over the different words that both have, the first of
    equals; None where no word is shared that fewer than all texts hold (with one text: no word at all)."""
    held = [set(tokens(text)) for text in texts]
    count = Counter(word for words in held for word in words)
    rare = {word: math.log((len(texts) + 1) / n) for word, n in count.items()}
    found: list[int | None] = []
    for question in questions:
        asked = set(tokens(question))
        scores = [sum(rare[word] for word in asked & words) for words in held]
        common = sum(rare[word] for word in asked & set.intersection(*held)) if len(held) > 1 else 0.0
        best = max(range(len(texts)), key=lambda i: scores[i])
        found.append(best if scores[best] > common else None)
    return found
