"""Rows of a user's file or of a hub dataset: every row is read, or refused with file, line and field. None is dropped unsaid."""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from antaeus.errors import UserError
from antaeus.propose.rows import Bad, Number, Row, collect, short

SUFFIXES = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
T = TypeVar("T")
_LONGEST = 64 << 20  # bytes of one row, and of a whole JSON list: what is larger is a wrong file or a bomb
_GAP = re.compile(r"[ \t\r\n]*")

__all__ = ["SUFFIXES", "Row", "first_record", "read", "read_hub", "read_rows", "shown"]


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a JSON Lines file or of a JSON list, gzipped or not; what the file begins with tells which of the two.

    Raises `UserError` for everything that can be wrong with the path, its bytes or its rows; warns of repairs.
    """
    return read(path, collect)


def first_record(path: str | Path) -> Any:
    """The first value of a file; None where it cannot be read, for which `read` has the words."""
    try:
        with closing(_open(Path(path), shown(path))) as file:
            return next(_records(file, shown(path)), (0, None))[1]
    except (UserError, EOFError, zlib.error, OSError):
        return None


def read(path: str | Path, collect: Callable[[str, Iterator[tuple[int, Any]]], list[T]]) -> list[T]:
    """What `collect` makes of a file's name and its (line, parsed value or the `Bad` in its place). Raises as `read_rows` does."""
    name = shown(path)
    try:
        with closing(_open(Path(path), name)) as file:
            before = _state(file)
            rows = collect(name, _records(file, name))
            if _state(file) != before:
                raise UserError(f"{name} changed while it was read: wait until nobody writes to it, then try again")
            return rows
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{name} is not a whole gzip file ({error}): write it again, or drop .gz if it is plain text") from None
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}") from None


def read_hub(name: str, split: str = "train") -> list[Row]:
    """The rows of a Hugging Face dataset, "owner/name" or "owner/name/config". No code of the dataset is run.

    The prompt is the first there is of the columns prompt, messages, question and problem; of a GSM8K answer only what
    follows #### is kept. Ids are made of the content. Raises `UserError` without network, package, dataset or split.
    """
    try:
        import datasets
    except ImportError:
        raise UserError("hub: tasks need the package datasets: pip install 'antaeus[hub]'") from None
    owner, _, rest = name.partition("/")
    dataset, _, config = rest.partition("/")
    try:
        data: Any = datasets.load_dataset(f"{owner}/{dataset}" if rest else name, config or None, split=split)
    except Exception as error:  # whatever the hub, its cache or the network come up with
        why = " ".join(str(error).split())[:200]
        raise UserError(f"cannot load {split!r} of hub dataset {name!r}: {type(error).__name__}: {why}") from None
    return collect(f"hub:{name}:{split}", ((i, _from_hub(row)) for i, row in enumerate(data, 1)))


def shown(path: object) -> str:
    """A path or name as it may stand in a one-line message."""
    return text if (text := str(path)).isprintable() and len(text) <= 300 else ascii(text[:300])


def _from_hub(row: Mapping[str, Any]) -> Mapping[str, Any]:
    column = next((c for c in ("prompt", "messages", "question", "problem") if row.get(c) is not None), None)
    if column is None:
        return dict.fromkeys(row)  # refused, with the names of its columns
    answer = row.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = Number(answer)
    if isinstance(answer, str) and "####" in answer:
        answer = answer.rsplit("####", 1)[1].strip().replace(",", "")
    return {"messages" if column == "messages" else "prompt": row[column], "answer": answer}


# -- from bytes to parsed values


def _open(path: Path, name: str) -> BinaryIO:
    if not path.exists():
        raise UserError(f"there is no file {name}")
    if not path.is_file():
        raise UserError(f"{name} is {'a directory' if path.is_dir() else 'not a regular file'}: give a .jsonl or .json file")
    if not path.name.lower().endswith(SUFFIXES):
        raise UserError(f"{name}: only {', '.join(SUFFIXES)} are read; convert it to JSON Lines, one object a line")
    return cast(BinaryIO, gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _state(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _records(file: BinaryIO, name: str) -> Iterator[tuple[int, Any]]:
    """(line, parsed value or the `Bad` in its place)."""
    lines = _lines(file, name)
    for number, line in lines:
        if line.lstrip().startswith(b"["):
            yield from _items(name, chain([(number, line)], lines))
        elif line.strip():
            yield number, _parsed(line)
            yield from ((later, _parsed(text)) for later, text in lines if text.strip())


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
        if len(line) > _LONGEST:
            raise UserError(f"{name}:{number}: a row of more than {_LONGEST >> 20} MiB")
        if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UserError(f"{name}:1: UTF-16: save the file as UTF-8")
        yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def _items(name: str, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, Any]]:
    """(line, item) of one JSON list; after a `Bad` nothing more can be read."""
    texts: list[str] = []
    size = first = 0
    for number, line in lines:
        first, size = first or number, size + len(line)
        if size > _LONGEST:
            raise UserError(f"{name}: a JSON list of more than {_LONGEST >> 20} MiB: write JSON Lines, one object a line")
        try:
            texts.append(_decoded(line))
        except Bad as bad:
            yield number, bad
            return
    yield from _scanned("".join(texts), first)


def _scanned(text: str, line: int) -> Iterator[tuple[int, Any]]:
    at, counted = _past_gap(text, text.index("[") + 1), 0
    closed = text[at : at + 1] == "]"
    while not closed:
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError, Bad) as error:
            yield line + (text.count("\n", counted, error.pos) if isinstance(error, json.JSONDecodeError) else 0), _said(error)
            return
        yield line, value
        at = _past_gap(text, at)
        closed = text[at : at + 1] == "]"
        if not closed and text[at : at + 1] != ",":
            yield line + text.count("\n", counted, at), Bad("the list is cut off, or a comma is missing after this item")
            return
        at = at if closed else _past_gap(text, at + 1)
    if _past_gap(text, at + 1) < len(text):
        yield line + text.count("\n", counted, at), Bad("something follows the list")


def _past_gap(text: str, at: int) -> int:
    found = _GAP.match(text, at)
    return found.end() if found else at


def _parsed(line: bytes) -> Any:
    """The value of one line, or the `Bad` that says why there is none."""
    try:
        return _DECODER.decode(_decoded(line).rstrip())
    except (json.JSONDecodeError, RecursionError, Bad) as error:
        return _said(error)


def _decoded(line: bytes) -> str:
    if b"\0" in line:
        raise Bad(f"NUL byte at byte {line.index(0) + 1}: save the file as UTF-8 text")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Bad(f"not UTF-8 at byte {error.start + 1} (0x{line[error.start]:02x}): save the file as UTF-8") from None


def _said(error: json.JSONDecodeError | RecursionError | Bad) -> Bad:
    if isinstance(error, Bad):
        return error
    if isinstance(error, RecursionError):
        return Bad("JSON nested too deeply")
    why = error.msg[0].lower() + error.msg[1:]
    if error.msg == "Extra data":
        why = "something follows the object: write one object a line, without commas between them"
    elif error.pos >= len(error.doc.rstrip()) or "Unterminated" in error.msg:
        why += ": the line is cut off, or its object goes on in the next line"
    return Bad(f"broken JSON at column {error.colno}: {why}")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise Bad(f"the key {short(twice)} stands twice in one object")
    return found


def _constant(name: str) -> Any:
    raise Bad(f"{name} is not JSON: leave the field out, or write null")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=_constant)
