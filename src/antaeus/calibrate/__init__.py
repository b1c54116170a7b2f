"""The instrument measures itself: how often the gate is wrong and how early alarms ring, on runs whose outcome is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

AGAIN = 20  # samplings of the base for each seed of the drives


def calibrate(model: str, seeds: int, records: Path, page: Path, lineages: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Make the runs that are missing in `records` (all drives x `seeds`; 0 = none), and write all figures into `page`."""
    from antaeus.calibrate import page as pages
    from antaeus.calibrate import runs
    from antaeus.calibrate.drives import drives

    there = {(r["model"], r["drive"], r["seed"]) for r in runs.read(records)}
    wanted = [(name, seed) for seed in range(seeds) for name in drives(model)]
    wanted += [("again", seed) for seed in range(AGAIN * seeds)]
    missing = [(name, seed) for name, seed in wanted if (model, name, seed) not in there]
    if missing:
        from antaeus.engine.local import LocalEngine

        engine = LocalEngine(model, seed=0)
        for done, (name, seed) in enumerate(missing, 1):
            record = runs.again(engine, model, seed) if name == "again" else runs.run(engine, model, name, seed)
            runs.write(records, [record])
            say(f"{done} of {len(missing)}: {name}, seed {seed}")
    found = pages.figures(runs.read(records), lineages)
    pages.write(page, found)
    return found
