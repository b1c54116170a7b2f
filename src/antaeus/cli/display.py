"""What a command writes: JSON or a table, and progress while it works."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any, Self

import typer


def tell(found: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """What a command found: as one JSON object, or the way `show` puts it."""
    (print_json if as_json else show)(found)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


class Stopping:
    """The first ctrl-C as a wish to stop after this round (the second stops at once)."""

    def __init__(self) -> None:
        self._stop = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *error: Any) -> None:
        signal.signal(signal.SIGINT, self._before)

    def stopped(self) -> bool:
        return self._stop

    def note(self, line: str) -> None:
        typer.echo(line, err=True)

    def _interrupt(self, *_: Any) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        self.note("Stopping after this round (once more to stop at once) ...")


class Display(Stopping):
    """Live progress on standard error beside it."""

    def __init__(self, as_json: bool) -> None:
        from antaeus.show import Live

        super().__init__()
        self._json, self._live = as_json, Live()

    def __enter__(self) -> Self:
        super().__enter__()
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.__exit__(*error)
        super().__exit__(*error)

    def __call__(self, kind: str, about: Any) -> None:
        self._live.show(kind, about)

    def note(self, line: str) -> None:
        self._live.note(line)

    def finish(self, summary: dict[str, Any]) -> None:
        tell(summary, self._json, self._live.conclude)
