"""A map of shares as inline SVG: rows of cells, the darker the higher, with the share in each where there is room for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from antaeus.reporting.svg import svg, tag, text
from antaeus.reporting.wording import percent, visible

TOP, LEGEND, EDGE = 36.0, 34.0, 14.0  # heights above and below the map; what is left free at its right
WIDEST, HIGHEST, LOWEST, ALL = 56.0, 26.0, 12.0, 620.0  # of a cell; and the height that rows share before they reach the lowest
ROOM = (22, 15)  # that a number in a cell needs
TITLE = 40  # characters of a column's title in a tip
STEPS = (1, 2, 5, 10, 20)  # between columns that are numbered


@dataclass(frozen=True, slots=True)
class Cell:
    """A share of right answers, None where it was not measured; `fresh` where the passage was just studied."""

    share: float | None
    fresh: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A version with a cell for each passage."""

    name: str
    cells: tuple[Cell, ...]
    refused: bool


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the cells lie."""

    left: float
    w: float
    h: float

    def box(self, i: int, j: int, n: int = 1, inset: float = 0.0) -> dict[str, Any]:
        """Row i from column j on, n columns, drawn in by `inset`."""
        x, y = self.left + j * self.w + inset, TOP + i * self.h + inset
        return {"x": x, "y": y, "width": n * self.w - 2 * inset, "height": self.h - 2 * inset}


def heat_map(rows: Sequence[Row], columns: Sequence[tuple[int, str]], width: float, tips: bool = True) -> str:
    """Rows against columns (number, title). `tips` tell what a cell is where the pointer is."""
    left = 26.0 + 6.4 * max(len(row.name) for row in rows)
    place = _Place(left, min(WIDEST, (width - left - EDGE) / len(columns)), min(HIGHEST, max(LOWEST, ALL / len(rows))))
    fresh = ((i, j) for i, row in enumerate(rows) for j, cell in enumerate(row.cells) if cell.fresh)
    below = TOP + place.h * len(rows)
    drawn = [
        text(left, 12, "passage", "tick"),
        _numbers(place, columns),
        *(_row(place, i, row, columns, tips) for i, row in enumerate(rows)),
        *(tag("rect", cls="fresh", **place.box(*at, inset=0.8)) for at in fresh),  # on top of what is around them
        _legend(left, below + 14),
    ]
    return svg(width, below + LEGEND, f"right answers of {len(rows)} versions on {len(columns)} passages", drawn)


def _numbers(place: _Place, columns: Sequence[tuple[int, str]]) -> str:
    step = next((s for s in STEPS if s * place.w >= 20), STEPS[-1])
    named = ((j, number) for j, (number, _) in enumerate(columns) if j % step == 0)
    return "".join(text(place.left + (j + 0.5) * place.w, TOP - 8, str(number), "tick", "middle") for j, number in named)


def _row(place: _Place, i: int, row: Row, columns: Sequence[tuple[int, str]], tips: bool) -> str:
    name, style = (f"✕ {row.name}", "tick alarm") if row.refused else (row.name, "tick")
    drawn = text(place.left - 8, TOP + (i + 0.5) * place.h + 4, name, style, "end")
    for j, (cell, (number, title)) in enumerate(zip(row.cells, columns, strict=True)):
        drawn += _cell(place.box(i, j), cell, f"{row.name}, passage {number}, {title[:TITLE]}" if tips else "")
    return drawn + (tag("rect", cls="refused", **place.box(i, 0, len(columns))) if row.refused else "")


def _cell(box: dict[str, Any], cell: Cell, tip: str) -> str:
    share = "not measured" if cell.share is None else percent(cell.share)
    body = tag("title", escape(visible(f"{tip}: {share}{', just studied' if cell.fresh else ''}"))) if tip else ""
    if cell.share is None:
        return tag("rect", body, cls="none", **box)
    return tag("rect", body, cls="heat", fill_opacity=f"{cell.share:.2f}", **box) + _number(box, cell.share)


def _number(box: dict[str, Any], share: float) -> str:
    """The share in per cent, where there is room for it, in a colour that can be read on its shade."""
    if box["width"] < ROOM[0] or box["height"] < ROOM[1]:
        return ""
    style = "on full" if share >= 0.8 else "on mid" if share >= 0.6 else "on"
    return text(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + 4, f"{100 * share:.0f}", style, "middle")


def _legend(x: float, y: float) -> str:
    boxes = [{"x": x + 32 + 18 * k, "y": y, "width": 18, "height": 11} for k in range(6)]
    swatches = "".join(tag("rect", cls="heat", fill_opacity=f"{k / 5:.2f}", **box) for k, box in enumerate(boxes))
    return text(x, y + 10, "0 %", "tick") + swatches + text(x + 146, y + 10, "100 % right", "tick")
