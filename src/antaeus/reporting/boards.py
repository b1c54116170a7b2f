"""Grids of coloured cells as small SVG, of bounded size however large the grid is. ARC's ten colours are in style.css."""

from __future__ import annotations

from itertools import groupby

from antaeus.grids import LARGEST, Grid
from antaeus.reporting.svg import tag

SIDE = 110  # pixels: the longest side of a drawing, unless told otherwise
CELL = 14  # and of a cell, so that small grids are not blown up


def board(grid: Grid, label: str, side: int = SIDE) -> str:
    """A grid as a picture; in words where it is larger than puzzles have them. The background is colour 0, so that it costs nothing."""
    rows, columns = len(grid), len(grid[0])
    if max(rows, columns) > LARGEST:
        return tag("span", f"{rows:,} × {columns:,} cells, too large to draw", cls="empty")
    runs = (tag("path", cls=f"k{colour}", d="".join(strokes)) for colour, strokes in sorted(_runs(grid).items()) if colour)
    drawn = [tag("rect", cls="k0", width=columns, height=rows), tag("g", "".join(runs), transform="translate(0 .5)")]
    drawn.append(tag("path", cls="lines", d=_lines(rows, columns)))
    width = columns * min(CELL, side / max(rows, columns))
    told = {"role": "img", "aria_label": f"{label}, {rows} × {columns} cells"}
    return tag("svg", "".join(drawn), viewBox=f"0 0 {columns} {rows}", cls="board", style=f"width:{width:.0f}px", **told)


def _runs(grid: Grid) -> dict[int, list[str]]:
    """Cells by colour, equal neighbours of a row as one stroke along its middle: half the bytes of squares."""
    found: dict[int, list[str]] = {}
    for y, row in enumerate(grid):
        x = 0
        for colour, run in groupby(row):
            n = len(list(run))
            found.setdefault(colour, []).append(f"M{x} {y}h{n}")
            x += n
    return found


def _lines(rows: int, columns: int) -> str:
    across = (f"M0 {y}h{columns}" for y in range(rows + 1))
    return "".join((*across, *(f"M{x} 0v{rows}" for x in range(columns + 1))))
