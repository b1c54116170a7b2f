"""Does a grader pay for right answers and for nothing else? Asked with no model at all, before anything is learned from it.

A grader that takes "21" for "1" (PrimeIntellect verifiers, PR 763), that has gold and answer swapped, or that pays for an empty
think block, teaches a model just that. `check` asks hundreds of questions whose answers are known; `quick` a few before each run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from antaeus.errors import UserError
from antaeus.guard.grader_child import Child, Here, Outcome, Target
from antaeus.guard.grader_findings import SAME, SYMMETRIC, Report, Row, ranked
from antaeus.guard.grader_probes import BARE, FORMS, GOLDS, MUST, Gold, Probe, cheap, floods, golds_of, probes

__all__ = ["GOLDS", "Child", "Gold", "Report", "Target", "check", "golds_of", "quick"]

_AGAIN = 60  # pairs that are asked twice more, in another order
_FLOODED = 2  # golds, in each form, for which the long and hostile texts are tried
_TIRED = 2  # time-outs and deaths after which a kind of probe is given up
_EXHAUSTED = 10  # and after which everything is
_TOLERANCE = 1e-9

Scores = dict[str, dict[Gold, Outcome]]
"""What each gold got, by the form it was given in."""


class Grader(Protocol):
    """`names`: the ways to call it; `ask` answers for one of them. `Child` and `Here` are such."""

    names: list[str]

    def ask(self, gold: str, answer: str | None, how: int = 0, prompt: str = "") -> Outcome: ...


def check(grade: Callable[..., Any] | Grader, golds: Sequence[Gold | str] = GOLDS, *, name: str = "") -> Report:
    """Probe a grader with every gold. A plain function is called in this process; give a `Child` for one that may hang.

    Without `golds` of one's own, kinds of which the grader takes none (a reader of numbers takes no words) are left out and named.
    Raises `UserError` for a function that is no grader and where there are no golds.
    """
    asked = tuple(dict.fromkeys(gold if isinstance(gold, Gold) else Gold(gold) for gold in golds))
    if not asked:
        raise UserError("check-grader: there are no golds: give at least one right answer")
    grader: Any = grade if hasattr(grade, "ask") else Here(grade)  # type: ignore[arg-type]
    return _Checking(grader, asked).report(name or grader.names[0])


def quick(name: str, grade: Callable[[str, str], bool | float | None], golds: Sequence[Gold]) -> tuple[str, ...]:
    """Before a run: does the task set's own grader pass its golds and refuse what is plainly wrong? In this process, in milliseconds.

    `grade(gold, answer)` gives None where it failed; such failures are returned, a line each. Raises `UserError` where a gold is
    refused or a wrong answer accepted.
    """
    failed = []
    for gold in golds:
        for probe in _quick_probes(gold):
            score = grade(gold.key, str(probe.answer))
            about = f"{_short(probe.answer)} for the gold {_short(gold.text)}"
            if score is None:
                failed.append(f"the grader of {name} failed on {about}")
            elif (score >= 1.0) != (probe.rule == MUST):
                said = "refuses" if probe.rule == MUST else "accepts"
                raise UserError(
                    f"{name}: its grader {said} {about} ({probe.kind}), so nothing true can be learned from it; "
                    "mend the answers or choose other tasks, and see `antaeus check-grader`"
                )
    return tuple(failed)


def _quick_probes(gold: Gold) -> Iterator[Probe]:
    if gold.text:
        yield Probe("gold itself", MUST, gold.text)
    for probe in cheap(gold.text, "43" if gold.text != "43" else "44"):
        if not gold.sealed or probe.kind in ("empty or white space", "prompt injection"):
            yield probe  # of a procedural task other answers may be right, but not these


class _Checking:
    """One check: the grader, what became known of it, and the rows so far."""

    def __init__(self, grader: Grader, golds: tuple[Gold, ...]) -> None:
        self.grader, self.golds, self.how = grader, golds, 0
        self.full = 0.0  # what a gold is paid
        self.rows: dict[tuple[str, str], Row] = {}
        self.lost: Counter[str] = Counter()  # time-outs and deaths by kind of probe
        self.lately = Outcome(None)  # the last of these
        self.asked: list[tuple[Gold, str | None, float]] = []

    def report(self, name: str) -> Report:
        usable, left_out = self._fit()
        for form, golds in usable.items():
            for i, gold in enumerate(golds):
                at = self.golds.index(gold)
                others = [*self.golds[at + 1 :], *self.golds[:at]]
                for probe in [*probes(gold, others, form), *(floods() if i < _FLOODED else ())]:
                    self._try(gold, probe, form)
        self._ask_again()
        called, rows = self.grader.names[self.how], ranked([*self.rows.values()])
        return Report(name, called, tuple(usable), len(self.golds), left_out, rows, self._exhausted)

    # -- how to call it, and what it reads

    def _fit(self) -> tuple[dict[str, list[Gold]], tuple[str, ...]]:
        """The golds that are paid in full, by form, of the bare one and the best of the others; and the kinds of which none is."""
        tables = [{form: self._golds_in(form, how) for form in FORMS} for how in range(len(self.grader.names))]
        found = [_paid_in_full(scores) for scores in tables]
        totals = [sum(map(len, forms.values())) for _, forms in found]
        self.how = totals.index(max(totals))
        self.full, forms = found[self.how]
        wrapped = max((form for form in FORMS if form != BARE), key=lambda form: len(forms[form]))
        usable = {form: forms[form] for form in (BARE, wrapped) if forms[form]}
        return usable, self._judge_golds(usable, tables[self.how])

    def _golds_in(self, form: str, how: int) -> dict[Gold, Outcome]:
        return {gold: self._ask("gold itself", gold, FORMS[form].format(gold.text), how) or self.lately for gold in self.golds}

    def _judge_golds(self, usable: dict[str, list[Gold]], scores: Scores) -> tuple[str, ...]:
        taken = {gold for golds in usable.values() for gold in golds}
        refused = {gold.kind for gold in self.golds if gold.kind} - {gold.kind for gold in taken}
        left_out = tuple(dict.fromkeys(gold.kind for gold in self.golds if gold.kind in refused)) if taken else ()
        form = [*usable][-1] if usable else BARE
        for gold in self.golds:
            if gold.kind not in left_out:
                outcome = scores[form][gold]
                state = "accepted" if gold in taken else _state(outcome, math.inf)
                self._row("gold itself", MUST).add(state, _example(gold, FORMS[form].format(gold.text), outcome))
        return left_out

    # -- asking

    @property
    def _exhausted(self) -> bool:
        return self.lost.total() >= _EXHAUSTED

    def _ask(self, kind: str, gold: Gold, answer: str | None, how: int) -> Outcome | None:
        """None where it hung or died too often to be asked again."""
        if self.lost[kind] >= _TIRED or self._exhausted:
            return None
        outcome = self.grader.ask(gold.key, answer, how, gold.prompt)
        if outcome.late or outcome.died:
            self.lost[kind], self.lately = self.lost[kind] + 1, outcome
        return outcome

    def _try(self, gold: Gold, probe: Probe, form: str) -> None:
        wrap = probe.answer is not None and not probe.whole
        answer = FORMS[form].format(probe.answer) if wrap else probe.answer
        if (outcome := self._ask(probe.kind, gold, answer, self.how)) is None:
            return
        self._row(probe.kind, probe.rule).add(_state(outcome, self.full), _example(gold, answer, outcome))
        if outcome.score is not None and len(self.asked) < _AGAIN and len(answer or "") < 500:
            self.asked.append((gold, answer, outcome.score))
        if probe.swap and probe.answer and not gold.sealed and outcome.score is not None:
            self._swap(gold, probe.answer, form, _state(outcome, self.full))

    def _swap(self, gold: Gold, other: str, form: str, said: str) -> None:
        """The same two answers, the other way round."""
        kind = "gold and answer exchanged"
        back = self._ask(kind, Gold(other), FORMS[form].format(gold.text), self.how)
        if back is not None and back.score is not None:
            now = _state(back, self.full)
            example = f"gold {_short(gold.text)}, answer {_short(other)}: {said}; the other way round: {now}"
            self._row(kind, SYMMETRIC).add("agreed" if now == said else "differed", example)

    def _ask_again(self) -> None:
        """The same questions twice more, from the last to the first."""
        kind = "asked again, in another order"
        for gold, answer, before in [*reversed(self.asked)] * 2:
            if (now := self._ask(kind, gold, answer, self.how)) is not None:
                example = f"{_example(gold, answer, now)}, before {before:g}"
                same = "agreed" if now.score == before else "differed"
                self._row(kind, SAME).add(same if now.score is not None else _state(now, self.full), example)

    def _row(self, kind: str, rule: str) -> Row:
        return self.rows.setdefault((kind, rule), Row(kind, rule))


def _paid_in_full(scores: Scores) -> tuple[float, dict[str, list[Gold]]]:
    """The most that is paid for a gold, and which golds get it, by form."""
    full = max(outcome.score or 0.0 for outcomes in scores.values() for outcome in outcomes.values())
    paid = lambda outcome: full > 0 and outcome.score is not None and outcome.score >= full - _TOLERANCE  # noqa: E731
    return full, {form: [gold for gold, outcome in outcomes.items() if paid(outcome)] for form, outcomes in scores.items()}


def _state(outcome: Outcome, full: float) -> str:
    if outcome.score is None:
        return "timed out" if outcome.late else "failed"
    if outcome.score >= full - _TOLERANCE:
        return "accepted"
    return "partial" if outcome.score > 0 else "refused"


def _example(gold: Gold, answer: str | None, outcome: Outcome) -> str:
    said = outcome.why if outcome.score is None else f"score {outcome.score:g}"
    return f"gold {_short(gold.text)}, answer {_short(answer)}: {said}"


def _short(text: str | None) -> str:
    return ascii(text) if text is None or len(text) <= 60 else f"{text[:40]!a}... ({len(text):,} characters)"
