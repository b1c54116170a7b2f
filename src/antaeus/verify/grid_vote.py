"""Votes on grids in two steps, first among the answers under one view of a puzzle, then among views (2411.07279)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from antaeus.grids import Grid

CANDIDATES = 3  # of each view


def vote(views: Sequence[Sequence[Grid | None]], most: int) -> list[Grid]:
    """The `most` grids that most views have among their three most frequent answers; of equals the one that was answered more often, then
    the one seen first. Fewer where there are fewer.

    `views` holds, of each view, the answers with the view taken back; None, no grid, never votes. The paper fills up to three with grids
    pieced together of the most frequent rows, or columns: of fewer than three different answers, these are the most frequent one again.
    """
    answers = [[grid for grid in view if grid is not None] for view in views]
    said = Counter(grid for view in answers for grid in view)
    chosen = Counter(grid for view in answers for grid, _ in Counter(view).most_common(CANDIDATES))
    return sorted(chosen, key=lambda grid: (-chosen[grid], -said[grid]))[:most]
