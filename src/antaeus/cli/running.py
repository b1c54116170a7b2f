"""Commands that run models, and those that show what runs there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from antaeus.cli.display import Display, tell
from antaeus.cli.options import Json, Model, SealedTasks, Tasks
from antaeus.errors import UserError


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe, see `antaeus list`. May stand in --config instead.")] = "",
    settings: Annotated[list[str] | None, typer.Argument(help="key=value ..., see `antaeus list RECIPE`.")] = None,
    model: Model = None,
    tasks: Tasks = None,
    practice: Annotated[str | None, typer.Option(help="JSONL of prompts to learn from; answers are not needed.")] = None,
    anchor: Annotated[str | None, typer.Option(help="JSONL with answers, looked at every few rounds.")] = None,
    exam: Annotated[str | None, typer.Option(help="JSONL with answers, opened once at the end.")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Directory of this run; default runs/RECIPE-TIME.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything that varies.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file, such as another run's config.toml.")] = None,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option(help="Check everything, show the first prompt, run nothing.")] = False,
) -> None:
    """Improve a model by a recipe.

    Example: antaeus run ttrl rounds=30 lr=8e-6 --model smollm2 --tasks add2 --run-dir runs/first
    """
    from antaeus import api
    from antaeus.config import parse_pairs

    if "=" in recipe:  # the recipe stands in --config, and this is the first setting
        recipe, settings = "", [recipe, *(settings or [])]
    options = {"model": model, "tasks": tasks, "practice": practice, "anchor": anchor, "exam": exam, "seed": seed}
    given = parse_pairs(settings or [])
    if twice := [k for k, v in options.items() if v is not None and k in given]:
        raise UserError(f"{twice[0]} is given twice, as {twice[0]}=... and as --{twice[0]}")
    chosen: dict[str, Any] = {**given, **{k: v for k, v in options.items() if v is not None}}
    with Display(json) as show:
        summary = api.run(recipe, run_dir=run_dir, config=config, dry_run=dry_run, watch=show, stop=show.stopped, **chosen)
    show.finish(summary)


def resume(run_dir: Annotated[Path, typer.Argument(help="A run's directory.")], json: Json = False) -> None:
    """Carry on a run that was interrupted or killed, to the very result it would have had."""
    from antaeus import api

    with Display(json) as show:
        summary = api.resume(run_dir, watch=show, stop=show.stopped)
    show.finish(summary)


def eval(
    model: Annotated[str, typer.Argument(help="A model's name or folder, such as runs/first/versions/r060.")],
    tasks: SealedTasks = "add2",
    settings: Annotated[list[str] | None, typer.Argument(help="key=value ..., such as n_exam=100.")] = None,
    json: Json = False,
) -> None:
    """Greedy accuracy of a model on sealed tasks, with its interval."""
    from antaeus import api
    from antaeus.config import parse_pairs

    found = api.eval(model, tasks, **parse_pairs(settings or []))
    tell(found, json, _say_accuracy)


def _say_accuracy(found: Mapping[str, Any]) -> None:
    low, high = found["ci"]
    failed = f", {found['infra']} gradings failed" if found["infra"] else ""
    typer.echo(f"{found['accuracy']:.1%} of {found['n']} tasks (95 % interval {low:.1%} to {high:.1%}{failed})")


def list_(recipe: Annotated[str, typer.Argument(help="Show this recipe's keys.")] = "", json: Json = False) -> None:
    """All recipes; or the keys of one, with defaults."""
    from antaeus import api
    from antaeus.show import recipe_table, settings_table

    found = api.list(recipe)
    tell(found, json, settings_table if recipe else recipe_table)


def report(
    run_dir: Annotated[Path, typer.Argument(help="A run's directory, finished or not.")],
    control: Annotated[Path | None, typer.Option(help="A control run: the page shows the gain less the control's.")] = None,
) -> None:
    """Write a run's report: one HTML file that opens offline."""
    from antaeus import api

    typer.echo(api.report(run_dir, control))


def compare(
    run_dirs: Annotated[list[Path], typer.Argument(help="Directories of finished runs, controls among them.")], json: Json = False
) -> None:
    """Finished runs side by side: each gain, and the gain less that of a control."""
    from antaeus import api
    from antaeus.show import compare_table

    found = api.compare(*run_dirs)
    tell(found, json, compare_table)
