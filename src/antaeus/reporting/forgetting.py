"""What versions that studied passage after passage still know of each: `summary.json`'s `forgetting` as a map, and in a sentence."""

from __future__ import annotations

from typing import Any

from antaeus.reporting.edits import short
from antaeus.reporting.heatmap import Cell, Row, heat_map
from antaeus.reporting.reading import Record, Run, inside, listed
from antaeus.reporting.wording import is_number, percent, points, share

MOST = 65  # rows, and columns, of a map: 64 passages and the base
TITLE, NAME, NAMED = 100, 12, 24  # characters of a passage's title and of a version's name; refused versions named in the text


def forgetting(run: Run) -> dict[str, Any] | None:
    """For the page, of a run with such a matrix; None for another."""
    found = inside(run.summary, "forgetting")
    titles, versions = listed(found, "passages"), listed(found, "versions")
    if not titles or not versions or not listed(found, "matrix"):
        return None
    across, refused = spread(len(titles)), {short(version, NAME) for version in listed(found, "refused")}
    rows = [_row(found, i, across, refused) for i in spread(len(versions))]
    columns = [(j + 1, short(titles[j], TITLE)) for j in across]
    return {
        "wide": heat_map(rows, columns, 1000), "narrow": heat_map(rows, columns, 370, tips=False), "said": _said(found),
        "of": (len(versions), len(titles)), "shown": (len(rows), len(columns)), "refused": sorted(refused)[:NAMED],
        "more_refused": max(0, len(refused) - NAMED), "passages": _passages(found, rows, columns),
    }  # fmt: skip


def spread(n: int, most: int = MOST) -> list[int]:
    """The places of `n` things, at most `most` of them, evenly, the first and the last included."""
    return list(range(n)) if n <= most else [round(i * (n - 1) / (most - 1)) for i in range(most)]


def _row(found: Record, i: int, across: list[int], refused: set[str]) -> Row:
    name, matrix, studied = short(listed(found, "versions")[i], NAME), listed(found, "matrix"), listed(found, "studied")
    shares, at = (rows[i] if i < len(rows) else None for rows in (matrix, studied))
    fresh = {j for j in (at if isinstance(at, list) else [at]) if isinstance(j, int) and not isinstance(j, bool)}
    return Row(name, tuple(Cell(_share(shares, j), j in fresh) for j in across), name in refused)


def _share(shares: Any, j: int) -> float | None:
    value = shares[j] if isinstance(shares, list) and j < len(shares) else None
    return float(value) if is_number(value) and 0 <= value <= 1 else None


def _said(found: Record) -> str:
    """The means in words, as far as they are on record. They are over passages, as the run counted them."""
    now, end, base, first_now, first_end = (
        found.get(key) for key in ("immediate", "retained", "base", "first_half_immediate", "first_half_retained")
    )
    said = []
    if is_number(now) and is_number(end):
        said.append(
            f"Right after a passage was studied, {percent(now)} of its questions are answered without it; at the end of the run, "
            f"{percent(end)} ({points(end - now)} points)"
        )
    if is_number(base):
        said.append(f"the base, which studied nothing, answers {percent(base)}")
    if is_number(first_now) and is_number(first_end):
        said.append(
            f"of the passages in the first half, it was {percent(first_now)} at first and is {percent(first_end)} at the end"
        )
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}. All are means over passages." if said else ""


def _passages(found: Record, rows: list[Row], columns: list[tuple[int, str]]) -> list[dict[str, Any]]:
    """The map in figures, by passage: in the base, right after it was studied first, and at the end; refused versions left out."""
    asked, kept = listed(found, "questions"), [row for row in rows if not row.refused] or rows
    table = []
    for k, (number, title) in enumerate(columns):
        fresh = next((row.cells[k].share for row in kept if row.cells[k].fresh), None)
        n = asked[number - 1] if number <= len(asked) else None
        shares = (rows[0].cells[k].share, fresh, kept[-1].cells[k].share)
        told = ["" if value is None else share(value) for value in shares]
        table.append({"number": number, "title": title, "questions": n if is_number(n) else "", "shares": told})
    return table
