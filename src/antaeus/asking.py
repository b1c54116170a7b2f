"""How a question about a passage is put, and how to find it in what was put."""

from __future__ import annotations

import re

_PUT = re.compile(r"Topic: (?P<title>[^\n]*)\nQuestion: (?P<question>[^\n]*)\nAnswer:")


def put(title: str, question: str) -> str:
    """The prompt, to be continued by a short answer."""
    return f"Topic: {title}\nQuestion: {question}\nAnswer:"


def asked(prompt: str) -> tuple[str, str] | None:
    """Title and question of such a prompt; None for any other."""
    found = _PUT.fullmatch(prompt)
    return (found["title"], found["question"]) if found else None
