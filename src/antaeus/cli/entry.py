"""The entry point: what goes wrong becomes one line and an exit code."""

from __future__ import annotations

import errno
import warnings
from typing import Any

import typer

from antaeus.cli.commands import app
from antaeus.errors import UserError


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
