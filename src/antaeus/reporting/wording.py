"""Numbers as words, the verdict as a sentence, and model-written text made visible."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, TypeGuard

from antaeus.reporting.reading import Run

# Control characters, line separators, bidirectional and zero-width marks, lone surrogates, tag characters: everything that could
# hide, reorder or forge what a reader sees. Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji need them.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e01ef]"
)
_CONTROLS = [
    "NUL",
    "SOH",
    "STX",
    "ETX",
    "EOT",
    "ENQ",
    "ACK",
    "BEL",
    "BS",
    "HT",
    "LF",
    "VT",
    "FF",
    "CR",
    "SO",
    "SI",
    "DLE",
    "DC1",
    "DC2",
    "DC3",
    "DC4",
    "NAK",
    "SYN",
    "ETB",
    "CAN",
    "EM",
    "SUB",
    "ESC",
    "FS",
    "GS",
    "RS",
    "US",
]


def visible(text: object) -> str:
    """`text` with every character that a reader could not see replaced by its name: ⟨NUL⟩, ⟨ESC⟩, ⟨U+202E⟩."""
    return _UNSEEN.sub(_mark, str(text))


def _mark(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"⟨{_CONTROLS[code] if code < len(_CONTROLS) else f'U+{code:04X}'}⟩"


def clip(text: str, limit: int) -> tuple[str, int]:
    """(text, characters left out): a text over `limit` keeps its first three quarters and, as answers stand last, its end."""
    if len(text) <= limit:
        return text, 0
    head = limit * 3 // 4
    missing = len(text) - limit
    return f"{text[:head]}\n[… {missing:,} characters left out …]\n{text[head + missing :]}", missing


def is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max  # NaN is not


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %".replace("-", "−")


def share(fraction: float) -> str:
    """A fraction on an axis, where a decimal that says nothing is dropped: 20 %, 2.5 %."""
    return f"{round(100 * fraction, 1):g} %".replace("-", "−")


def points(difference: float) -> str:
    """A difference of two fractions in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−") if round(100 * difference, 1) else "0.0"


def p_value(p: float) -> str:
    return f"{p:.2g}" if p > 0 else "0"


def plain(value: float) -> str:
    """A number of any size in at most three digits: 0.613, 3e-6, 12,400."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return re.sub(r"e([+-])0*", lambda m: "e" + m[1].strip("+"), f"{value:.3g}").replace("-", "−", value < 0)


def duration(seconds: float) -> str:
    s = round(seconds)
    if s < 60:
        return f"{seconds:.1f} s"
    return f"{s // 60} min {s % 60:02d} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60:02d} min"


LEAD = {
    "promote": "Promoted",
    "reject": "Rejected, the base stays",
    "undecided": "Undecided, the base stays",
    "roll back": "Rolled back",
    "stop": "Stopped",
}


def verdict(run: Run, candidate: str | None) -> str:
    """The outcome in one sentence. `candidate` is the version that was held against the base."""
    if not run.finished:
        return f"Unfinished: {_so_far(run)} Nothing is decided."
    action = LEAD.get(run.summary["decision"], str(run.summary["decision"]).capitalize())
    exam = run.summary.get("exam")
    if not exam or candidate == "base":
        return f"{action}: {str(run.summary.get('why') or 'no reason recorded').rstrip('.')}."
    return f"{action}: {compared(candidate or 'the candidate', exam)}."


def compared(candidate: str, exam: dict[str, Any]) -> str:
    """What the exam showed of `candidate`, with the interval and the test that the summary holds."""
    low, high = exam["ci"]
    gain = points(exam["after"] - exam["before"])
    evidence = f"{gain} points, 95 % interval {points(low)} to {points(high)}, {test_of(exam)} p = {p_value(exam['p_value'])}"
    who = f"{candidate} answers {percent(exam['after'])} of {exam['n']:,} unseen exam tasks"
    return f"{who} where the base answers {percent(exam['before'])} ({evidence})"


def way_of(summary: Mapping[str, Any]) -> str:
    """What a reader has to know where a way of answering was judged, and not weights alone; else nothing."""
    if not summary.get("way") or not summary.get("anchor_best_round"):
        return ""
    what = f"a way of answering ({summary['way']}) at a cost of its own"
    if summary.get("tokens_trained"):
        return f"What was judged is the version's weights with {what}; loaded elsewhere they answer plainly."
    return f"What was judged is {what}: nothing was learned, and the version holds the weights of the base."


def test_of(exam: dict[str, Any]) -> str:
    """The name of the test behind an exam's p-value, see `guard.evidence.compare`."""
    return "exact McNemar" if exam.get("tries", 1) == 1 else "sign-flip and e-value"


def _so_far(run: Run) -> str:
    planned = run.fact("rounds")
    done = f"{run.rounds_done} of {planned} rounds" if is_number(planned) else f"{run.rounds_done} rounds"
    measured = [e for e in run.events if e.get("anchor")]
    if not measured:
        return f"{done} done, nothing measured yet."
    best = max(measured, key=lambda e: e["anchor"]["accuracy"])
    text = f"{done} done; the best so far, round {best['round']}, answers {percent(best['anchor']['accuracy'])} of"
    text += f" {best['anchor']['n']:,} anchors"
    return text + (f" where the base answers {percent(measured[0]['anchor']['accuracy'])}." if measured[0]["round"] == 0 else ".")
