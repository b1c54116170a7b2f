"""Methods side by side on equal footing: the same model, tasks, seeds and token budget, each with its controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from antaeus.league.plans import plan
from antaeus.league.rows import table
from antaeus.league.running import run_all


def league(
    recipes: Sequence[str], folder: Path, *, tasks: Sequence[str] = ("add2",), seeds: int = 3, budget: int = 0,
    given: Mapping[str, Any] | None = None, say: Callable[[str], None] = lambda line: None, stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:  # fmt: skip
    """Run what is missing of `recipes` x `tasks` x `seeds`, with controls and the reference `rlvr`, under `folder`, each until
    `budget` tokens were sampled and trained on (0: for its own number of rounds); and return the league table, which is written there
    too, as league.json and league.html.

    `given` holds keys of all runs, or of one recipe's as "recipe.key". Raises `UserError` for what cannot be run at all; a recipe that
    refuses model or tasks is listed with its reason. Raises `antaeus.loop.Interrupted` once `stop()` is true; called again, it goes on.
    """
    from antaeus.league.page import write

    entries = plan(recipes, tasks, seeds, budget, given or {})
    refused = run_all(entries, folder, say, stop)
    found = {"budget": budget or None, "seeds": seeds, "rows": table(entries, folder), "refused": refused}
    write(found, entries, folder)
    return found
