"""What several test files share: the tiny random model as a folder, and engines over it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded, here or in a child: tiny models gain nothing by more


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests want to be read, whichever process they ran in: `record_property("told", sentence)`."""
    for report in (*terminalreporter.stats.get("passed", ()), *terminalreporter.stats.get("failed", ())):
        for name, sentence in report.user_properties:
            if name == "told":
                terminalreporter.write_line(sentence)


@pytest.fixture(scope="session", autouse=True)
def scrypt_once() -> Iterator[None]:
    """Seals are slow on purpose, and tests seal the same tasks over and over: the same question is computed once. Remembered by a hash,
    so that no answer stays in memory."""
    real, known = hashlib.scrypt, {}

    def scrypt(password: bytes, **how: Any) -> bytes:
        asked = hashlib.sha256(repr((password, sorted(how.items()))).encode()).digest()
        if asked not in known:
            known[asked] = real(password, **how)
        return known[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "scrypt", scrypt)
        yield


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
