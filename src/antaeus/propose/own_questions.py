"""Questions that the model itself writes about a passage while the passage is in view, for passages that nobody has asked about.

A question is kept where its answer is a few words of the passage and does not stand in the question already. That the answer is right,
nobody has checked: what is graded by it is the model's own opinion.
"""

from __future__ import annotations

import re

from antaeus.answers.spans import normal
from antaeus.propose.passages import Question
from antaeus.types import Passage

MOST, LONGEST = 8, 8  # questions of a passage; words of an answer
_PAIR = re.compile(r"Question\s*\d*\s*:\s*(?P<question>[^\n]+)\n+\s*Answer\s*\d*\s*:[ \t]*(?P<answer>[^\n]+)", re.IGNORECASE)


def own_questions(text: str, passage: Passage) -> list[Question]:
    """The questions that can be used of those in `text`, a reply that may go on behind "Question:"; none is asked twice."""
    there, found = f" {normal(passage.text)} ", dict[str, Question]()
    for pair in _PAIR.finditer(text if re.match(r"\W*Question", text, re.IGNORECASE) else f"Question: {text}"):
        question, answer = pair["question"].strip(), pair["answer"].strip()
        said = normal(answer)
        fits = said and len(said.split()) <= LONGEST and f" {said} " in there and f" {said} " not in f" {normal(question)} "
        if fits:
            found.setdefault(normal(question), Question(question, (answer,)))
    return [*found.values()][:MOST]
