"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]
Model = Annotated[
    str | None,
    typer.Option(help="smollm2 (embedded), a local folder, a hub id, lab (half a million parameters), or tiny (random)."),
]
Tasks = Annotated[
    str | None, typer.Option(help="Built-in tasks (add2, times, ...), gym:NAME, hub:NAME[:SPLIT], or a JSONL file.")
]
SealedTasks = Annotated[str, typer.Argument(help="Built-in tasks, gym:NAME, hub:NAME, or a JSONL file with answers.")]
