"""What several test files share: the tiny random model as a folder, and engines over it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model (two layers, 99 characters, 512 positions), built afresh, whatever lies in the user's cache."""
    from antaeus.engine import embedded

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTAEUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return embedded.tiny(lambda line: None)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Callable[..., Any]:
    """Opens a fresh `LocalEngine` over the tiny model: float32 on the CPU unless told otherwise."""
    from antaeus.engine.local import LocalEngine

    def open_engine(**how: Any) -> LocalEngine:
        return LocalEngine(str(tiny_folder), **{"device": "cpu", "dtype": "float32", **how})

    return open_engine


@pytest.fixture
def cli(capsys: Any, monkeypatch: Any) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: (exit code, standard output, standard error)."""
    from helpers import run_cli

    return lambda *args: run_cli(capsys, monkeypatch, *args)
