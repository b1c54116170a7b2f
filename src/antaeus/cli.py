"""The command line. It parses, shows and translates errors; what it does is in `antaeus.api`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from antaeus.errors import UserError

app = typer.Typer(
    name="antaeus",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="A language model improves itself, and ground truth tells whether it really did.\n\n"
    "Start with [bold]antaeus run ttrl[/]: the embedded model learns two-digit addition from its own majority votes.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]
Model = Annotated[
    str | None,
    typer.Option(help="smollm2 (embedded), a local folder, a hub id, lab (half a million parameters), or tiny (random)."),
]
Tasks = Annotated[
    str | None, typer.Option(help="Built-in tasks (add2, times, ...), gym:NAME, hub:NAME[:SPLIT], or a JSONL file.")
]


@app.command()
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
    with _Display(json) as show:
        summary = api.run(recipe, run_dir=run_dir, config=config, dry_run=dry_run, watch=show, stop=show.stopped, **chosen)
    show.finish(summary)


@app.command()
def resume(run_dir: Annotated[Path, typer.Argument(help="A run's directory.")], json: Json = False) -> None:
    """Carry on a run that was interrupted or killed, to the very result it would have had."""
    from antaeus import api

    with _Display(json) as show:
        summary = api.resume(run_dir, watch=show, stop=show.stopped)
    show.finish(summary)


@app.command("list")
def list_(recipe: Annotated[str, typer.Argument(help="Show this recipe's keys.")] = "", json: Json = False) -> None:
    """All recipes; or the keys of one, with defaults."""
    from antaeus import api
    from antaeus.show import recipe_table, settings_table

    found = api.list(recipe)
    if json:
        _print_json(found)
    else:
        (settings_table if recipe else recipe_table)(found)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="A run's directory, finished or not.")],
    control: Annotated[Path | None, typer.Option(help="A control run: the page shows the gain less the control's.")] = None,
) -> None:
    """Write a run's report: one HTML file that opens offline."""
    from antaeus import api

    typer.echo(api.report(run_dir, control))


@app.command()
def compare(
    run_dirs: Annotated[list[Path], typer.Argument(help="Directories of finished runs, controls among them.")], json: Json = False
) -> None:
    """Finished runs side by side: each gain, and the gain less that of a control."""
    from antaeus import api
    from antaeus.show import compare_table

    found = api.compare(*run_dirs)
    if json:
        _print_json(found)
    else:
        compare_table(found)


@app.command()
def audit(run_dir: Annotated[Path, typer.Argument(help="A finished run's directory.")], json: Json = False) -> None:
    """Whether a run's result may be believed: contamination, seals, weights, logs, the decision counted again.

    Exit code 0 if nothing fatal was found, 1 if something was.
    """
    from antaeus import api
    from antaeus.show import findings_table

    found = api.audit(run_dir)
    if json:
        _print_json({"findings": [dataclasses.asdict(finding) for finding in found]})
    else:
        findings_table(found)
    raise typer.Exit(any(finding.severity == "fatal" for finding in found))


@app.command()
def eval(
    model: Annotated[str, typer.Argument(help="A model's name or folder, such as runs/first/versions/r060.")],
    tasks: Annotated[str, typer.Argument(help="Built-in tasks, gym:NAME, hub:NAME, or a JSONL file with answers.")] = "add2",
    settings: Annotated[list[str] | None, typer.Argument(help="key=value ..., such as n_exam=100.")] = None,
    json: Json = False,
) -> None:
    """Greedy accuracy of a model on sealed tasks, with its interval."""
    from antaeus import api
    from antaeus.config import parse_pairs

    found = api.eval(model, tasks, **parse_pairs(settings or []))
    if json:
        _print_json(found)
    else:
        low, high = found["ci"]
        failed = f", {found['infra']} gradings failed" if found["infra"] else ""
        typer.echo(f"{found['accuracy']:.1%} of {found['n']} tasks (95 % interval {low:.1%} to {high:.1%}{failed})")


@app.command("score-service")
def score_service(
    tasks: Annotated[str, typer.Argument(help="Built-in tasks, gym:NAME, hub:NAME, or a JSONL file with answers.")],
    settings: Annotated[list[str] | None, typer.Argument(help="key=value ..., such as n_anchor=200.")] = None,
    socket: Annotated[Path, typer.Option(help="Where to listen: a Unix socket, a line of JSON each way.")] = Path("scores.sock"),
    budget: Annotated[int, typer.Option(min=1, help="Different submissions that are scored, of all who ask together.")] = 20,
) -> None:
    """Score answers at sealed tasks for processes that must not see the right ones, until ctrl-C.

    In such a process: antaeus.guard.outside.prompts(PATH), then ask(PATH, {task id: answer, ...}).
    """
    from antaeus import api
    from antaeus.config import parse_pairs

    def say(_: str, about: Any) -> None:
        what = f"{about['tasks']} anchor tasks, {about['budget']} submissions, in steps of {about['step']:.3f}"
        typer.echo(f"Listening at {about['socket']}: {what}. Stop with ctrl-C.", err=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        api.score_service(tasks, socket, budget=budget, watch=say, **parse_pairs(settings or []))


@app.command("check-grader")
def check_grader(
    grader: Annotated[str, typer.Argument(help="math, exact, reasoning-gym:NAME, or FILE.py, FILE.py:FUNCTION.")],
    data: Annotated[Path | None, typer.Option(help="JSONL with answers: your own golds instead of the built-in ones.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds a grader in a file has for each answer.", min=0.01)] = 5.0,
    json: Json = False,
) -> None:
    """Does a grader pay for right answers and for nothing else? Needs no model. Exit code 1: it does not.

    Example: antaeus check-grader my_reward.py:compute_score --data train.jsonl
    """
    from antaeus import api
    from antaeus.show import grader_table

    found = api.check_grader(grader, data=data, timeout_s=timeout)
    if json:
        _print_json(found)
    else:
        grader_table(found)
    raise typer.Exit(0 if found["sound"] else 1)


@app.command()
def bench(
    what: Annotated[
        str,
        typer.Argument(
            help="What is measured: step (one whole learning step), decode, update, adapters; growth (ours as the work grows)."
        ),
    ] = "step",
    model: Annotated[str, typer.Option(help="A model's name or folder.")] = "smollm2",
    peer: Annotated[
        str | None,
        typer.Option(
            help="step: trl. decode: transformers (generate). update: transformers (a padded loop, all in our data type) or trainer "
            "(Trainer with bf16=True: float32 weights under autocast). adapters: peft. none: ours alone, as for growth.",
            show_default="the first named",
        ),
    ] = None,
    prompts: Annotated[int | None, typer.Option(help="Prompts a step; adapters.", show_default="8, adapters 16")] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Completions of each; steps of each.", show_default="16, decode 8, adapters 40, growth 4 to 32"),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="Tokens of each, exactly.", show_default="32, decode 64, adapters 55")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Measured steps of each side, after one warm-up.")] = 3,
    json: Json = False,
) -> None:
    """Seconds of a learning step or its parts, beside another library's on this machine and what the arithmetic alone would take."""
    from antaeus.bench import compare, describe

    sizes = {"prompts": prompts, "samples": samples, "tokens": tokens}
    found = compare(what, model=model, peer=peer, **sizes, repeats=repeats, say=lambda line: typer.echo(line, err=True))
    if json:
        _print_json(found)
    else:
        typer.echo(describe(found))


guard = typer.Typer(no_args_is_help=True, help="The guard's own error rates.")
app.add_typer(guard, name="guard")


@guard.command()
def calibrate(
    model: Annotated[str, typer.Option(help="The model to run: lab, or smollm2.")] = "lab",
    seeds: Annotated[int, typer.Option(min=0, help="Runs of each kind; 0: none, only the figures from the records.")] = 20,
    records: Annotated[Path, typer.Option(help="Where runs are recorded; those that are there are not made again.")] = Path(
        "docs/guard-runs.jsonl.gz"
    ),
    page: Annotated[Path, typer.Option(help="The page the figures are written into, between its two marks.")] = Path(
        "docs/guard.md"
    ),
    lineages: Annotated[int, typer.Option(min=1, help="Simulated lineages.")] = 2000,
    json: Json = False,
) -> None:
    """Measure how often the gate and the alarms are wrong: simulated lineages, runs where nothing happens, runs driven into ruin."""
    from antaeus.calibrate import calibrate

    found = calibrate(model, seeds, records, page, lineages, lambda line: typer.echo(line, err=True))
    if json:
        _print_json(found)
    else:
        typer.echo(f"{page}: error rates from {sum(found['runs'].values())} recorded runs and {lineages:,} simulated lineages")


def main() -> None:
    """Entry point: bad input is one line and exit code 2, an interrupted run is saved and leaves 130."""
    from antaeus.loop import Interrupted

    warnings.showwarning = _note
    try:
        app(standalone_mode=True)
    except UserError as err:
        _die(str(err))
    except Interrupted as err:
        typer.echo(f"Interrupted and saved. Go on with: antaeus resume {err}", err=True)
        raise SystemExit(130) from None
    except OSError as err:
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            _die(f"the disk is full ({err.filename or 'while writing'}): free some space, then `antaeus resume` the run")
        if err.errno in (errno.EACCES, errno.EROFS):
            _die(f"{err.filename}: cannot be written: {err.strerror}")
        raise


def _note(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Our own warnings (repaired input, smaller sets) as one line; those of libraries are not the user's to mend."""
    if category is UserWarning:
        typer.echo(f"antaeus: note: {' '.join(str(message).split())}", err=True)


def _die(message: str) -> None:
    typer.echo(f"antaeus: {' '.join(message.split())}", err=True)
    raise SystemExit(2)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


class _Display:
    """Live progress on standard error, and the first ctrl-C as a wish to stop after this round (the second stops at once)."""

    def __init__(self, as_json: bool) -> None:
        from antaeus.show import Live

        self._json, self._live, self._stop = as_json, Live(), False

    def __enter__(self) -> _Display:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)
        signal.signal(signal.SIGINT, self._before)

    def __call__(self, kind: str, about: Any) -> None:
        self._live.show(kind, about)

    def stopped(self) -> bool:
        return self._stop

    def finish(self, summary: dict[str, Any]) -> None:
        if self._json:
            _print_json(summary)
        else:
            self._live.conclude(summary)

    def _interrupt(self, *_: Any) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        self._live.note("Stopping after this round (once more to stop at once) ...")
