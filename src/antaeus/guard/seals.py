"""Seals: hashes of what decides right and wrong, of prompt templates and tasks, taken before and after a run.

Sealed answers are short, so a plain hash of one would give it away to anybody who tries all two-digit numbers. All answers of a part
are hashed together, in the order of their tasks, by scrypt (RFC 7914; 2^14 rounds, 16 MB, about 50 ms) with the hash of its tasks as
salt. Who wants an answer from the seal must guess all of them at once: 200 two-digit answers are some 2^1300 guesses. Limit: who knows all
answers but one can try that one, at 50 ms a guess; of a part of one task the seal protects nothing but time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from antaeus.guard.findings import Finding
from antaeus.types import Task, TaskSet, Vault, to_json

RULE = "seals"
ROOT = Path(__file__).parents[1]
GRADERS = ("answers/*.py", "verify/ground.py", "gym.py", "guard/gate.py", "stats.py")  # in this package
HASHED = ("math-verify", "latex2sympy2_extended")  # packages small enough to be hashed whole
PACKAGES = (*HASHED, "sympy", "reasoning-gym", "scipy")  # by version
_WHAT = {
    "grader": "the code that decides right and wrong",
    "package": "a package that the graders stand on",
    "template": "a prompt template",
    "tasks": "the tasks",
    "answers": "the sealed answers",
    "reading": "how answers are read and attempts cut",
}


def seals(tasks: TaskSet, templates: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name -> hash or version of everything that must not change while a run lasts; takes about 0.2 s.

    `templates` are prompt texts by name: the model's chat template, a rendered prompt; the tasks' worked examples are added.
    """
    parts = {"practice": tasks.practice, "anchor": tasks.anchor, "exam": tasks.exam}
    vaults = {"practice": tasks.practice_vault, "anchor": tasks.anchor_vault, "exam": tasks.exam_vault}
    public = {part: _hash("\n".join(map(to_json, held)).encode()) for part, held in parts.items()}
    shots = sorted({task.shots for held in parts.values() for task in held})
    return {
        **_graders(ROOT),
        **{f"package/{name}": _version(name) for name in PACKAGES},
        **{f"template/{name}": _hash(text.encode()) for name, text in (templates or {}).items()},
        "template/shots": _hash("\0".join(shots).encode()),
        **{f"tasks/{part}": value for part, value in public.items()},
        **{f"answers/{part}": _slow(held, vaults[part], public[part]) for part, held in parts.items()},
        "reading": _hash(to_json([tasks.extract, tasks.stop, tasks.max_tokens]).encode()),
    }


def broken(before: Mapping[str, str], after: Mapping[str, str]) -> list[Finding]:
    """A fatal finding for each seal that changed, vanished or was never set; none at all before is fatal as well."""
    if not before or not after:
        return [Finding(RULE, "fatal", f"there are no seals from {'after' if before else 'before'} the run to compare with")]
    return [_say(name, before, after) for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]


def _say(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> Finding:
    what = _WHAT.get(name.split("/")[0], "something sealed")
    how = "was not sealed before the run" if name not in before else "has no seal any more" if name not in after else "changed"
    return Finding(RULE, "fatal", f"{what} ({name}) {how}", name)


def _graders(root: Path) -> dict[str, str]:
    files = [path for pattern in GRADERS for path in sorted(root.glob(pattern))]
    return {f"grader/{path.relative_to(root)}": _hash(path.read_bytes()) for path in files}


def _version(name: str) -> str:
    """The version, with a hash of the Python files where the package is small; "absent" where it is not installed."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return "absent"
    held = (package.files or ()) if name in HASHED else ()  # a large package's list of files takes long to read
    files = [Path(str(file.locate())) for file in held if file.suffix == ".py"]
    content = _hash(b"\0".join(file.read_bytes() if file.is_file() else b"gone" for file in sorted(files)))
    return f"{package.version} {content}" if files else package.version


def _slow(held: Sequence[Task], vault: Vault, salt: str) -> str:
    answers = to_json([vault.open(task) if task.id in vault else None for task in held])
    return hashlib.scrypt(answers.encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()


def digest(values: Sequence[str]) -> str:
    """One hash of several seals."""
    return _hash("\n".join(values).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
