"""The command that measures speed."""

from __future__ import annotations

from typing import Annotated

import typer

from antaeus.cli.display import tell
from antaeus.cli.options import Json


def bench(
    what: Annotated[
        str,
        typer.Argument(
            help="What is measured: step (one whole learning step), decode, update, adapters; edits (SEAL's self-edits a minute); "
            "growth (ours as the work grows)."
        ),
    ] = "step",
    model: Annotated[str, typer.Option(help="A model's name or folder.")] = "smollm2",
    peer: Annotated[
        str | None,
        typer.Option(
            help="step: trl. decode: transformers (generate). update: transformers (a padded loop, all in our data type) or trainer "
            "(Trainer with bf16=True: float32 weights under autocast). adapters: peft. edits: official (PEFT, "
            "documents padded to 2048 tokens) or peft (unpadded). none: ours alone, as for growth.",
            show_default="the first named, edits both",
        ),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(help="Prompts a step; adapters; edits.", show_default="8, adapters 16, edits 16")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="Completions of each; steps of each; documents of each.",
            show_default="16, decode 8, adapters 40, edits 8, growth 4 to 32",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens of each, exactly; of a document, at most.", show_default="32, decode 64, adapters 55, edits 55"
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Measured steps of each side, after one warm-up.")] = 3,
    json: Json = False,
) -> None:
    """Seconds of a learning step or its parts, or self-edits a minute, beside another library's on this machine and what the arithmetic
    alone would take."""
    from antaeus.bench import compare, describe

    sizes = {"prompts": prompts, "samples": samples, "tokens": tokens}
    found = compare(what, model=model, peer=peer, **sizes, repeats=repeats, say=lambda line: typer.echo(line, err=True))
    tell(found, json, lambda measured: typer.echo(describe(measured)))
