"""Two pictures for a page that has no style sheet: bars and curves as SVG that carries its own looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from antaeus.reporting.svg import Frame, path_of, tag

WIDTH, INK, PALE, OURS = 760, "#5b6470", "#d5dae0", "#0a7d5a"
SHADES = ("#0a7d5a", "#3b7dd8", "#b0641a", "#8a3ffc", "#a02050")


def bars(shares: Mapping[str, float]) -> str:
    """A bar for each rule, labelled with its share in percent; the line is at 5 %."""
    row, left = 34, 220
    f = Frame(WIDTH, row * len(shares) + 50, left, 70, 10, 40, (0, 1), (0, 1))
    drawn = [tag("line", x1=f.px(0.05), x2=f.px(0.05), y1=4, y2=row * len(shares) + 8, stroke=INK, stroke_dasharray="3 3")]
    drawn.append(_text(f.px(0.05), row * len(shares) + 24, "5 %", "middle"))
    for i, (name, share) in enumerate(shares.items()):
        y = 10 + i * row
        width = max(1.0, f.px(share) - left)
        drawn.append(tag("rect", x=left, y=y, width=width, height=row - 12, fill=OURS if i == 0 else PALE))
        drawn.append(_text(left - 8, y + 16, name, "end"))
        drawn.append(_text(left + width + 6, y + 16, f"{100 * share:.1f} %"))
    return _svg(f, "Share of lineages of 50 no-effect proposals in which a rule accepts at least one", drawn)


def curves(power: Sequence[Mapping[str, Any]]) -> str:
    """Share promoted, as the only proposal (solid) and as one of fifty (dashed), by true gain, one colour for each discordance."""
    f = Frame(WIDTH, 360, 60, 150, 16, 46, (0, 10), (0, 1))
    drawn = [tag("line", x1=f.left, x2=f.px(10), y1=f.py(y), y2=f.py(y), stroke=PALE) for y in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    drawn += [_text(f.left - 8, f.py(y) + 4, f"{y:.0%}", "end") for y in (0, 0.2, 0.4, 0.6, 0.8, 1)]
    drawn += [_text(f.px(x), f.py(0) + 18, str(x), "middle") for x in (0, 2, 4, 5, 6, 8, 10)]
    drawn.append(_text(f.px(5), f.py(0) + 36, "true gain, points, on 400 tasks", "middle"))
    for shade, changed in zip(SHADES, sorted({r["discordance"] for r in power}), strict=False):
        rows = [r for r in power if r["discordance"] == changed]
        for how, dash in (("alone", "none"), ("one", "5 4")):
            path = path_of([(f.px(100 * r["gain"]), f.py(r[how]["share"])) for r in rows])
            drawn.append(tag("path", d=path, fill="none", stroke=shade, stroke_width=2, stroke_dasharray=dash))
        place = SHADES.index(shade)
        drawn.append(_text(f.px(10) + 12, 40 + 20 * place, f"{changed:.0%} of tasks change", fill=shade))
    drawn.append(_text(f.px(10) + 12, 160, "solid: alone"))
    drawn.append(_text(f.px(10) + 12, 178, "dashed: one of 50"))
    return _svg(f, "Share of true gains that are promoted", drawn)


def _text(x: float, y: float, content: str, anchor: str = "start", fill: str = INK) -> str:
    return tag("text", escape(content), x=round(x, 1), y=round(y, 1), text_anchor=anchor, fill=fill)


def _svg(f: Frame, label: str, drawn: Sequence[str]) -> str:
    look = {"font_family": "system-ui, sans-serif", "font_size": 13, "role": "img", "aria_label": label}
    return tag("svg", "".join(drawn), xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {f.width} {f.height}", **look) + "\n"
