"""Texts of fixed parts and of fields with few alternatives, drawn field by field: such a text always parses.

At each field every alternative is weighed by the policy's probability of the whole text so far with the alternative and the fixed part
behind it, which tells 1 from the beginning of 10; one of them is drawn by these weights among one another. Texts are tokenised as a
whole, as they are where they are learned from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from antaeus.engine.base import Engine, Scores
from antaeus.noise import uniforms
from antaeus.types import Attempt, Prompt

Template = Sequence[str | tuple[str, ...]]
"""Parts in order: a string stands as it is, a tuple holds the alternatives of a field."""
_Text = tuple[Prompt, str]


def choose(
    engine: Engine, prompts: Sequence[tuple[str, Prompt]], template: Template, n: int, temperature: float, *, seed: str
) -> list[list[Attempt]]:
    """`n` texts for each (task id, prompt), each complete with its end token; at `temperature` 0 the alternative with the greatest weight.
    Text i of a task depends on (`seed`, task id, i) and the policy. Raises `UserError` where a prompt leaves too little room."""
    fields = _fields(template)
    rows = [(task, prompt, i, uniforms(seed, task, i, len(fields))) for task, prompt in prompts for i in range(n)]
    texts, scored = [""] * len(rows), {}
    for at, alternatives in enumerate(fields):
        options = [[(prompt, text + each) for each in alternatives] for (_, prompt, *_), text in zip(rows, texts, strict=True)]
        scored = _scored(engine, [option for row in options for option in row], end=at == len(fields) - 1)
        for i, row in enumerate(options):
            logs = [sum(scored[option].logprobs) for option in row]
            _, texts[i] = row[drawn(logs, temperature, float(rows[i][3][at]))]
    made = iter([_attempt(engine, *row[:3], text, scored[row[1], text]) for row, text in zip(rows, texts, strict=True)])
    return [[next(made) for _ in range(n)] for _ in prompts]


def shares(logs: Sequence[float], temperature: float) -> list[float]:
    """The probabilities of alternatives with these log-weights; at temperature 0 all of it on the first greatest."""
    top = max(logs)
    if temperature == 0:
        return [float(i == logs.index(top)) for i in range(len(logs))]
    each = [math.exp((log - top) / temperature) for log in logs]
    return [x / sum(each) for x in each]


def drawn(logs: Sequence[float], temperature: float, uniform: float) -> int:
    """The alternative at `uniform` (in [0, 1)) of the way through their probabilities."""
    found, reached = 0, 0.0
    for i, share in enumerate(shares(logs, temperature)):
        if share and uniform >= reached:  # the last with a share where rounding leaves the sum below 1
            found = i
        reached += share
    return found


def _fields(template: Template) -> list[tuple[str, ...]]:
    """The alternatives of each field with the fixed text behind them; what stands before the first goes with that."""
    fields: list[tuple[str, ...]] = [("",)]
    for part in template:
        if isinstance(part, str):
            fields[-1] = tuple(each + part for each in fields[-1])
        else:
            fields.append(part)
    before, first, *rest = fields
    return [tuple(before[0] + each for each in first), *rest]


def _scored(engine: Engine, texts: Sequence[_Text], end: bool) -> dict[_Text, Scores]:
    """The policy's statistics of each different text behind its prompt, with the end token where that follows."""
    different = list(dict.fromkeys(texts))
    asked = [Attempt("choice", 0, *engine.encode(prompt, text, end=end), text, "eos", (), ()) for prompt, text in different]
    return dict(zip(different, engine.score(asked), strict=True))


def _attempt(engine: Engine, task: str, prompt: Prompt, index: int, text: str, scores: Scores) -> Attempt:
    return Attempt(task, index, *engine.encode(prompt, text), text, "eos", scores.logprobs, scores.entropies)
