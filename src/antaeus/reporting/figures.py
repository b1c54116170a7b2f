"""Figures as inline SVG, drawn by hand: curves with bands, dots with intervals, bars of votes, the lineage.

Colours and fonts come from style.css by class, so that one drawing serves light and dark pages. Every text is escaped here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from antaeus.reporting.svg import Frame, Point, path_of, svg, tag, text, thin, ticks
from antaeus.reporting.wording import plain, visible

Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: `points` are (round, value), `band` holds (round, low, high), `style` is a CSS class.

    `end` is written after the name at the right end instead of the last value.
    """

    name: str
    points: Sequence[Point]
    style: str = "truth"
    band: Sequence[tuple[float, float, float]] = ()
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """One estimate with its interval; fractions."""

    name: str
    value: float
    low: float
    high: float
    style: str = "truth"


def line_chart(
    curves: Sequence[Curve],
    *,
    label: str,
    rounds: Point,
    size: Point = (1000, 360),
    y: Sequence[float] | None = None,
    show: Show = plain,
    alarms: Sequence[tuple[int, str]] = (),
    best: Point | None = None,
    tips: Sequence[tuple[float, str]] = (),
    margins: tuple[float, float] = (44, 150),
    unit: str = "round",
) -> str:
    """Curves against round (or another `unit`) with direct labels at their right ends.

    `y` are the ticks of the value axis (the data's own range by default), `alarms` (round, text) become marks on the round axis,
    `best` (round, value) is ringed, and `tips` (round, text) appear where the pointer is.
    """
    marks = list(y or _value_ticks(curves))
    frame = Frame(*size, *margins, 22 if best or alarms else 10, 26, rounds, (marks[0], marks[-1]))
    drawn = [_axes(frame, marks, show, unit), *(_curve(frame, c) for c in curves), _names(frame, curves, show)]
    if best:
        drawn.append(_best(frame, best))
    drawn += [_alarm(frame, *alarm) for alarm in alarms]
    if alarms and size[1] > 200:
        drawn.append(text(frame.px(alarms[0][0]), frame.py(marks[0]) - 18, "alarm", "alarm", "middle"))
    drawn += [_tip(frame, tip, tips) for tip in tips]
    return svg(frame.width, frame.height, label, drawn)


def interval_chart(
    rows: Sequence[Interval], *, label: str, show: Show, tick: Show, width: float = 560, zero: bool = False
) -> str:
    """One dot with its interval a row, on a common axis; `zero` draws the line of no difference."""
    low, high = min(r.low for r in rows), max(r.high for r in rows)
    marks = ticks(min(low, 0) if zero or low < 0.25 else low, max(high, 0) if zero else high)
    narrow = width < 420
    frame = Frame(width, 30 * len(rows) + 30, 92 if narrow else 130, 62 if narrow else 64, 4, 26, (marks[0], marks[-1]), (0, 1))
    drawn = [_interval_axis(frame, marks, tick, zero)]
    drawn += [_interval(frame, row, 20 + 30 * k, show) for k, row in enumerate(rows)]
    return svg(frame.width, frame.height, label, drawn)


def votes_bar(votes: Sequence[tuple[str | None, int]], width: float = 300, height: float = 18) -> str:
    """One prompt's votes as a bar: a segment an answer, most votes first, attempts without an answer last and hatched."""
    total = sum(n for _, n in votes) or 1
    drawn, x = [], 0.0
    for k, (answer, n) in enumerate(votes):
        w = width * n / total
        name = "no answer" if answer is None else answer
        style = "none" if answer is None else f"v{min(k, 4)}"
        body = tag("title", escape(visible(f"{name}: {n} of {total}")))
        drawn.append(tag("rect", body, cls=style, x=x, y=0, width=max(w - 1, 0.5), height=height))
        if (room := int((w - 8) / 7.2)) >= (len(name) if answer is None else min(len(name), 3)):
            drawn.append(text(x + 5, height - 5, name if len(name) <= room else name[: room - 1] + "…", f"on {style}"))
        x += w
    return svg(width, height, "votes: " + ", ".join(f"{a or 'no answer'} {n}" for a, n in votes[:4]), drawn, "bar")


def lineage_chart(versions: Sequence[dict], names: dict[str, str], width: float = 1000) -> str:
    """Versions by round, a lane lower for every branch off an older version; `names` (id -> label) says which are labelled."""
    lanes = _lanes(versions)
    last = max((v["round"] for v in versions), default=1) or 1
    frame = Frame(width, 62 + 26 * max(lanes.values(), default=0), 30, 60, 30, 32, (0, last), (0, 1))
    place = {v["id"]: (frame.px(v["round"]), 30.0 + 26 * lanes[v["id"]]) for v in versions}
    drawn = [_edge(place[v["parent"]], place[v["id"]]) for v in versions if v.get("parent") in place]
    for v in sorted(versions, key=lambda v: v["id"] in names):  # named ones last, on top
        style = "node named" if v["id"] in names else "node"
        x, y = place[v["id"]]
        body = tag("title", escape(visible(f"{v['id']}, round {v['round']}, from {v.get('parent') or 'nothing'}")))
        drawn.append(tag("circle", body, cls=style, cx=x, cy=y, r=5 if v["id"] in names else 2.5))
    named = [v["id"] for v in versions if v["id"] in names]
    for k, name in enumerate(named):  # above and below in turn, so that neighbours do not collide
        x, y = place[name]
        drawn.append(text(x, y - 13 if k % 2 == 0 else y + 22, names[name], "name", "middle"))
    return svg(frame.width, frame.height, "lineage of versions", drawn)


def _value_ticks(curves: Sequence[Curve]) -> list[float]:
    values = [v for c in curves for _, v in c.points]
    return ticks(min(0.0, min(values)), max(0.0, max(values)), 3)


def _axes(f: Frame, marks: Sequence[float], show: Show, unit: str) -> str:
    base = f.height - f.bottom
    drawn = [tag("line", cls="grid", x1=f.left, x2=f.width - f.right, y1=f.py(m), y2=f.py(m)) for m in marks]
    drawn += [text(f.left - 8, f.py(m) + 4, show(m), "tick", "end") for m in marks]
    rounds = [r for r in ticks(*f.x, 7 if f.width > 400 else 4) if f.x[0] <= r <= f.x[1] and r == int(r)]
    drawn += [tag("line", cls="axis", x1=f.px(r), x2=f.px(r), y1=base, y2=base + 4) for r in rounds]
    drawn += [
        text(f.px(r), base + 17, f"{unit} {r:g}" if k == 0 else f"{r:g}", "tick", "middle" if k else "start")
        for k, r in enumerate(rounds)
    ]
    return "".join(drawn) + tag("line", cls="axis", x1=f.left, x2=f.width - f.right, y1=base, y2=base)


def _curve(f: Frame, curve: Curve) -> str:
    if not curve.points:
        return ""
    drawn = ""
    if curve.band:
        edge = [(f.px(r), f.py(high)) for r, _, high in curve.band] + [(f.px(r), f.py(low)) for r, low, _ in reversed(curve.band)]
        drawn = tag("path", cls=f"band {curve.style}", d=path_of(edge) + "Z")
    line = [(f.px(r), f.py(v)) for r, v in thin(curve.points)]
    drawn += tag("path", cls=f"line {curve.style}", d=path_of(line))
    if len(line) == 1 or (curve.band and len(line) <= 40):
        drawn += "".join(tag("circle", cls=f"dot {curve.style}", cx=x, cy=y, r=2.8) for x, y in line)
    return drawn


def _names(f: Frame, curves: Sequence[Curve], show: Show) -> str:
    x = f.width - f.right + 8
    labels = ((y, c, c.end or show(c.points[-1][1])) for y, c in _ends(f, curves))
    return "".join(text(x, y + 4, f"{c.name} {end}".strip(), f"name {c.style}") for y, c, end in labels)


def _ends(f: Frame, curves: Sequence[Curve]) -> list[tuple[float, Curve]]:
    """Heights of the labels at the right ends, pushed apart where the curves end close to each other."""
    ends = sorted(((f.py(c.points[-1][1]), c) for c in curves if c.points), key=lambda end: end[0])
    for k in range(1, len(ends)):
        ends[k] = (max(ends[k][0], ends[k - 1][0] + 16), ends[k][1])
    excess = max(0.0, ends[-1][0] - (f.height - f.bottom)) if ends else 0.0
    return [(y - excess, c) for y, c in ends]


def _best(f: Frame, best: Point) -> str:
    x, y = f.px(best[0]), f.py(best[1])
    late = x > f.width - f.right - 60
    label = text(x + (6 if late else 0), f.top - 8, f"best, round {best[0]:g}", "name truth", "end" if late else "middle")
    return (
        tag("line", cls="best", x1=x, x2=x, y1=f.top - 3, y2=f.height - f.bottom)
        + tag("circle", cls="ring", cx=x, cy=y, r=6)
        + label
    )


def _alarm(f: Frame, at: int, why: str) -> str:
    x, base = f.px(at), f.height - f.bottom
    body = tag("title", escape(visible(f"alarm, round {at}: {why}")))
    rise = 9 if f.height > 200 else 6
    return tag(
        "path", body, cls="alarm", d=f"M{x:.1f} {base - rise * 1.4:.1f}l{rise * 0.7:.1f} {rise * 1.4:.1f}h{-rise * 1.4:.1f}Z"
    )


def _tip(f: Frame, tip: tuple[float, str], tips: Sequence[tuple[float, str]]) -> str:
    w = (f.width - f.left - f.right) / max(len(tips), 1)
    x, height = f.px(tip[0]), f.height - f.top - f.bottom
    body = tag("title", escape(visible(tip[1])))
    return tag(
        "g",
        tag("rect", body, x=x - w / 2, y=f.top, width=w, height=height) + tag("line", x1=x, x2=x, y1=f.top, y2=f.top + height),
        cls="tip",
    )


def _interval_axis(f: Frame, marks: Sequence[float], show: Show, zero: bool) -> str:
    base = f.height - f.bottom
    drawn = [tag("line", cls="grid", x1=f.px(m), x2=f.px(m), y1=f.top, y2=base) for m in marks]
    drawn += [text(f.px(m), base + 17, show(m), "tick", "middle") for m in marks]
    if zero:
        drawn.append(tag("line", cls="axis", x1=f.px(0), x2=f.px(0), y1=f.top, y2=base))
    return "".join(drawn)


def _interval(f: Frame, row: Interval, y: float, show: Show) -> str:
    body = tag("title", escape(visible(f"{row.name}: {show(row.value)}, 95 % interval {show(row.low)} to {show(row.high)}")))
    drawn = tag("line", body, cls=f"whisker {row.style}", x1=f.px(row.low), x2=f.px(row.high), y1=y, y2=y)
    drawn += tag("circle", body, cls=f"estimate {row.style}", cx=f.px(row.value), cy=y, r=5)
    drawn += text(f.left - 14, y + 4, row.name, f"name {row.style}", "end")
    return drawn + text(f.width - f.right + 14, y + 4, show(row.value), f"name {row.style}")


def _lanes(versions: Sequence[dict]) -> dict[str, int]:
    """A version stays in its parent's lane unless a sibling came first: then it opens a new lane below all others."""
    lanes: dict[str, int] = {}
    continued: set[str] = set()
    for v in versions:
        parent = v.get("parent")
        fresh = parent is None or parent not in lanes or parent in continued
        lanes[v["id"]] = (max(lanes.values()) + 1 if lanes else 0) if fresh else lanes[str(parent)]
        continued.add(parent or "")
    return lanes


def _edge(start: Point, end: Point) -> str:
    (x1, y1), (x2, y2) = start, end
    path = (
        f"M{x1:.1f} {y1:.1f}H{x2:.1f}"
        if y1 == y2
        else f"M{x1:.1f} {y1:.1f}C{(x1 + x2) / 2:.1f} {y1:.1f} {(x1 + x2) / 2:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    )
    return tag("path", cls="edge", d=path)
