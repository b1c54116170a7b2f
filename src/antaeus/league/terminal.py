"""The league table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from antaeus.league.page import HEAD, cells

SHOWN = (
    "tasks",
    "recipe",
    "gain, points",
    "less the control",
    "of rlvr's gain",
    "first alarm",
    "promoted",
)  # the page has the rest


def league_table(found: Mapping[str, Any], out: Path) -> None:
    """The league's rows, what could not be run, and where the page is."""
    console = Console()
    table = Table(*SHOWN, box=None, header_style="bold")
    for row in found["rows"]:
        told = dict(zip(HEAD, cells(row), strict=True))
        table.add_row(*(escape(told[name]) for name in SHOWN))
    console.print(table)
    for name, why in found["refused"].items():
        console.print(f"[yellow]not run:[/] {escape(name)}: {escape(why)}", soft_wrap=True)
    console.print(f"all curves and commands: {out / 'league.html'}", soft_wrap=True)
