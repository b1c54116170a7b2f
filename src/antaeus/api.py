"""The functions behind the command line, for Python. Bad input raises `antaeus.errors.UserError`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antaeus import config as configuration
from antaeus.config import RunConfig
from antaeus.errors import UserError
from antaeus.recipes import RECIPES
from antaeus.recipes.base import Recipe
from antaeus.store import place
from antaeus.types import TaskSet

if TYPE_CHECKING:
    from antaeus.guard.findings import Finding

Watch = Callable[[str, Mapping[str, Any]], None]
Rows = list[dict[str, Any]]


def _ignore(kind: str, about: Mapping[str, Any]) -> None:
    pass


def run(
    recipe: str = "", *, run_dir: str | Path | None = None, config: str | Path | None = None, watch: Watch = _ignore,
    interrupt: Callable[[], bool] = lambda: False, dry_run: bool = False, **given: Any,
) -> dict[str, Any]:  # fmt: skip
    """Improve a model by `recipe` and return the run's summary (see `summary.json` in docs/architecture.md).

    `given` holds keys of the run (model, tasks, seed, ...) and of the recipe (rounds, prompts, samples, lr, ...). `run_dir` is made;
    it may not hold another run. With `dry_run` everything is checked and loaded, and nothing is run or written.
    """
    from antaeus.preparing import refuse_long, refuse_mitigation, refuse_spent_lineage, refuse_unsound_grader, tasks_for

    settings, method = configuration.configure(recipe, given, Path(config) if config else None)
    refuse_mitigation(settings, method)
    tasks = tasks_for(settings, method)
    folder, text = Path(run_dir) if run_dir else place.fresh(method.name), configuration.write(settings, method)
    place.refuse_used(folder, text)
    refuse_unsound_grader(tasks)
    engine = _engine(settings)
    method.refuse(tasks, engine)
    refuse_long(tasks, engine, 0 if method.inference else method.sampling(tasks).max_tokens)
    refuse_spent_lineage(settings, tasks)
    if dry_run:
        return _plan(settings, method, tasks, engine)
    place.claim(folder, text)
    try:
        return _improve(settings, method, tasks, engine, folder, watch, interrupt)
    except UserError:
        place.release(folder)
        raise


def resume(run_dir: str | Path, *, watch: Watch = _ignore, interrupt: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Carry on a run that was interrupted or killed, to the result it would have had. A finished run is returned as it is."""
    from antaeus.preparing import refuse_changed_tasks, tasks_for

    folder = Path(run_dir)
    if not (folder / "config.toml").is_file():
        raise UserError(f"{folder}: not a run directory (it has no config.toml)")
    if (folder / "summary.json").is_file():
        return {**json.loads((folder / "summary.json").read_text(encoding="utf-8")), "run_dir": str(folder)}
    settings, method = configuration.configure("", {}, folder / "config.toml")
    tasks = tasks_for(settings, method)
    refuse_changed_tasks(folder, tasks)
    return _improve(settings, method, tasks, _engine(settings), folder, watch, interrupt)


def list(recipe: str = "") -> dict[str, Any]:
    """All recipes with a line each; or the keys of one recipe with default, help and range."""
    if not recipe:
        return {name: {"rung": r.rung, "source": r.source.value, "title": r.title} for name, r in RECIPES.items()}
    if recipe not in RECIPES:
        raise UserError(f"unknown recipe {recipe!r}{configuration.suggest(recipe, RECIPES)}; there are {', '.join(RECIPES)}")
    return {
        f.name: {"default": f.default, **f.metadata} for kind in (RECIPES[recipe], RunConfig) for f in dataclasses.fields(kind)
    }


def report(run_dir: str | Path, control: str | Path | None = None) -> Path:
    """Write `report.html` of a run, finished or not, and return its path. With the folder of a control run on the same model and
    tasks, the page shows the gain less the control's."""
    from antaeus.reporting.page import write_report

    return write_report(Path(run_dir), Path(control) if control else None)


def compare(*run_dirs: str | Path) -> Rows:
    """Finished runs side by side, a row each: exam before and after, the gain, and the gain less that of each control run among
    them, with intervals."""
    from antaeus.reporting.against import table

    return table([Path(folder) for folder in run_dirs])


def eval(model: str, tasks: str, **given: Any) -> dict[str, Any]:
    """Accuracy of a model (a name, a folder, a version of a run) on the exam tasks of a set, with its interval: greedy, or the mean
    of `tries` sampled attempts each."""
    from antaeus.guard.gate import tally
    from antaeus.preparing import load_tasks
    from antaeus.sitting import Custody, sealing

    settings, _ = configuration.configure("ttrl", {**given, "model": model, "tasks": tasks})
    with sealing(load_tasks(settings), (), settings.tries, 1.0, Custody(Path(), {}, dict)) as sealed:
        _, rows = sealed.take(_engine(settings), sealed.tasks.exam)
    return {"model": model, "tasks": sealed.tasks.name, **tally(rows)}


def score_service(tasks: str, socket: str | Path, *, budget: int = 20, watch: Watch = _ignore, **given: Any) -> None:
    """Score submissions at the anchors of `tasks` over the Unix socket `socket` until interrupted, see `antaeus.guard.outside`."""
    from antaeus.guard.outside import listening
    from antaeus.guard.service import ScoreService
    from antaeus.preparing import load_tasks

    settings, _ = configuration.configure("ttrl", {**given, "tasks": tasks})
    loaded = load_tasks(settings)
    with ScoreService(loaded, budget=budget) as service:
        loaded = service.seal(loaded)
        with listening(service, loaded.anchor, socket) as server:
            watch("listening", {"socket": str(socket), "tasks": len(loaded.anchor), "budget": budget, "step": service.step})
            server.serve_forever()


def audit(run_dir: str | Path) -> Sequence[Finding]:
    """Whether a finished run's result may be believed: findings, the worst first (see `antaeus.guard.audit`). The model it started
    from and its tasks are looked up again; where they are gone, that is a finding."""
    from antaeus.engine.models import fetch
    from antaeus.guard.audit import audit
    from antaeus.guard.findings import Finding, worst_first
    from antaeus.guard.seals import seals
    from antaeus.preparing import tasks_for

    folder = Path(run_dir)
    if not (folder / "config.toml").is_file():
        raise UserError(f"{folder}: not a run directory (it has no config.toml)")
    settings, method = configuration.configure("", {}, folder / "config.toml")
    gone: Any = []
    base = _or_gone(lambda: fetch(settings.model), gone)
    now = _or_gone(lambda: seals(tasks_for(settings, method)), gone)
    lost = [Finding("seals", "fatal", f"what the run was made of cannot be had any more: {why}") for why in gone]
    return worst_first([*audit(folder, base, now), *lost])


def check_grader(grader: str, *, data: str | Path | None = None, timeout_s: float = 5.0) -> dict[str, Any]:
    """Probe a grader with answers known to be right or wrong, with no model at all; the findings are `guard.grader.Report.to_dict`.

    `grader`: "math", "exact", "reasoning-gym:NAME", or a Python FILE or FILE:FUNCTION, which runs in a process of its own with
    `timeout_s` seconds for each answer. `data`: a JSONL file whose answers are the golds; without it, a built-in list is.
    """
    from antaeus.guard.grader import Child, check
    from antaeus.probing import golds_of, grader_named

    target = grader_named(grader)
    golds = golds_of(grader, data)
    child = Child(target, timeout_s if target.module.endswith(".py") else 60.0)  # ours bound themselves, and start workers first
    try:
        return check(child, golds, name=grader).to_dict()
    finally:
        child.close()


# --- what they stand on -------------------------------------------------------------------------------------------------


def _improve(
    settings: RunConfig, method: Recipe, tasks: TaskSet, engine: Any, folder: Path, watch: Watch, interrupt: Callable[[], bool]
) -> dict[str, Any]:
    from antaeus.loop import improve
    from antaeus.preparing import custody_of, others_for
    from antaeus.sitting import sealing
    from antaeus.store.run import RunDir

    directory = RunDir(folder)
    try:
        custody = custody_of(settings, method, tasks, engine, folder)
        with sealing(tasks, others_for(settings), settings.tries, method.temperature, custody) as sealed:
            summary = improve(settings, method, engine, sealed, directory, watch, interrupt)
    finally:
        directory.close()
        report(folder)
    return {**summary, "run_dir": str(folder)}


def _or_gone(get: Callable[[], Any], gone: Any) -> Any:
    try:
        return get()
    except UserError as error:
        gone.append(str(error))
        return None


def _engine(settings: RunConfig) -> Any:
    from antaeus.engine.local import LocalEngine

    return LocalEngine(
        settings.model,
        device=settings.device or None,
        dtype=settings.dtype or None,
        lora=settings.lora,
        part=settings.part,
        seed=settings.seed,
    )


def _plan(settings: RunConfig, method: Recipe, tasks: TaskSet, engine: Any) -> dict[str, Any]:
    from antaeus.solve.rollout import ask

    return {
        "run": dataclasses.asdict(settings),
        "settings": dataclasses.asdict(method),
        "tasks": {"practice": len(tasks.practice), "anchor": len(tasks.anchor), "exam": len(tasks.exam)},
        "rendered_prompt": engine.render(ask(tasks.practice[0], engine.chat)),
    }
