"""Commands that ask whether a result, a grader or the guard itself can be believed."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from antaeus.cli.display import print_json, tell
from antaeus.cli.options import Json, SealedTasks


def audit(run_dir: Annotated[Path, typer.Argument(help="A finished run's directory.")], json: Json = False) -> None:
    """Whether a run's result may be believed: contamination, seals, weights, logs, the decision counted again.

    Exit code 0 if nothing fatal was found, 1 if something was.
    """
    from antaeus import api
    from antaeus.show import findings_table

    found = api.audit(run_dir)
    if json:
        print_json({"findings": [dataclasses.asdict(finding) for finding in found]})
    else:
        findings_table(found)
    raise typer.Exit(any(finding.severity == "fatal" for finding in found))


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
    tell(found, json, grader_table)
    raise typer.Exit(0 if found["sound"] else 1)


def score_service(
    tasks: SealedTasks,
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
    what = f"error rates from {sum(found['runs'].values())} recorded runs and {lineages:,} simulated lineages"
    tell(found, json, lambda _: typer.echo(f"{page}: {what}"))
