"""Where tasks come from: built-in families, files, hub datasets, reasoning-gym, and their split into three kinds."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antaeus import gym as grading
from antaeus.errors import UserError
from antaeus.guard.overlap import Fence, overlaps
from antaeus.propose import files
from antaeus.propose.builtin import FAMILIES, builtin, names
from antaeus.propose.files import Row, read_hub, read_rows
from antaeus.propose.gym import REFUSED, grade_gym, gym
from antaeus.propose.sets import load
from antaeus.types import Anchor, Exam, Message, Practice, SealBroken, Task, TaskSet

Write = Callable[..., Path]
ADD2_EXAM = ["68 + 26 =", "33 + 20 =", "53 + 68 ="]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes | Sequence[Any], name: str = "rows.jsonl") -> Path:
        if not isinstance(content, str | bytes):
            content = "\n".join(json.dumps(row) for row in content)
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.isprintable(), "a refusal is one clean line"
    return message


def prompts(tasks: Sequence[Task]) -> list[str]:
    return [str(task.prompt) for task in tasks]


# -- built-in families


def operands(task: Task) -> tuple[int, ...]:
    assert isinstance(task.prompt, str)
    return tuple(sorted(int(word) for word in task.prompt.split() if word.isdigit()))


def quiet(name: str, seed: int, **sizes: int) -> TaskSet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return builtin(name, seed, **sizes)


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(), sizes=st.tuples(*[st.integers(1, 3000)] * 3))
def test_no_case_is_in_two_kinds_whatever_the_seeds_and_sizes(name: str, seed: int, sizes: tuple[int, int, int]) -> None:
    one = quiet(name, seed, n_practice=sizes[0], n_anchor=sizes[1], n_exam=sizes[2])
    two = quiet(name, seed + 1, n_practice=3000, n_anchor=3000, n_exam=3000)
    shots = {tuple(sorted(shot)) for shot in FAMILIES[name].shots}
    for a, b in [(one.practice, two.anchor), (one.practice, two.exam), (one.anchor, two.exam), (two.anchor, one.exam)]:
        assert not {operands(t) for t in a} & {operands(t) for t in b}
    for tasks in (two.practice, two.anchor, two.exam):
        assert tasks and not {operands(t) for t in tasks} & shots
        assert len({t.id for t in tasks}) == len(set(prompts(tasks))) == len(tasks)
    assert len(one.practice) <= sizes[0] and len(one.anchor) <= sizes[1] and len(one.exam) <= sizes[2]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_exam_is_the_same_for_every_seed_and_a_prefix_for_every_size(name: str) -> None:
    one, two = quiet(name, 0), quiet(name, 12345, n_practice=7, n_anchor=9, n_exam=20)
    assert two.exam == one.exam[:20] and two.anchor == one.anchor[:9]
    assert one.practice[:7] != two.practice
    assert quiet(name, 12345, n_practice=7).practice == two.practice


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_shots_and_form(name: str) -> None:
    tasks, sign = quiet(name, 3), FAMILIES[name].sign
    for part, vault in [
        (tasks.practice, tasks.practice_vault),
        (tasks.anchor, tasks.anchor_vault),
        (tasks.exam, tasks.exam_vault),
    ]:
        assert len(vault) == len(part)
        for task in part:
            assert vault.open(task) == str(eval(str(task.prompt).removesuffix("=").replace("×", "*")))
            assert int(vault.open(task)) >= 0 and f" {sign} " in str(task.prompt)
            assert task.completion and task.check == "math" and task.shots == tasks.exam[0].shots
    lines = tasks.exam[0].shots.splitlines(keepends=True)
    assert len(lines) == 4 and all(line.endswith("\n") and eval(line.replace("=", "==").replace("×", "*")) for line in lines)
    assert (tasks.max_tokens, tasks.stop, tasks.extract, tasks.name) == (8, ("\n",), "number", name)
    with pytest.raises(SealBroken):
        tasks.exam_vault.open(tasks.practice[0])


def test_add2_as_it_is_published() -> None:
    tasks = builtin("add2", 0)
    assert tasks.exam[0].shots == "22 + 50 = 72\n58 + 68 = 126\n20 + 53 = 73\n28 + 70 = 98\n"
    assert prompts(tasks.exam[:3]) == ADD2_EXAM  # a changed exam makes published numbers incomparable
    assert (len(tasks.practice), len(tasks.anchor), len(tasks.exam)) == (256, 64, 200)
    assert tasks.exam[0].id == "add2:" + "".join(ADD2_EXAM[0].removesuffix(" =").split())


def test_a_small_domain_gives_what_it_has_and_says_so() -> None:
    with pytest.warns(UserWarning, match=r"times is small: \(\d+, 14, 43\).* instead of \(256, 64, 200\)"):
        tasks = builtin("times", 0)
    practised = {operands(t) for t in tasks.practice}
    assert len(practised) == 30 and len(tasks.practice) == sum(len(set(case)) for case in practised)  # both orders


def test_doubles_are_in_every_kind() -> None:
    tasks = builtin("add2", 0)  # drawn half as often as pairs, a double is found later
    shares = [sum(len(set(operands(t))) == 1 for t in part) / len(part) for part in (tasks.practice, tasks.anchor, tasks.exam)]
    assert all(0 < share < 0.08 for share in shares), shares  # 2.2 % of all cases


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: builtin("ad2", 0), "there are no built-in tasks 'ad2'; did you mean add2"),
        (lambda: builtin("chess", 0), "there are add2, add3, mul2, sub2, sum3, times"),
        (lambda: builtin("add2", 0, n_exam=0), "n_exam = 0: give a whole number of at least 1"),
        (lambda: builtin("add2", 0, n_practice=-5), "n_practice = -5"),
        (lambda: builtin("add2", 0, n_anchor=True), "n_anchor = True"),
    ],
)
def test_bad_families_and_sizes(call: Callable[[], object], message: str) -> None:
    assert message in refusal(call)


def test_families_do_not_depend_on_the_hash_seed() -> None:
    code = "from antaeus.propose.builtin import builtin as b; t = b('add2', 5); print([x.id for x in (*t.exam, *t.practice)])"
    said = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "12"
    ]
    assert said[0] == said[1] and b"add2:" in said[0]


# -- the reader: what it reads


def test_rows_of_every_shape(write: Write) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?", "name": "x"}]
    path = write(
        [
            {"prompt": "a b", "answer": 27.0, "id": 7, "tags": ["t"], "extra": {"deep": [1]}},
            {"messages": chat, "answer": "4"},
            {"prompt": chat[1:], "answer": None},
            {"messages": None, "prompt": "c", "id": None},
        ]
    )
    rows = read_rows(path)
    assert rows[0] == Row("7", "a b", "27.0", ("t",), 1)
    assert rows[1].prompt == (Message("system", "Be brief."), Message("user", "2 + 2?")) and rows[1].answer == "4"
    assert rows[2].prompt == (Message("user", "2 + 2?"),) and rows[2].answer is None
    assert [r.line for r in rows] == [1, 2, 3, 4] and len(rows[3].id) == 16


def test_numbers_keep_their_writing(write: Write) -> None:
    numbers = ["1180591620717411303424", "1e400", "-0.50", "1E5", "9" * 5000]
    rows = read_rows(write("\n".join(f'{{"prompt": "p{i}", "answer": {n}}}' for i, n in enumerate(numbers))))
    assert [r.answer for r in rows] == numbers


@pytest.mark.parametrize("name", ["r.jsonl", "r.json", "r.ndjson", "R.JSONL", "with space ü.jsonl"])
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('{"prompt": "a"}\n{"prompt": "b"}', [1, 2]),
        ('\ufeff{"prompt": "a"}\r\n\r\n{"prompt": "b"}\r\n', [1, 3]),
        ('\n  \n{"prompt": "a"}\n\n\n{"prompt": "b"}\n\n', [3, 6]),
        ('[{"prompt": "a"}, {"prompt": "b"}]', [1, 1]),
        ('\ufeff\n[\n  {"prompt": "a"},\n  {\n"prompt":\n"b"}\n]\n', [3, 4]),
    ],
)
def test_layouts(write: Write, name: str, text: str, lines: list[int]) -> None:
    rows = read_rows(write(text, name))
    assert [r.prompt for r in rows] == ["a", "b"] and [r.line for r in rows] == lines


def test_gzip_and_line_separators_inside_strings(write: Write) -> None:
    text = json.dumps({"prompt": "a\u2028b\u0085c\n\x0b"}, ensure_ascii=False)
    assert read_rows(write(gzip.compress(text.encode()), "r.jsonl.gz")) == read_rows(write(text))


def test_ids_are_made_of_the_content_alone(write: Write) -> None:
    one = read_rows(write([{"prompt": "a"}, {"prompt": "b", "answer": 1}]))
    two = read_rows(write([{"prompt": "b"}, {"prompt": [{"role": "user", "content": "a"}]}, {"prompt": "a", "tags": ["x"]}]))
    assert one[0].id == two[2].id and one[1].id == two[0].id and len({r.id for r in two}) == 3


def test_repeated_rows_collapse_and_are_counted(write: Write) -> None:
    path = write([{"prompt": "a"}, {"prompt": "b", "answer": "1"}, {"prompt": "a", "answer": "2"}, {"prompt": "b", "answer": 1}])
    with pytest.warns(UserWarning, match=r"2 of 4 rows repeat an earlier prompt"):
        rows = read_rows(path)
    assert [(r.prompt, r.answer, r.line) for r in rows] == [("a", "2", 1), ("b", "1", 2)]


@pytest.mark.parametrize("token", ["<|im_start|>", "<|eot_id|>", "</s>", "[INST]", "<start_of_turn>", "<｜User｜>"])
def test_template_tokens_are_named(write: Write, token: str) -> None:
    path = write([{"prompt": "fine < | > |"}, {"messages": [{"role": "user", "content": f"x{token}user"}]}])
    with pytest.warns(UserWarning, match=r"1 prompts hold chat-template tokens such as .* \(lines 2\)"):
        assert len(read_rows(path)) == 2


def test_a_row_of_ten_megabytes_is_read(write: Write) -> None:
    assert len(str(read_rows(write([{"prompt": "word " * 2_000_000}]))[0].prompt)) == 10_000_000


# -- the reader: what it refuses, and how it says so

U = '{"role": "user", "content": "u"}'
A = '{"role": "assistant", "content": "a"}'
S = '{"role": "system", "content": "s"}'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "b', "broken JSON at column 12: unterminated string"),
        ('{"prompt": "b"', "broken JSON at column 15: expecting ',' delimiter: the line is cut off"),
        ('{"prompt": "b"},', "column 16: something follows the object: write one object a line"),
        ('{"prompt": "b"}{"prompt": "c"}', "something follows the object"),
        ("{'prompt': 'b'}", "broken JSON at column 2"),
        ('{"prompt": "b\tc"}', "broken JSON at column 14: invalid control character"),
        ("nonsense", "broken JSON at column 1"),
        ('{"prompt": "b", "answer": NaN}', "NaN is not JSON"),
        ('{"prompt": "b", "other": -Infinity}', "-Infinity is not JSON"),
        ('{"prompt": "b", "prompt": "c"}', "the key 'prompt' stands twice"),
        ('{"prompt": "b", "meta": {"k": 1, "k": 2}}', "the key 'k' stands twice"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"prompt": "b\\ud800c"}', "'prompt' holds half a character (lone surrogate \\ud800) at position 2"),
        ('{"prompt": "b", "answer": "\\udc00"}', "'answer' holds half a character"),
        ('{"prompt": "b\\u0000"}', "'prompt' holds a NUL character at position 2"),
        ("17", "expected an object with 'prompt' or 'messages', found a number"),
        ("null", "found missing or null"),
        ('["prompt"]', "found a list"),
        ('{"question": "b", "\\u001b[31m": 1}', "no 'prompt' and no 'messages' (columns: 'question', '\\x1b[31m')"),
        ("{}", "no 'prompt' and no 'messages' (columns: none)"),
        ('{"prompt": null}', "no 'prompt' and no 'messages'"),
        (f'{{"prompt": "b", "messages": [{U}]}}', "both 'prompt' and 'messages': keep one"),
        ('{"prompt": 5}', "'prompt' is a number, not a string"),
        ('{"prompt": {"role": "user"}}', "'prompt' is an object, not a string"),
        ('{"prompt": " \\n"}', "'prompt' is empty"),
        ('{"messages": "b"}', "'messages' is a string, not a list of messages"),
        ('{"messages": []}', "'messages': the last message must be the user's, found none"),
        (f'{{"messages": [{S}]}}', "the last message must be the user's, found none"),
        ('{"messages": ["b"]}', "'messages[0]' is a string, not an object with 'role' and 'content'"),
        (f'{{"messages": [{U}, {A}]}}', "the last message must be the user's, found assistant"),
        (f'{{"messages": [{S}, {S}, {U}]}}', "2 system messages: at most one"),
        (f'{{"messages": [{U}, {A}, {S}, {U}]}}', "the system message must come first"),
        (f'{{"messages": [{U}, {U}]}}', "roles out of order: user and assistant take turns, found user, user"),
        (f'{{"prompt": [{A}, {U}]}}', "'prompt': roles out of order"),
        (
            '{"messages": [{"role": "tool", "content": "x"}]}',
            "'messages[0].role' is 'tool': known are system, user and assistant",
        ),
        ('{"messages": [{"content": "x"}]}', "'messages[0].role' is missing or null"),
        (f'{{"messages": [{U}, {{"role": "assistant", "content": ""}}, {U}]}}', "'messages[1].content' is empty"),
        ('{"messages": [{"role": "user"}]}', "'messages[0].content' is missing or null, not a string"),
        ('{"messages": [{"role": "user", "content": [{"type": "text"}]}]}', "'messages[0].content' is a list, not a string"),
        ('{"prompt": "b", "answer": true}', "'answer' is a boolean, not a string or number"),
        ('{"prompt": "b", "answer": ["4"]}', "'answer' is a list"),
        ('{"prompt": "b", "answer": ""}', "'answer' is empty: leave it out where there is none"),
        ('{"prompt": "b", "id": false}', "'id' is a boolean"),
        ('{"prompt": "b", "id": "  "}', "'id' is empty"),
        ('{"prompt": "b", "tags": "t"}', "'tags' is a string, not a list of strings"),
        ('{"prompt": "b", "tags": [1]}', "'tags[0]' is a number, not a string"),
        ('{"prompt": "a", "answer": "5"}', "the prompt of line 1 again, with another answer: '4' and '5'"),
        ('{"prompt": "b", "id": "first"}', "the id 'first' stands on line 1 too"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_line(write: Write, line: str, message: str) -> None:
    path = write('{"prompt": "a", "answer": "4", "id": "first"}\n\n' + line + "\n")
    said = refusal(lambda: read_rows(path))
    assert said.startswith(f"{path}:3: ") and message in said


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n', 2, "not UTF-8 at byte 16 (0xe9)"),
        (b'{"prompt": "a"}\n{"prompt": "caf\xc3', 2, "not UTF-8 at byte 16"),
        (b'{"prompt": "a"}\n{"prompt": "\x00"}\n', 2, "NUL byte at byte 13"),
        (b'{"prompt": "\xed\xa0\x80"}', 1, "not UTF-8"),
        ('{"prompt": "a"}'.encode("utf-16"), 1, "UTF-16: save the file as UTF-8"),
        ('{"prompt": "a"}'.encode("utf-16-be"), 1, "NUL byte at byte 1"),
        (b'[{"prompt": "a"},\n{"prompt": "caf\xe9"}]', 2, "not UTF-8 at byte 16"),
        (b'[\n{"prompt": "a"},\n]', 3, "broken JSON at column 1: expecting value"),
        (b'[\n{"prompt": "a"}\n{"prompt": "b"}]', 3, "the list is cut off, or a comma is missing"),
        (b'[\n{"prompt": "a"},\n{"prompt": "b"}\n', 4, "the list is cut off"),
        (b'[\n{"prompt": "a"},\n{"prompt":\n"b', 4, "unterminated string"),
        (b'[{"prompt": "a"}]\n\n{"prompt": "b"}', 1, "something follows the list"),
        (b'[\n{"prompt": "a"},\n\n{"prompt":\n7}\n]', 4, "'prompt' is a number"),
        (b'[\n{"prompt": "a"},\n{"prompt": "b", "x": NaN}]', 3, "NaN is not JSON"),
        (b"[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_bad_bytes_and_lists_are_refused_by_file_and_line(write: Write, content: bytes, line: int, message: str) -> None:
    path = write(content)
    said = refusal(lambda: read_rows(path))
    assert said.startswith(f"{path}:{line}: ") and message in said


@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff", "[]", " [ ]\n"])
def test_a_file_without_rows(write: Write, content: str) -> None:
    path = write(content)
    assert refusal(lambda: read_rows(path)).startswith(f"{path} has no rows: write one object a line")


def test_many_bad_rows_are_counted_in_one_line(write: Write) -> None:
    rows = [json.dumps({"prompt": f"p{i}"}) for i in range(10_000)]
    rows[4] = rows[6] = rows[7] = rows[9_998] = '{"prompt": 5}'
    path = write("\n".join(rows))
    said = refusal(lambda: read_rows(path))
    assert said == f"{path}:5: 'prompt' is a number, not a string (4 bad rows in all, lines 5, 7, 8, ...)"
    rows[7] = "{"
    path = write("\n".join(rows[:8]))
    assert refusal(lambda: read_rows(path)).endswith("(3 bad rows in all, lines 5, 7, 8)")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl.gz", b'{"prompt": "a"}', "is not a whole gzip file"),
        ("r.jsonl.gz", gzip.compress(b'{"prompt": "a"}' * 50, mtime=0)[:-12], "is not a whole gzip file"),
        ("r.jsonl.gz", gzip.compress(b"x", mtime=0)[:12] + b"\xff" * 30, "is not a whole gzip file"),
        ("r.csv", b"prompt\na", "only .jsonl, .ndjson, .json"),
        ("r.parquet", b"PAR1", "convert it to JSON Lines"),
        ("r", b'{"prompt": "a"}', "only .jsonl"),
    ],
)
def test_bad_files(write: Write, name: str, content: bytes, message: str) -> None:
    path = write(content, name)
    said = refusal(lambda: read_rows(path))
    assert str(path) in said and message in said


def test_bad_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(lambda: read_rows(tmp_path / "no.jsonl")) == f"there is no file {tmp_path / 'no.jsonl'}"
    assert "is a directory" in refusal(lambda: read_rows(tmp_path))
    assert "there is no file" in refusal(lambda: read_rows("a\0b.jsonl"))
    assert "\\x1b" in refusal(lambda: read_rows("\x1b[2Jno\n.jsonl"))
    assert "there is no file" in refusal(lambda: read_rows("\ud800.jsonl"))
    assert len(refusal(lambda: read_rows("x" * 5000 + ".jsonl"))) < 500
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nowhere.jsonl")
    assert "there is no file" in refusal(lambda: read_rows(tmp_path / "dangling.jsonl"))
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "not a regular file" in refusal(lambda: read_rows(tmp_path / "pipe.jsonl"))
    (tmp_path / "shut.jsonl").write_text('{"prompt": "a"}')

    def shut(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", shut)
    assert refusal(lambda: read_rows(tmp_path / "shut.jsonl")) == f"cannot read {tmp_path / 'shut.jsonl'}: Permission denied"


def test_a_file_that_changes_while_it_is_read(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write([{"prompt": "a"}])
    collect = files.collect

    def late(name: str, records: Any) -> list[Row]:
        rows = collect(name, records)
        path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
        return rows

    monkeypatch.setattr(files, "collect", late)
    assert "changed while it was read" in refusal(lambda: read_rows(path))


def test_bombs_are_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_LONGEST", 1 << 20)
    bomb = write(gzip.compress(b'{"prompt": "a"}\n' + b" " * (8 << 20)), "bomb.jsonl.gz")
    assert f"{bomb}:2: a row of more than 1 MiB" in refusal(lambda: read_rows(bomb))
    longer = write("[\n" + " " * 80 + ("\n" + " " * 80) * 20_000 + "]", "bomb.json")
    assert "a JSON list of more than 1 MiB" in refusal(lambda: read_rows(longer))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prompt", "messages", "role", "content", "answer", "id", "tags", "x"]), inner, max_size=5
        )
        | st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": inner})
    ),
    max_leaves=12,
)
LINES = st.lists(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30), max_size=5).map(b"\n".join)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=LINES | st.binary(max_size=200) | JSON.map(lambda v: json.dumps([v, v]).encode()), gz=st.booleans())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_reader_gives_sound_rows_or_a_user_error(write: Write, content: bytes, gz: bool) -> None:
    path = write(gzip.compress(content) if gz else content, "r.jsonl.gz" if gz else "r.jsonl")
    try:
        rows = read_rows(path)
    except UserError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
        return
    assert rows and len({r.id for r in rows}) == len({r.prompt for r in rows}) == len(rows)
    for row in rows:
        texts = [row.prompt] if isinstance(row.prompt, str) else [m.content for m in row.prompt]
        assert all(text.strip() and text.encode() for text in texts) and row.answer != ""
        assert isinstance(row.prompt, str) or row.prompt[-1].role == "user"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 90), flip=st.integers(0, 90), to=st.integers(0, 255))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_gzip_files_are_user_errors(write: Write, cut: int, flip: int, to: int) -> None:
    data = bytearray(gzip.compress(b"\n".join(json.dumps({"prompt": f"p{i * i}"}).encode() for i in range(20))))
    data[min(flip, len(data) - 1)] = to
    try:
        assert read_rows(write(bytes(data[: len(data) - cut]), "r.jsonl.gz"))
    except UserError as error:
        assert "r.jsonl.gz" in str(error)


# -- the hub


def hub(monkeypatch: pytest.MonkeyPatch, rows: Sequence[dict[str, Any]] | Exception) -> list[tuple[Any, ...]]:
    calls: list[tuple[Any, ...]] = []

    def load_dataset(path: str, config: str | None = None, *, split: str) -> Sequence[dict[str, Any]]:
        calls.append((path, config, split))
        if isinstance(rows, Exception):
            raise rows
        return rows

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_hub_columns_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = hub(
        monkeypatch,
        [
            {"question": "q1", "answer": "so 1,200 / 2 = 600 ... \n#### 1,200", "id": 3, "tags": "ignored"},
            {"problem": "q2", "answer": 7},
            {"prompt": "q3", "messages": [{"role": "assistant", "content": "x"}], "answer": None},
            {"messages": [{"role": "user", "content": "q4"}], "answer": 0.5},
        ],
    )
    rows = read_hub("openai/gsm8k/main", "test")
    assert calls == [("openai/gsm8k", "main", "test")]
    assert [(r.prompt, r.answer) for r in rows[:3]] == [("q1", "1200"), ("q2", "7"), ("q3", None)]
    assert rows[3].prompt == (Message("user", "q4"),) and rows[3].answer == "0.5"
    read_hub("squad")
    assert calls[1] == ("squad", None, "train")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ConnectionError("Couldn't reach\nthe Hub"),
            "cannot load 'train' of hub dataset 'a/b': ConnectionError: Couldn't reach the Hub",
        ),
        ([{"text": "x"}], "hub:a/b:train:1: no 'prompt' and no 'messages' (columns: 'text')"),
        ([{"prompt": "x", "answer": float("nan")}], "hub:a/b:train:1: 'answer' is nan, which is no number"),
        ([{"prompt": "x", "answer": True}], "'answer' is a boolean"),
        ([], "hub:a/b:train has no rows"),
    ],
)
def test_hub_refusals(monkeypatch: pytest.MonkeyPatch, rows: Any, message: str) -> None:
    hub(monkeypatch, rows)
    assert message in refusal(lambda: read_hub("a/b"))


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'antaeus[hub]'" in refusal(lambda: read_hub("a/b"))


# -- reasoning-gym


@pytest.fixture(scope="module")
def legs() -> TaskSet:
    pytest.importorskip("reasoning_gym")
    return gym("leg_counting", 0, 30, 10, 20)


def test_only_full_marks_are_right(legs: TaskSet) -> None:
    for task in legs.exam:
        sealed = legs.exam_vault.open(task)
        gold = json.loads(sealed)["answer"]

        def right(answer: str | None, check: str = task.check, sealed: str = sealed) -> bool | None:
            return grade_gym(check=check, sealed=sealed, answer=answer)

        assert right(gold) is True
        assert [right(wrong) for wrong in (f"It is {gold}.", gold + " ", f"{gold} or 7", "0", "", None)] == [False] * 6
    assert task.check == "reasoning-gym:leg_counting"


def test_the_scorer_alone_would_give_partial_credit(legs: TaskSet) -> None:
    entry = grading.dataset("leg_counting", 0)[0]
    assert 0 < grading.dataset("leg_counting", 0).score_answer(f"It is {entry['answer']}.", entry) < 1


def test_gym_parts_are_apart_and_comparable(legs: TaskSet) -> None:
    other = gym("leg_counting", 1, 30, 10, 20)
    assert other.exam == legs.exam and other.anchor == legs.anchor
    assert not {t.id for t in other.practice} & {t.id for t in legs.practice}
    assert gym("leg_counting", 0, 30, 10, 20).practice == legs.practice
    assert [len(part) for part in (legs.practice, legs.anchor, legs.exam)] == [30, 10, 20]
    assert len({*prompts(legs.practice), *prompts(legs.anchor), *prompts(legs.exam)}) == 60
    assert overlaps(legs.practice, [*legs.anchor, *legs.exam]) == []
    Fence([*legs.anchor, *legs.exam]).check(legs.practice)
    with pytest.raises(SealBroken):
        legs.exam_vault.open(legs.practice[0])


@pytest.mark.parametrize("name", ["arc_1d", "arc_agi", "gsm_symbolic", "graph_color", "boxnet", "calendar_arithmetic", "jugs"])
def test_sealing_keeps_what_scorers_need(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    for i in range(12):
        entry = {key: grading.dataset(name, 3)[i][key] for key in ("question", "answer", "metadata")}
        assert grading._unsealed(grading.seal(entry)) == entry
        if entry["answer"] is not None:
            assert grade_gym(check=f"reasoning-gym:{name}", sealed=grading.seal(entry), answer=entry["answer"]) is True


def test_sealing_of_every_kind_of_value() -> None:
    entry = {"a": (1, (2.5, None)), "b": {1: "x", (2, 3): [True]}, "c": {"~": "tuple", "of": 1}, "d": [{"e": ()}]}
    again = grading._unsealed(grading.seal(entry))
    assert again == entry and type(again["a"][1]) is tuple and again["b"][2, 3] == [True]
    assert "a complex, which cannot be sealed" in refusal(lambda: grading.seal({"a": 1j}))


HOSTILE = [
    "__import__('os').system('touch {flag}')",
    "open('{flag}', 'w')",
    "[0 for x in [open('{flag}', 'w')]]",
    "().__class__.__base__.__subclasses__()",
    "(lambda: 0)()",
    "ｏｐｅｎ('{flag}', 'w')",
    "9**9**9**9",
    "((9**64)**64)**64",
    "2**(60*60*60*60)",
    "[0]*10**12",
    "1000000!",
    "(" * 5000,
    "9" * 100_000,
]


@pytest.mark.parametrize("name", [*grading._EVALUATED, *grading._PARSED])
def test_answers_are_never_executed(name: str, tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    flag = tmp_path / "executed"
    sealed = grading.seal({key: grading.dataset(name, 0)[0][key] for key in ("question", "answer", "metadata")})
    for text in HOSTILE:
        answer = text.replace("{flag}", str(flag))
        assert grade_gym(check=f"reasoning-gym:{name}", sealed=sealed, answer=answer) is False
    assert not flag.exists()
    assert grade_gym(check=f"reasoning-gym:{name}", sealed=sealed, answer=json.loads(sealed)["answer"]) is True


def test_what_counts_as_plain_algebra() -> None:
    fine = [
        "40*(94 - 90) + 83 - 74",
        "2*(4*x + 2)**(3/2)/3 + C",
        "-cos(3*x - 10)**3/3",
        "exp(x)*sin(x)",
        "X**-2",
        "2**(3*x)",
        "pi*x",
    ]
    assert [text for text in fine if not grading._is_algebra(text)] == []
    large = [
        "2**(60*60)",
        "x**65",
        "1e300*x",
        "3**(2**2)",
        "((x**2)**2)**2",
        "x.y",
        "f(x)",
        "sin(x)(2)",
        "sin(x=2)",
        "a and b",
        "x if y else z",
    ]
    assert [text for text in [*HOSTILE, *large, ""] if grading._is_algebra(text)] == []


def test_tasks_whose_own_answer_is_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("reasoning_gym")
    monkeypatch.setattr("antaeus.propose.gym.grade_gym", lambda *, check, sealed, answer: int(answer) % 2 == 0)
    tasks = gym("leg_counting", 0, 10, 5, 5)
    parts = [(tasks.practice, tasks.practice_vault), (tasks.anchor, tasks.anchor_vault), (tasks.exam, tasks.exam_vault)]
    assert all(int(json.loads(vault.open(task))["answer"]) % 2 == 0 for part, vault in parts for task in part)
    assert sizes(tasks) == (10, 5, 5)


def test_every_generator_that_evaluates_is_known() -> None:
    """A new version of reasoning-gym that evaluates answers elsewhere must not slip in."""
    pytest.importorskip("reasoning_gym")
    import inspect
    import re

    from reasoning_gym.factory import DATASETS

    evaluates = re.compile(r"\b(?:eval|exec|parse_expr|sympify|literal_eval|__import__|compile)\(")
    scoring = {
        name
        for name, (kind, _) in DATASETS.items()
        if "score_answer" in vars(kind) and evaluates.search(inspect.getsource(kind.score_answer))
    }
    # number_sorting evaluates its own entry only.
    assert scoring - {"number_sorting"} == {*grading._EVALUATED, *grading._PARSED}


def test_correct_algebra_still_reaches_its_scorer() -> None:
    pytest.importorskip("reasoning_gym")
    for name in ("countdown", "simple_integration"):
        for i in range(15):
            entry = {key: grading.dataset(name, 1)[i][key] for key in ("question", "answer", "metadata")}
            assert grade_gym(check=name, sealed=grading.seal(entry), answer=f" ({entry['answer']}) ") is True
    entry = grading.dataset("simple_integration", 1)[0]
    sealed = grading.seal({key: entry[key] for key in ("question", "answer", "metadata")})
    copied = f"Integral({entry['metadata']['integrand']}, {entry['metadata']['variable']})"
    assert grade_gym(check="simple_integration", sealed=sealed, answer=copied) is False  # the question is no answer


@pytest.mark.parametrize("name", ["coin_flip", "game_of_life_halting", "puzzle24"])
def test_unsound_generators_are_refused(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    assert f"gym:{name} cannot be used: its scorer" in refusal(lambda: gym(name, 0))
    data = grading.dataset(name, 0)
    wrong = {"coin_flip": "0", "game_of_life_halting": "no idea", "puzzle24": "6*4*1*1"}[name]
    marks = [data.score_answer(wrong, data[i]) == 1.0 for i in range(20)]
    assert sum(marks) > 5, "if this scorer has been mended, it may leave REFUSED"
    assert name in REFUSED


def test_unknown_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("reasoning_gym")
    assert "no generator 'leg_countin'; did you mean leg_counting" in refusal(lambda: gym("leg_countin", 0))
    assert "such as leg_counting" in refusal(lambda: gym("", 0))
    assert "n_exam = 0" in refusal(lambda: gym("leg_counting", 0, n_exam=0))
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    assert "pip install 'antaeus[gym]'" in refusal(lambda: gym("spell_backward", 0))


class Broken:
    """A generator whose scorer raises for some answers, or for all."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        if answer in self.answers:
            raise ZeroDivisionError
        return 1.0 if answer == entry["answer"] else 0.9999


def test_a_grader_that_fails_abstains_but_nonsense_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = grading.seal({"question": "q", "answer": "4", "metadata": {}})
    monkeypatch.setattr(grading, "dataset", lambda *_: Broken("junk"))
    assert [grade_gym(check="reasoning-gym:x", sealed=sealed, answer=a) for a in ("4", "5", "junk")] == [True, False, False]
    monkeypatch.setattr(grading, "dataset", lambda *_: Broken("junk", "4"))
    assert [grade_gym(check="reasoning-gym:x", sealed=sealed, answer=a) for a in ("4", "junk", None)] == [None, None, False]
    assert grade_gym(check="reasoning-gym:x", sealed="not JSON", answer="5") is None


def test_a_generator_that_runs_dry_says_so() -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.warns(UserWarning, match=r"gym:tower_of_hanoi ran dry: \(\d+, 20, 40\)"):
        tasks = gym("tower_of_hanoi", 0, 40, 20, 40)
    assert len(tasks.practice) < 40 and len(set(prompts(tasks.practice))) == len(tasks.practice)


# -- sets


def numbered(n: int, *, answers: bool = True, start: int = 0) -> list[dict[str, Any]]:
    words = ["apples", "pears", "plums", "nuts", "figs", "eggs", "jars"]
    return [
        {"prompt": f"{i} {words[i % 7]} and {i * i} {words[i % 5]}?", **({"answer": i + i * i} if answers else {})}
        for i in range(start, start + n)
    ]


def sizes(tasks: TaskSet) -> tuple[int, int, int]:
    return len(tasks.practice), len(tasks.anchor), len(tasks.exam)


def test_load_dispatches_by_name(legs: TaskSet) -> None:
    assert load("add2", seed=0).exam == builtin("add2", 0).exam
    assert sizes(load("add2", seed=0, n_practice=5, n_anchor=6, n_exam=7)) == (5, 6, 7)
    assert load("gym:leg_counting", seed=0, n_practice=30, n_anchor=10, n_exam=20).exam == legs.exam
    own = load("add2", seed=0, max_tokens=20, stop=["\n", "Q"], extract="line")
    assert (own.max_tokens, own.stop, own.extract) == (20, ("\n", "Q"), "line")
    assert set(names()) == set(FAMILIES) and all(names().values())


def test_a_file_with_answers_is_split_by_content(write: Write) -> None:
    rows = numbered(400)
    with pytest.warns(UserWarning, match=r"rows.jsonl: \d+ anchor tasks instead of 1000, \d+ exam tasks instead of 1000"):
        tasks = load(str(write(rows)), seed=0, n_anchor=1000, n_exam=1000)
    assert sum(sizes(tasks)) == 400 and 50 < len(tasks.exam) < 110 and 35 < len(tasks.anchor) < 85
    assert {type(t) for t in tasks.practice} == {Practice} and {type(t) for t in tasks.anchor} == {Anchor}
    assert all(tasks.exam_vault.open(t) == str(sum(int(w) for w in str(t.prompt).split() if w.isdigit())) for t in tasks.exam)
    assert {type(t) for t in tasks.exam} == {Exam} and len(tasks.practice_vault) == len(tasks.practice)
    assert (tasks.max_tokens, tasks.stop, tasks.extract, tasks.name) == (256, (), "auto", "rows.jsonl")
    Fence([*tasks.anchor, *tasks.exam]).check(tasks.practice)

    with pytest.warns(UserWarning):
        more = load(str(write([*reversed(rows), *numbered(300, start=1000)])), seed=9, n_anchor=1000, n_exam=1000)
    for part in ("practice", "anchor", "exam"):  # no row changes its kind when the file grows or is shuffled
        assert {t.id for t in getattr(tasks, part)} <= {t.id for t in getattr(more, part)}


def test_the_seed_orders_and_chooses_practice_only(write: Write) -> None:
    path = str(write(numbered(400)))
    with pytest.warns(UserWarning, match="30 of .* practice rows are used"):
        one, two = load(path, seed=0, n_practice=30), load(path, seed=1, n_practice=30)
    assert one.exam == two.exam and one.anchor == two.anchor and one.practice != two.practice
    with pytest.warns(UserWarning):
        assert load(path, seed=0, n_practice=30).practice == one.practice
    assert len(one.practice) == 30 and len(one.anchor) <= 64


def test_no_practice_row_of_a_file_is_lost_by_default(write: Write) -> None:
    practice, held = write(numbered(700, answers=False), "p.jsonl"), write(numbered(40, start=5000), "h.jsonl")
    exam = write(numbered(30, start=9000), "e.jsonl")
    tasks = load(str(practice), seed=0, anchor=str(held), exam=str(exam))
    assert sizes(tasks) == (700, 40, 30) and len(tasks.practice_vault) == 0


def test_a_part_that_is_given_leaves_the_files_own_rows_to_practice(write: Write) -> None:
    spec, exam = str(write(numbered(120))), str(write(numbered(30, start=9000), "e.jsonl"))
    whole, tasks = load(spec, seed=0), load(spec, seed=0, exam=exam)
    assert {t.id for t in tasks.practice} == {t.id for t in (*whole.practice, *whole.exam)}
    assert tasks.anchor == whole.anchor and len(tasks.exam) == 30


def test_unused_held_out_rows_are_said(write: Write) -> None:
    with pytest.warns(UserWarning, match=r"5 anchor and 6 exam tasks are used, \d+ more held-out rows are not"):
        assert sizes(load(str(write(numbered(200))), seed=0, n_anchor=5, n_exam=6))[1:] == (5, 6)


def test_rows_without_answers_are_practice(write: Write) -> None:
    path = write([*numbered(100), *numbered(100, answers=False, start=500)])
    tasks = load(str(path), seed=0)
    held = {t.id for t in (*tasks.anchor, *tasks.exam)}
    assert not held & {r.id for r in read_rows(path) if r.answer is None} and len(tasks.practice) + len(held) == 200


def test_without_sealed_answers_there_is_nothing_to_promote_by(write: Write) -> None:
    path, held = str(write(numbered(50, answers=False))), str(write(numbered(9, start=99), "h.jsonl"))
    said = refusal(lambda: load(path, seed=0))
    assert said.startswith(f"{path}: no row has an answer, so it can only be practice; give --anchor FILE and --exam FILE")
    assert "without sealed answers nothing can be promoted" in said
    assert "give --exam FILE with" in refusal(lambda: load(path, seed=0, anchor=held))
    assert "give --anchor FILE with" in refusal(lambda: load(path, seed=0, exam=held))


def test_too_few_rows_to_split(write: Write) -> None:
    path = str(write(numbered(1)))
    assert "1 rows with answers are too few to split, none fell to" in refusal(lambda: load(path, seed=0))


def test_held_out_files_need_answers(write: Write) -> None:
    half = str(write([*numbered(3), *numbered(2, answers=False, start=7)], "half.jsonl"))
    said = refusal(lambda: load("add2", seed=0, exam=half))
    assert said == f"{half}:4: no answer (2 of 5 rows have none): every exam task of add2 needs one, it is measured on"


def test_a_file_in_place_of_a_part_takes_the_form_of_the_set(write: Write) -> None:
    path = write(
        [{"prompt": "100 + 1 =", "answer": "101"}, {"messages": [{"role": "user", "content": "100 + 2 ="}], "answer": 102}]
    )
    tasks = load("add2", seed=0, exam=str(path))
    text, chat = sorted(tasks.exam, key=lambda t: isinstance(t.prompt, tuple))
    assert text.shots == tasks.practice[0].shots and text.completion and not chat.completion and chat.shots == ""
    assert tasks.exam_vault.open(text) == "101" and tasks.anchor == builtin("add2", 0).anchor
    practice = load("add2", seed=0, practice=str(path), n_anchor=3, n_exam=3)
    assert {type(t) for t in practice.practice} == {Practice} and sizes(practice) == (2, 3, 3)


def test_files_that_overlap_are_refused_with_ids(write: Write) -> None:
    practice = str(write([{"id": f"p{i}", **row} for i, row in enumerate(numbered(9, answers=False))], "p.jsonl"))
    exam = str(write([{"id": "e1", "prompt": "3  APPLES and 9 x?", "answer": 1}, *numbered(3, start=50)], "e.jsonl"))
    anchor = str(write([{"id": f"a{i}", **row} for i, row in enumerate(numbered(6, start=70))], "a.jsonl"))
    assert sizes(load(practice, seed=0, anchor=anchor, exam=exam)) == (9, 6, 4)
    planted = numbered(1, start=3)[0]["prompt"].upper().replace(" ", "  ")
    exam = str(write([{"id": "e1", "prompt": planted, "answer": 1}, *numbered(3, start=50)], "e.jsonl"))
    said = refusal(lambda: load(practice, seed=0, anchor=anchor, exam=exam))
    assert said.startswith(
        f"1 practice tasks of {practice} also stand in the exam tasks of {exam} (practice = exam: 'p3' = 'e1')"
    )
    both = str(write([*numbered(1, start=71), *numbered(3, start=50)], "e.jsonl"))
    assert f"1 anchor tasks of {anchor} also stand in the exam tasks" in refusal(
        lambda: load(practice, seed=0, anchor=anchor, exam=both)
    )
    other = str(write(numbered(3, start=90), "o.jsonl"))
    assert "no practice task is left" in refusal(lambda: load(practice, seed=0, practice=anchor, anchor=other, exam=anchor))


def test_a_file_in_place_of_the_exam_drops_generated_practice(write: Write) -> None:
    there = builtin("add2", 0).practice[5]
    exam = str(write([{"prompt": there.prompt, "answer": 1}, {"prompt": "100 + 1 =", "answer": "101"}]))
    with pytest.warns(
        UserWarning, match=f"1 practice tasks near held-out ones were dropped \\('{there.id}'\\)".replace("+", r"\+")
    ):
        tasks = load("add2", seed=0, exam=exam)
    assert len(tasks.practice) == 255 and there.id not in {t.id for t in tasks.practice}


def test_near_duplicates_within_a_file_do_not_cross_the_split(write: Write) -> None:
    text = "A farmer counts {} sheep, {} goats and {} geese on the meadow behind the mill; how many animals does he {} today?"
    rows = [
        {"prompt": text.format(i, i + 1, i * i, verb), "answer": i + i + 1 + i * i}
        for i in range(120)
        for verb in ("count", "see")
    ]
    with pytest.warns(UserWarning, match="near held-out ones were dropped"):
        tasks = load(str(write(rows)), seed=0)
    assert overlaps(tasks.practice, [*tasks.anchor, *tasks.exam]) == [] == overlaps(tasks.anchor, tasks.exam)
    Fence([*tasks.anchor, *tasks.exam]).check(tasks.practice)
    assert len(tasks.practice) > 60


def test_variants_in_space_and_case_fall_to_one_kind(write: Write) -> None:
    rows = [{"prompt": p, "answer": "1"} for r in numbered(100) for p in (r["prompt"], r["prompt"].upper().replace(" ", "  "))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing needs dropping: the hash does not see the difference
        tasks = load(str(write(rows)), seed=0)
    assert sum(sizes(tasks)) == 200


def test_hub_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = hub(monkeypatch, [{"question": row["prompt"], "answer": f"#### {row['answer']}"} for row in numbered(90)])
    tasks = load("hub:openai/gsm8k/main:test", seed=0)
    assert calls == [("openai/gsm8k", "main", "test")] and sum(sizes(tasks)) == 90
    assert tasks.name == "hub:openai/gsm8k/main:test"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "ad2"}, "unknown tasks 'ad2'; did you mean"),
        ({"spec": ""}, "unknown tasks ''; there are add2"),
        ({"spec": "\x1b[31m"}, "unknown tasks '\\x1b[31m'"),
        ({"spec": "no/such.jsonl"}, "there is no file no/such.jsonl"),
        ({"spec": "rows.csv"}, "there is no file rows.csv"),
        ({"spec": "add2", "exam": "no.jsonl"}, "there is no file no.jsonl"),
        ({"spec": "add2", "n_exam": 0}, "n_exam = 0"),
        ({"spec": "add2", "max_tokens": 0}, "max_tokens = 0"),
        ({"spec": "add2", "stop": [""]}, "stop = ['']"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    assert message in refusal(lambda: load(**arguments, seed=0))
