"""Adapters that are kept beside a policy instead of being merged into it: each under a key, all of one shape, saved as PEFT folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from antaeus.engine.checks import reason
from antaeus.errors import UserError

if TYPE_CHECKING:
    from antaeus.engine.adapters import Adapters
    from antaeus.engine.local import LocalEngine

FOLDER, KEYS = "shelf", "keys.jsonl"  # in a version's folder: keys.jsonl, and folders 000, 001, ... that `peft` loads


class Shelf:
    """The kept adapters of an engine: `adapters[i]` stands under `keys[i]`. One that is added leaves this shelf as it is for whoever holds
    it (`copy`), and is float32."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.adapters: Adapters | None = None
        self.keys: tuple[str, ...] = ()

    def copy(self) -> Shelf:
        """One of the same content, that changes on its own."""
        other = Shelf(self.engine)
        other.adapters, other.keys = self.adapters, self.keys
        return other

    def add(self, source: Adapters, i: int, key: str) -> None:
        """Keep adapter i of `source` under `key`, in the place of the one that stood there."""
        keys = self.keys if key in self.keys else (*self.keys, key)
        grown = source.like(len(keys))
        if self.adapters is not None:
            if (self.adapters.rank, self.adapters.alpha, self.adapters.targets) != (source.rank, source.alpha, source.targets):
                raise UserError("adapters of one shelf have one rank, one alpha and the same targets; this one has others")
            grown.weights[: len(self.keys)] = self.adapters.weights
        grown.weights[keys.index(key)] = source.weights[i]
        self.adapters, self.keys = grown, keys

    def save(self, folder: Path) -> None:
        """Write `folder`/shelf, where there is anything to write."""
        if self.adapters is None:
            return
        for i in range(len(self.keys)):
            self.adapters.save(i, folder / FOLDER / f"{i:03d}")
        lines = (json.dumps(key, ensure_ascii=False) + "\n" for key in self.keys)
        (folder / FOLDER / KEYS).write_text("".join(lines), encoding="utf-8")

    def load(self, folder: Path | str) -> None:
        """Take what `save` wrote there; nothing where it wrote nothing (a model's name on the hub is no folder)."""
        self.adapters, self.keys = None, ()
        folder = Path(folder)
        if not (folder / FOLDER / KEYS).is_file():
            return
        from antaeus.engine.adapters import opened  # which stands on the engine, and the engine on this file

        try:
            with (folder / FOLDER / KEYS).open(encoding="utf-8") as lines:
                self.keys = tuple(map(json.loads, lines))
        except (OSError, ValueError) as err:
            raise UserError(f"{folder / FOLDER / KEYS}: cannot be read ({reason(err)}); the file is missing or damaged") from err
        self.adapters = opened(self.engine, [folder / FOLDER / f"{i:03d}" for i in range(len(self.keys))])
