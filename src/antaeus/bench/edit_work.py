"""Self-edits to be evaluated (SEAL, arXiv 2506.10943), the same for whoever does it.

An edit is evaluated when an adapter has been trained on its documents, one a step and `HOW.epochs` times over, and has answered its
questions without the passage, in exactly `MAX_TOKENS` tokens each. `HOW` is the authors', and the recipe's but for the layers: rank 32 on
query and value, AdamW, a rate falling from 1e-3 to 0, clipping at 1. What the texts say does not change how long they take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from random import Random
from typing import Any

from antaeus.bench.work import Work
from antaeus.errors import UserError
from antaeus.propose.passages import MAX_TOKENS, question_task
from antaeus.recipes.seal import SEAL
from antaeus.types import Passage, Practice

__all__ = ["HOW", "MAX_TOKENS", "QUESTIONS", "Edit", "edits_of", "prompts_of"]
HOW = replace(SEAL().inner.how, targets=("q_proj", "v_proj"))  # the authors' layers
QUESTIONS = 5  # of an edit; SQuAD, which SEAL takes its passages from, has about as many a passage
_ASKED = 6  # words of a question
_TEXT = "the river rises in snow and runs past old towns under a bridge that people built of stone when ships brought salt"


@dataclass(frozen=True, slots=True)
class Edit:
    """The documents that an adapter learns, and what it is then asked."""

    documents: tuple[str, ...]
    questions: tuple[Practice, ...]


def edits_of(work: Work, tokenizer: Any) -> list[Edit]:
    """`prompts` edits of `samples` documents, as long as `tokens` tokens with the end token allow, each of words drawn anew."""
    if work.tokens <= (least := max(len(tokenizer.encode(f"Rivers {work.prompts}\n{word}")) for word in _TEXT.split())):
        raise UserError(f"tokens={work.tokens}: a document of a title and a word has {least + 1} tokens; give more")
    return [_edit(i, work, Random(f"edit {i}"), tokenizer) for i in range(work.prompts)]


def prompts_of(edit: Edit) -> list[str]:
    """What the model reads of each question: two worked examples and the question."""
    return [question.shots + str(question.prompt) for question in edit.questions]


def _edit(i: int, work: Work, rng: Random, tokenizer: Any) -> Edit:
    title, words = f"Rivers {i}", _TEXT.split()
    documents = (_document(title, rng.choices(words, k=work.tokens), work.tokens, tokenizer) for _ in range(work.samples))
    about = (" ".join(rng.choices(words, k=_ASKED)) for _ in range(QUESTIONS))
    asked = (question_task(Practice, f"{i}/{j}", Passage(title, ""), f"Why {text}?") for j, text in enumerate(about))
    return Edit(tuple(documents), tuple(asked))


def _document(title: str, words: Sequence[str], tokens: int, tokenizer: Any) -> str:
    texts = (f"{title}\n{' '.join(words[:n])}" for n in range(1, len(words) + 1))
    *_, last = takewhile(lambda text: len(tokenizer.encode(text)) < tokens, texts)
    return last
