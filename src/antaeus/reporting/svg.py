"""The few pieces that hand-drawn SVG needs: elements, text, round ticks, the map from data to pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from antaeus.reporting.wording import visible

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """The plotting area inside an SVG, and the map from data to pixels."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x: Point
    y: Point

    def px(self, x: float) -> float:
        low, high = self.x
        return self.left + (x - low) / ((high - low) or 1) * (self.width - self.left - self.right)

    def py(self, y: float) -> float:
        low, high = self.y
        return self.height - self.bottom - (y - low) / ((high - low) or 1) * (self.height - self.top - self.bottom)


def svg(width: float, height: float, label: str, drawn: Iterable[str], cls: str = "figure") -> str:
    return tag(
        "svg", "".join(drawn), viewBox=f"0 0 {_value(width)} {_value(height)}", cls=cls, role="img", aria_label=visible(label)
    )


def tag(name: str, content: str = "", **attributes: object) -> str:
    """One SVG element. Attribute values are escaped; `content` is markup already. cls -> class, text_anchor -> text-anchor."""
    written = (f' {"class" if k == "cls" else k.replace("_", "-")}="{_value(v)}"' for k, v in attributes.items())
    return f"<{name}{''.join(written)}>{content}</{name}>"


def text(x: float, y: float, content: str, cls: str = "", anchor: str = "start") -> str:
    return tag("text", escape(visible(content)), x=x, y=y, cls=cls, text_anchor=anchor)


def path_of(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (steps of 1, 2 or 5) that enclose [low, high], about `about` of them."""
    span = (high - low) or abs(high) or 1.0
    raw = span / max(about - 1, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = unit * next((m for m in (1, 2, 5) if m * unit >= raw * 0.999), 10)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def thin(points: Sequence[Point], most: int = 400) -> list[Point]:
    """At most about `most` points: the lowest and the highest of every stretch, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(2 * len(points) / most)
    stretches = (points[k : k + size] for k in range(0, len(points), size))
    kept = {p for s in stretches for p in (min(s, key=lambda p: p[1]), max(s, key=lambda p: p[1]))}
    return sorted(kept | {points[0], points[-1]})


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else escape(str(value))
