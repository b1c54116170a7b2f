"""Many whole runs in one process, each recorded in a line from which every figure can be computed again without the model."""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from antaeus.calibrate.drives import drives
from antaeus.config import RunConfig
from antaeus.engine.base import Engine, Sampling
from antaeus.engine.models import resolve
from antaeus.loop import improve
from antaeus.propose.sets import load
from antaeus.sitting import Custody, sealing
from antaeus.solve.rollout import rollout
from antaeus.store.run import RunDir
from antaeus.verify.ground import ground

Record = dict[str, Any]
"""One run: what it was, the meters by round, the anchors it had right, the exam task by task, the guard's decision."""


def run(engine: Engine, model: str, name: str, seed: int) -> Record:
    """One run from the base through the loop that every user runs, its alarms noted and not obeyed."""
    began, drive, lab = time.monotonic(), drives(model)[name], model == "lab"
    sizes: dict[str, Any] = {"n_anchor": 200 if lab else 128}
    tasks = drive.tasks(load("add2", seed=seed, **sizes), load(drive.practice, seed=seed))
    engine.load(None)
    recipe = drive.recipe(**drive.settings)
    config = RunConfig(model=model, tasks=tasks.name, seed=seed, anchor_every=1 if lab else 2, on_alarm="note")
    custody = Custody(
        Path(resolve(model)), {"tasks": "as they are"}, lambda: {"tasks": "as they are"}
    )  # nobody else is in this process
    with sealing(tasks, (), config.tries, recipe.temperature, custody) as sealed, tempfile.TemporaryDirectory() as folder:
        with closing(RunDir(Path(folder))) as directory:
            summary = improve(config, recipe, engine, sealed, directory, lambda *_: None, lambda: False)
        events, attempts = (_lines(Path(folder) / f"{log}.jsonl") for log in ("events", "attempts"))
    return {
        "model": model, "drive": name, "kind": drive.kind, "seed": seed, "settings": asdict(recipe),
        "meters": columns([e["meters"] for e in events if e["meters"]]),
        "anchors": [[e["round"], e["anchor"]["correct"], e["anchor"]["n"]] for e in events if e["anchor"]],
        "exam": {version: _marks(attempts, version) for version in dict.fromkeys(a["version"] for a in attempts if a["set"] == "exam")},
        "decision": summary["decision"], "promoted": summary["promoted_version"], "p_value": summary["exam"]["p_value"],
        "seconds": round(time.monotonic() - began, 2),
    }  # fmt: skip


def again(engine: Engine, model: str, seed: int) -> Record:
    """The base itself at the exam, sampled at temperature 1: two of these differ by chance alone."""
    engine.load(None)
    tasks = load("add2", seed=0, n_exam=400 if model == "lab" else 200)
    groups = rollout(engine, tasks.exam, Sampling(1, tasks.max_tokens, stop=tasks.stop), seed=f"again/{seed}", read=tasks.extract)
    marks = "".join("1" if ground(group, tasks.exam_vault)[0].score == 1.0 else "0" for group in groups)
    return {"model": model, "drive": "again", "kind": "again", "seed": seed, "exam": {"base": marks}}


def columns(meters: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Meters by round as one list a meter, in four significant digits."""
    return {name: [float(f"{m[name]:.4g}") for m in meters] for name in meters[0]} if meters else {}


def rounds(record: Record) -> list[dict[str, float]]:
    """The meters of a record by round, as alarms take them."""
    return [dict(zip(record["meters"], values, strict=True)) for values in zip(*record["meters"].values(), strict=True)]


def write(path: Path, records: Iterable[Record]) -> None:
    """Append records to a compressed JSON-lines file."""
    with gzip.open(path, "at", encoding="utf-8") as out:
        out.writelines(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


def read(path: Path) -> list[Record]:
    """All records of a file, none where it is not there yet."""
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _marks(attempts: Sequence[Record], version: str) -> str:
    """A version's exam, one character a task in order: 1 right, 0 wrong, - not graded."""
    of = {1.0: "1", 0.0: "0", None: "-"}
    rows = (a["attempts"][0]["verdict"]["score"] for a in attempts if a["set"] == "exam" and a["version"] == version)
    return "".join(of[score] for score in rows)


def _lines(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
