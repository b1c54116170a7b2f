"""The floors of the house: who may import whom. Read from the source, so that no import inside a function escapes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import antaeus

ROOT = Path(antaeus.__file__).parent
HEAVY = {"torch", "transformers", "peft", "accelerate", "trl", "safetensors.torch"}
SLOW = HEAVY | {"datasets", "math_verify", "sympy", "reasoning_gym", "matplotlib"}
HEAVY_ROOMS = {"engine", "bench", "adopt"}  # the bench measures the engine from outside; adopt stands in others' trainers
STAGES = ("propose", "solve", "verify", "learn", "guard")
FLOORS = [
    ("types", "errors", "asking"),
    ("answers", "stats", "noise", "overlap", "gym", "arithmetic", "grids", "vectors"),
    ("paraphrase", "moves"),
    ("engine",),
    STAGES,
    ("recipes", "store", "reporting"),
    ("config",),
    ("records",),
    ("sitting",),
    ("steering", "merging"),
    ("loop", "scorer"),
    ("preparing", "probing"),
    ("api", "show", "bench", "calibrate", "adopt"),
    ("league",),
    ("cli",),
]
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """Full names of the modules a file imports, anywhere in it, but for type checkers."""
    waiting: list[ast.AST] = [ast.parse((ROOT / file).read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def within(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def own(file: Path) -> list[str]:
    """What a file imports of the package, without the package's name."""
    return [name.removeprefix("antaeus.") for name in imports(file) if within(name, {"antaeus"})]


def test_every_room_has_its_floor() -> None:
    assert {room_of(file) for file in FILES} - {"__init__", "__main__"} == set(FLOOR)
    assert len(FILES) > 40


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_go_down(file: Path) -> None:
    if str(file) in ("__init__.py", "__main__.py"):
        assert set(map(str, own(file))) <= {"api", "cli.main"}
        return
    room = room_of(file)
    for name in own(file):
        other = name.split(".")[0]
        assert other == room or FLOOR[other] < FLOOR[room], f"{file} imports {name}, which is not below it"


@pytest.mark.parametrize("file", [file for file in FILES if room_of(file) not in HEAVY_ROOMS], ids=str)
def test_only_the_engine_knows_the_heavy_machinery(file: Path) -> None:
    assert not [name for name in imports(file) if within(name, HEAVY)]


@pytest.mark.parametrize(
    "file", [file for file in FILES if room_of(file) not in HEAVY_ROOMS | {"api", "preparing", "probing", "calibrate"}], ids=str
)
def test_the_engine_is_known_by_its_seam_alone(file: Path) -> None:
    """Recipes, stages and loop see `engine.base`; only `api`, and what measures from outside, opens a real engine."""
    assert not [name for name in own(file) if within(name, {"engine"}) and not within(name, {"engine.base"})]


def test_stages_do_not_import_one_another() -> None:
    for file in FILES:
        if (room := room_of(file)) in STAGES:
            assert not [name for name in own(file) if name.split(".")[0] in set(STAGES) - {room}], file


@pytest.mark.parametrize(
    "module", ["antaeus", "antaeus.engine.base", "antaeus.loop", "antaeus.scorer", "antaeus.api", "antaeus.cli"]
)
def test_nothing_heavy_is_loaded_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & SLOW
