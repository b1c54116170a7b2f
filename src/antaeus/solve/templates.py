"""Templates of prompts as plain text files: those of the package (`edits/`), or a user's own with {title} and {context}."""

from __future__ import annotations

from pathlib import Path

from antaeus.errors import UserError
from antaeus.types import Passage

FOLDER = Path(__file__).parent / "edits"
NAMES = ("implications", "long", "very_long", "rewrite", "self_qa")
LONGEST = 20_000  # characters


def template(name: str) -> str:
    """The text of a template by name, or of a file by its path. Raises `UserError` where there is none, or it has no {context}."""
    own = name not in (*NAMES, "own_questions")
    try:
        text = (Path(name) if own else FOLDER / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError, ValueError) as err:
        raise UserError(
            f"prompt={name!r}: neither one of {', '.join(NAMES)} nor a readable text file ({type(err).__name__}); name one of these, or "
            "give the path of a text with {title} and {context}"
        ) from None
    if "{context}" not in text or len(text) > LONGEST:
        raise UserError(
            f"prompt={name!r}: a template holds {{context}}, where the passage is to stand, in at most {LONGEST:,} characters"
        )
    return text


def filled(text: str, passage: Passage) -> str:
    """A template with a passage in it; other braces stay as they are."""
    before, _, after = text.partition("{context}")
    return f"{before.replace('{title}', passage.title)}{passage.text}{after.replace('{title}', passage.title)}"
