"""What happened round by round: the main figure, and one small panel a meter with its definition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from antaeus.guard import meters, trends, truth
from antaeus.reporting.figures import Curve, line_chart
from antaeus.reporting.reading import Record, Run
from antaeus.reporting.wording import is_number, percent, plain, points, share

FRACTION = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

_GUARDED = {
    "answer_entropy": "Answer entropy",
    "unanimous": "Prompts that teach nothing",
    "no_answer": "No answer",
    "same_answer": "Prompt independence",
    "shared_answer": "Shared answers",
    "reward_variance": "Reward variance",
    "kl_to_base": "Divergence from the base",
    "surge": "Reward and divergence jump",
    "surprise": "Surprise of the base",
    "retention": "Retention of the base's answers",
    "length": "Length",
    "length_slope": "Slope of length",
    "truncated": "Truncated",
    "repetition": "Repetition",
    "token_entropy": "Token entropy",
    "entropy_slope": "Slope of entropy",
    "judge_mean": "Judge's mean score",
    "judge_variance": "Judge's variance",
    "judge_first": "Judge prefers the first",
    "practice_accuracy": "Accuracy on practice",
    "label_accuracy": "Label accuracy",
    "reward_accuracy": "Reward accuracy",
    "reward_truth": "Reward and truth",
}
# key in events.jsonl -> (title, what it means). Keys that a recipe adds get a panel as well, under their own name.
METERS = {key: (title, (meters.DEFINITIONS | trends.DEFINITIONS | truth.DEFINITIONS)[key]) for key, title in _GUARDED.items()} | {
    "pass_gap": (
        "pass@n over pass@1",
        "Share of anchors that one of the tries answered, less the share that a single try does (tries above 1). Towards 0 while accuracy "
        "rises, diversity is lost (EVOL-RL, 2509.15194).",
    ),
    "loss": ("Loss", "The objective that was minimised; for policy gradients its level means little."),
    "grad_norm": ("Gradient norm", "Norm of the gradient before clipping; spikes come before instability."),
    "lr": ("Learning rate", "Step size of the optimiser in that round."),
    "clip_fraction": ("Clip fraction", "Share of tokens whose probability ratio was clipped in the update."),
    "kl": ("Divergence in the update", "Kullback–Leibler term of the loss, mean a token (nats)."),
}
SHARES = {"unanimous", "no_answer", "same_answer", "shared_answer", "truncated", "repetition", "judge_first", "clip_fraction"} | {
    "practice_accuracy", "label_accuracy", "reward_accuracy",
}  # fmt: skip


def best_round(run: Run) -> int | None:
    """The round that answered most anchors: the guard's choice if it is on record, else the first of the highest so far."""
    chosen = run.summary.get("anchor_best_round")
    if chosen is not None:
        return int(chosen)
    measured = _anchors(run)
    return max(measured, key=lambda e: e["anchor"]["accuracy"])["round"] if measured else None


def learning(run: Run) -> dict[str, Any] | None:
    """The main figure in two widths, what it says in words, and the alarms."""
    curves = _main_curves(run)
    if not curves:
        return None
    at = best_round(run)
    best = next(((e["round"], e["anchor"]["accuracy"]) for e in _anchors(run) if e["round"] == at), None)
    alarms = _alarms(run)
    common: dict[str, Any] = {"rounds": _rounds(run), "y": FRACTION, "show": share, "alarms": alarms, "best": best}
    common |= {"label": "accuracy on anchors, proxy reward and agreement against round", "tips": _tips(run)}
    narrow = [replace(c, name=c.name.split(" (")[0].replace("proxy reward", "proxy")) for c in curves]
    return {
        "wide": line_chart(curves, **common),
        "narrow": line_chart(narrow, **common, size=(400, 300), margins=(44, 122)),
        "names": [c.name for c in curves],
        "anchors": next((e["anchor"]["n"] for e in _anchors(run)), None),
        "scale": [plain(v) for v in _scale(_series(run, "proxy_reward")) or ()],
        "note": _divergence(run, at),
        "alarms": alarms,
    }


def panels(run: Run) -> list[dict[str, str]]:
    """One small figure a meter that was ever measured: title, svg, what it means."""
    found = dict.fromkeys(k for e in run.events for k in _measured(e))
    keys = [k for k in METERS if k in found] + [k for k in found if k not in METERS]
    drawn = ((k, _series(run, k)) for k in keys if k not in ("agreement", "proxy_reward"))
    return [_panel(run, key, points) for key, points in drawn if points]


def _panel(run: Run, key: str, series: list[tuple[int, float]]) -> dict[str, str]:
    title, meaning = METERS.get(key, (key.replace("_", " ").capitalize(), f"Reported by the recipe as {key}."))
    show = share if key in SHARES else plain
    tips = [(r, f"round {r}: {show(v)}") for r, v in series] if len(series) <= 120 else []
    alarms = [alarm for alarm in _alarms(run) if _named(key, alarm[1])]
    drawn = line_chart(
        [Curve("", series, "meter")],
        label=f"{title} against round",
        rounds=_rounds(run),
        size=(290, 130),
        show=show,
        alarms=alarms,
        tips=tips,
        margins=(46, 50),
    )
    return {"title": title, "svg": drawn, "meaning": meaning}


def _named(key: str, alarm: str) -> bool:
    title = METERS.get(key, (key,))[0]
    return any(re.search(rf"\b{re.escape(name)}\b", alarm, re.IGNORECASE) for name in (key, key.replace("_", " "), title))


def _main_curves(run: Run) -> list[Curve]:
    anchors = [(e["round"], e["anchor"]["accuracy"]) for e in _anchors(run)]
    band = [(e["round"], *e["anchor"]["ci"]) for e in _anchors(run) if e["anchor"].get("ci")]
    proxy, agreement = _series(run, "proxy_reward"), _series(run, "agreement")
    curves = [Curve("anchors", anchors, "truth", band)]
    if proxy and proxy == agreement:
        return _drawable([*curves, Curve("proxy reward (agreement)", proxy, "proxy")])
    return _drawable([*curves, _rescaled(Curve("proxy reward", proxy, "proxy")), Curve("agreement", agreement, "agreement")])


def _drawable(curves: list[Curve]) -> list[Curve]:
    return [c for c in curves if c.points]


def _rescaled(curve: Curve) -> Curve:
    """A reward that leaves [0, 1] shares the panel after stretching its own range to it; `learning` says so."""
    scale = _scale(curve.points)
    if scale is None:
        return curve
    low, high = scale
    stretched = [(r, (v - low) / ((high - low) or 1.0)) for r, v in curve.points]
    return replace(curve, points=stretched, end=plain(curve.points[-1][1]))


def _scale(points: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    values = [v for _, v in points]
    return (min(values), max(values)) if values and (min(values) < 0 or max(values) > 1) else None


def _divergence(run: Run, best: int | None) -> str | None:
    """A sentence where the proxy kept rising while the anchors fell out of the best round's interval."""
    measured, proxy = _anchors(run), dict(_series(run, "proxy_reward"))
    start = next((e for e in measured if e["round"] == best), None)
    last = measured[-1] if measured else None
    if not start or not last or best not in proxy or last["round"] not in proxy:
        return None
    fall = last["anchor"]["accuracy"] - start["anchor"]["accuracy"]
    floor = (start["anchor"].get("ci") or [start["anchor"]["accuracy"]])[0]
    if last["anchor"]["accuracy"] >= floor or proxy[last["round"]] <= proxy[best]:
        return None
    reward = f"the proxy reward rose from {plain(proxy[best])} to {plain(proxy[last['round']])}"
    return f"From round {best} to round {last['round']} {reward} while the anchors changed by {points(fall)} points."


def _tips(run: Run) -> list[tuple[int, str]]:
    shown = run.events[:: len(run.events) // 200 + 1]
    return [(e["round"], "\n".join([f"round {e['round']}", *_said(e), *(e.get("alarms") or ())])) for e in shown]


def _said(event: Record) -> list[str]:
    anchor, meters = event.get("anchor"), event.get("meters") or {}
    said = [f"anchors {percent(anchor['accuracy'])} ({anchor['correct']} of {anchor['n']})"] if anchor else []
    names = {"proxy_reward": "proxy reward", "agreement": "agreement"}
    return said + [f"{label} {plain(meters[key])}" for key, label in names.items() if is_number(meters.get(key))]


def _anchors(run: Run) -> list[Record]:
    return [e for e in run.events if e.get("anchor") and is_number(e["anchor"].get("accuracy"))]


def _series(run: Run, key: str) -> list[tuple[int, float]]:
    values = ((e["round"], _measured(e).get(key)) for e in run.events)
    return [(r, v) for r, v in values if is_number(v)]


def _measured(event: Record) -> Record:
    """All numbers of a round by name."""
    anchor = event.get("anchor") or {}
    gap = {"pass_gap": anchor["any"] - anchor["accuracy"]} if is_number(anchor.get("any")) else {}
    return {**(event.get("train") or {}), **(event.get("meters") or {}), **gap}


def _alarms(run: Run) -> list[tuple[int, str]]:
    return [(e["round"], str(why)) for e in run.events for why in e.get("alarms") or ()]


def _rounds(run: Run) -> tuple[float, float]:
    return (run.events[0]["round"], max(run.rounds_done, run.events[0]["round"] + 1))
