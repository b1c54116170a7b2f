"""Commands that run models, and those that show what runs there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from antaeus.cli.display import Display, Stopping, tell
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
        summary = api.run(recipe, run_dir=run_dir, config=config, dry_run=dry_run, watch=show, interrupt=show.stopped, **chosen)
    show.finish(summary)


def resume(run_dir: Annotated[Path, typer.Argument(help="A run's directory.")], json: Json = False) -> None:
    """Carry on a run that was interrupted or killed, to the very result it would have had."""
    from antaeus import api

    with Display(json) as show:
        summary = api.resume(run_dir, watch=show, interrupt=show.stopped)
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
    what: Annotated[
        list[str],
        typer.Argument(
            help="Recipes or variants such as srt:labels=fixed,keep=0.5; key=value or recipe.key=value; or directories of runs."
        ),
    ],
    model: Model = None,
    tasks: Annotated[str, typer.Option(help="Task sets, separated by commas.")] = "add2",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each, with seeds 0, 1, ...")] = 3,
    budget: Annotated[
        str, typer.Option(help="Tokens sampled and trained on in each run, such as 200k; 0: its own rounds.")
    ] = "0",
    out: Annotated[
        Path, typer.Option(help="Where the runs lie, league.json and league.html; what is there is not run again.")
    ] = Path("runs/league"),
    json: Json = False,
) -> None:
    """Recipes on equal footing: same model, tasks, seeds and token budget, each with its controls, beside learning from sealed answers.

    Example: antaeus compare ttrl srt em_rl --model lab --tasks add2,mul2 --seeds 3 --budget 200k lr=1e-4

    Given directories of finished runs instead, shows these: each gain, and the gain less that of a control among them.
    """
    from antaeus import api
    from antaeus.config import parse_pairs
    from antaeus.league import league
    from antaeus.league.plans import tokens
    from antaeus.league.terminal import league_table
    from antaeus.loop import Interrupted
    from antaeus.show import compare_table

    pairs = [word for word in what if "=" in word and ":" not in word.partition("=")[0]]
    names = [word for word in what if word not in pairs]
    if names and all((Path(name) / "config.toml").is_file() for name in names):
        tell(api.compare(*names), json, compare_table)
        return
    given = parse_pairs(pairs) | ({"model": model} if model else {})
    with Stopping() as asked:
        try:
            found = league(
                names, out, tasks=tasks.split(","), seeds=seeds, budget=tokens(budget), given=given,
                say=lambda line: typer.echo(line, err=True), stop=asked.stopped,
            )  # fmt: skip
        except Interrupted:
            typer.echo("Interrupted and saved. Go on with the same command.", err=True)
            raise typer.Exit(130) from None
    tell(found, json, lambda found: league_table(found, out))
