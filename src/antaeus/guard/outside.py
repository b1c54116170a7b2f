"""The proposer's face of a score service for processes outside: a Unix socket, a line of JSON each way.

    "tasks"                   ->  [{"id": ..., "prompt": ...}, ...], the anchors
    {"<task id>": "answer"}   ->  {"score": ..., "missing": ..., "left": ...}
    whatever is refused       ->  {"error": "..."}

There is no word for a mark: a process that has only this socket can ask for scores, and all of them share the one budget.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antaeus.answers.workers import GraderFailed
from antaeus.errors import UserError
from antaeus.guard.service import ScoreService
from antaeus.types import Anchor, Prompt, to_json

LINE = 32 << 20  # bytes of a line
WAIT_S = 600.0  # others may be before us, each for the time of a reply


@contextmanager
def listening(service: ScoreService, anchors: Sequence[Anchor], path: str | Path) -> Iterator[socketserver.BaseServer]:
    """A server at `path`, for this user alone; call its `serve_forever`. Raises `UserError` where it cannot be made."""

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):  # who asked is gone
                while line := self.rfile.readline(LINE + 1):
                    self.wfile.write(_reply(service, anchors, line).encode() + b"\n")
                    if len(line) > LINE:
                        return

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads, block_on_close = True, False

    if os.path.lexists(path):
        raise UserError(f"{path}: exists already; give another path, or remove it if nothing listens there")
    before = os.umask(0o177)
    try:
        server = Server(str(path), Talk)
    except OSError as error:
        raise UserError(f"{path}: no socket can be made here: {error.strerror or error}") from None
    finally:
        os.umask(before)
    try:
        with server:
            yield server
    finally:
        os.unlink(path)


def ask(path: str | Path, answers: Mapping[str, str]) -> float:
    """`ScoreService.score` of the service that listens at `path`, from another process: same score, warning and errors."""
    told = _ask(path, dict(answers))
    if told["missing"]:
        warnings.warn(f"{told['missing']} anchor tasks have no answer: they count as wrong", stacklevel=2)
    return told["score"]


def prompts(path: str | Path) -> list[dict[str, Any]]:
    """The anchor tasks of the service that listens at `path`: id and prompt."""
    return _ask(path, "tasks")


def _ask(path: str | Path, what: Any) -> Any:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(WAIT_S)
            connection.connect(str(path))
            connection.sendall(json.dumps(what).encode() + b"\n")
            reply = json.loads(connection.makefile().readline())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no score service answers here ({error})") from None
    if "error" in reply:
        raise UserError(reply["error"])
    return reply


def _reply(service: ScoreService, anchors: Sequence[Anchor], line: bytes) -> str:
    try:
        if (what := _read(line)) == "tasks":
            return to_json([{"id": task.id, "prompt": _whole(task)} for task in anchors])
        return to_json(service.tell(what))
    except (UserError, GraderFailed) as error:
        return json.dumps({"error": str(error)})


def _whole(task: Anchor) -> Prompt:
    return task.shots + task.prompt if isinstance(task.prompt, str) else task.prompt


def _read(line: bytes) -> Any:
    if len(line) > LINE:
        raise UserError(f"a request is longer than {LINE} bytes")
    try:
        return json.loads(line, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        raise UserError('a request is a line of JSON: "tasks", or an object of task id to answer') from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for id, answer in pairs:
        if id in found:
            raise UserError(f"task {id[:60]!r} has two answers: give one")
        found[id] = answer
    return found
