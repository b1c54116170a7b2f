"""All commands, in the order in which `antaeus --help` shows them."""

from __future__ import annotations

import typer

from antaeus.cli import benching, guarding, running

app = typer.Typer(
    name="antaeus",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="A language model improves itself, and ground truth tells whether it really did.\n\n"
    "Start with [bold]antaeus run ttrl[/]: the embedded model learns two-digit addition from its own majority votes.",
)

app.command()(running.run)
app.command()(running.resume)
app.command("list")(running.list_)
app.command()(running.report)
app.command()(running.compare)
app.command()(guarding.audit)
app.command()(running.eval)
app.command()(guarding.score_service)
app.command()(guarding.check_grader)
app.command()(benching.bench)

guard = typer.Typer(no_args_is_help=True, help="The guard's own error rates.")
guard.command()(guarding.calibrate)
app.add_typer(guard, name="guard")
