"""What a command writes: JSON or a table, and progress while it works."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any


def tell(found: Any, as_json: bool, show: Callable[[Any], None]) -> None:
    """What a command found: as one JSON object, or the way `show` puts it."""
    (print_json if as_json else show)(found)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


class Display:
    """Live progress on standard error, and the first ctrl-C as a wish to stop after this round (the second stops at once)."""

    def __init__(self, as_json: bool) -> None:
        from antaeus.show import Live

        self._json, self._live, self._stop = as_json, Live(), False

    def __enter__(self) -> Display:
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
        tell(summary, self._json, self._live.conclude)

    def _interrupt(self, *_: Any) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        self._live.note("Stopping after this round (once more to stop at once) ...")
