"""The report's sections on self-edits for puzzles and on forgetting, against run directories made up here."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import HOSTILE, Page, assert_self_contained, make_run, read, write_lines

from antaeus.grids import Puzzle, prompt_of, show
from antaeus.learn.bounds import Settings
from antaeus.learn.self_edit import written
from antaeus.reporting import boards, edits, forgetting, heatmap, passages, puzzles
from antaeus.reporting.page import write_report
from antaeus.reporting.wording import is_number, visible

JUNK = (None, True, 7, -1.5, "text", HOSTILE, [], [[]], [None, {}], {}, {"a": [1]}, 10**400, float("nan"))
RIGHT = ((1, 2), (3, 0))
EDIT = written(Settings(1e-3, 2, "all", ("size", "chain")))


# ---- made-up runs ------------------------------------------------------------------------------------------------------------


def drawn(rng: random.Random, side: int, colours: int = 10):
    return tuple(tuple(rng.randrange(colours) for _ in range(side)) for _ in range(side))


def tried(text: Any, answer: Any, score: Any, why: Any, parts: Any = None) -> dict[str, Any]:
    verdict = {"score": score, "source": "ground", "why": why, "parts": parts or {}, "spent": 0}
    return {"index": 0, "text": text, "answer": answer, "stop": "eos", "tokens": 9, "verdict": verdict}


def line_of(at: int, puzzle: Puzzle, attempts: Any, name: str = "") -> dict[str, Any]:
    task = {
        "id": name or f"p{at}/0",
        "prompt": prompt_of(puzzle),
        "shots": "",
        "completion": True,
        "check": "exact",
        "passage": None,
    }
    return {"round": at, "set": "practice", "version": "base", "task": task, "attempts": attempts}


def usual() -> list[dict[str, Any]]:
    """What four sorts of self-edits leave: two equal ones that solved, one that did not, one refused, and no self-edit at all."""
    bold = written(Settings(0.1, 50, "output", ()))
    return [
        tried("I would rather not.", None, 0.0, "no JSON object: answered untrained, no answer", {"refused": 1.0}),
        tried(bold, "|11|", 0.0, "learning_rate 0.1 is not a number from 1e-06 to 0.001: answered untrained, wrong", {"refused": 1.0}),
        tried(written(Settings(3e-5, 1, "output", ())), "|00|00|", 0.0, "wrong"),
        tried(EDIT, show(RIGHT), 1.0, "right"), tried(EDIT, show(RIGHT), 1.0, "right"),
    ]  # fmt: skip


def with_lines(folder: Path, lines: list[Any], **summary: Any) -> Path:
    """A finished run whose practice is these lines, with these parts of its summary."""
    run = make_run(folder, rounds=2, per_round=0)
    kept = [line for line in (run / "attempts.jsonl").read_text().splitlines() if '"practice"' not in line]
    (run / "attempts.jsonl").write_text("\n".join([*(x if isinstance(x, str) else json.dumps(x) for x in lines), *kept]))
    found = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(found | summary))
    return run


def puzzle_run(folder: Path, n: int = 3, **summary: Any) -> Path:
    rng = random.Random(0)
    shown = [Puzzle(tuple((drawn(rng, 3), drawn(rng, 2)) for _ in range(3)), drawn(rng, 3)) for _ in range(n)]
    return with_lines(folder, [line_of(i + 1, puzzle, usual()) for i, puzzle in enumerate(shown)], **summary)


def forgotten(n: int, refused: tuple[str, ...] = (), keep: float = 0.9) -> dict[str, Any]:
    """A matrix as it is where each passage loses a share with every other that is studied after it."""
    share = {(i, j): 0.05 if i <= j else 0.1 + 0.9 * keep ** (i - j - 1) for i in range(n + 1) for j in range(n)}
    return {
        "passages": [f"Passage {j}, and how it begins" for j in range(n)], "questions": [3] * n,
        "versions": ["base", *(f"r{i:03d}" for i in range(1, n + 1))], "studied": [None, *range(n)],
        "matrix": [[share[i, j] for j in range(n)] for i in range(n + 1)], "refused": list(refused),
        "immediate": 0.61, "retained": 0.48, "base": 0.125, "first_half_retained": 0.4, "first_half_immediate": 0.625,
    }  # fmt: skip


def section(found: Page, title: str) -> str:
    """The part of a page under one heading."""
    return next(part for part in found.raw.split("<section>") if f"<h2>{title}</h2>" in part)


# ---- puzzles -----------------------------------------------------------------------------------------------------------------


def test_puzzles_stand_with_their_self_edits_and_what_became_of_them(tmp_path: Path) -> None:
    told = {"in_context": {"n": 8, "accuracy": 0.125, "ci": [0.02, 0.4]}, "oracle": {"n": 8, "accuracy": 0.5, "ci": [0.2, 0.8]}}
    found = read(puzzle_run(tmp_path, baselines=told))
    assert_self_contained(found)
    assert "3 of 3 puzzles that were practised on" in found.text and "Round 1: p1/0 (2 of 5 self-edits kept)" in found.text
    kept = found.row("augmented by size, chain; loss on all tokens; rate 0.001; 2 epochs 2 times")
    assert kept[:2] == ["1.00", "kept: right"]
    assert found.row("not augmented; loss on the output; rate 3e-5; 1 epoch")[:2] == ["0.00", "not kept: wrong"]
    refused = found.row("not augmented; loss on the output; rate 0.1; 50 epochs")
    assert refused[1] == "refused: learning_rate 0.1 is not a number from 1e-06 to 0.001: answered untrained, wrong"
    assert found.row("I would rather not.")[1:] == ["refused: no JSON object: answered untrained, no answer", "no answer"]
    assert found.row("in_context") == ["12.5 %", "2.0 % to 40.0 %"] and found.row("oracle")[0] == "50.0 %"
    assert found.row("untrained edits (base)")[0] == "17.5 %" and found.row("learned edits (best)")[0] == "58.0 %"
    assert section(found, "Puzzles").count('class="board"') == 3 * (6 + 1 + 3)  # pairs, the question, answers


def test_a_board_shows_each_cell_in_its_colour() -> None:
    picture = boards.board(((0, 1, 1), (1, 0, 5)), "answer")
    assert re.findall(r'class="(k\d)" d="([^"]+)"', picture) == [("k1", "M1 0h2M0 1h1"), ("k5", "M2 1h1")]
    assert 'viewBox="0 0 3 2"' in picture and "width:42px" in picture and "answer, 2 × 3 cells" in picture


def test_the_page_of_large_puzzles_is_bounded(tmp_path: Path) -> None:
    """Grids of 30 x 30 without two equal neighbours, many demonstrations, many different self-edits."""
    noise = tuple(tuple((x * 7 + y * 3) % 9 + 1 for x in range(30)) for y in range(30))
    texts = [written(Settings(rate, n, "all", ())) for rate in (1e-4, 1e-3) for n in range(1, 16)]
    large = [
        line_of(i, Puzzle(((noise, noise),) * 20, noise), [tried(t, show(noise), 0.0, "wrong") for t in texts]) for i in range(24)
    ]
    found = read(with_lines(tmp_path, large))
    shown = section(found, "Puzzles")
    assert "12 of 24 puzzles" in found.text and "and 14 more" in found.text and "14 more are in attempts.jsonl" in found.text
    assert len(shown.encode()) < 3_000_000 and len(boards.board(noise, "x")) < 8_000
    assert all(float(w) <= boards.SIDE for w in re.findall(r'class="board" style="width:(\d+)px"', shown))


def test_a_grid_larger_than_any_puzzle_is_not_drawn(tmp_path: Path) -> None:
    wide = ((0,) * 5000,)
    found = read(with_lines(tmp_path, [line_of(1, Puzzle(((wide, RIGHT),), RIGHT), [tried(EDIT, show(wide), 0.0, "wrong")])]))
    assert found.text.count("1 × 5,000 cells, too large to draw") == 2


def test_puzzles_without_self_edits_are_no_such_section(tmp_path: Path) -> None:
    """Of another recipe on the same puzzles, and of sums."""
    plain = line_of(1, Puzzle(((RIGHT, RIGHT),), RIGHT), [tried("|1|", "|1|", 0.0, "wrong")])
    assert "<h2>Puzzles</h2>" not in read(with_lines(tmp_path / "a", [plain])).raw
    raw = read(make_run(tmp_path / "b", rounds=2)).raw
    assert not [title for title in ("Puzzles", "Passages", "Forgetting") if f"<h2>{title}</h2>" in raw]


def test_hostile_text_on_puzzles_is_inert(tmp_path: Path) -> None:
    hostile = tried(HOSTILE, HOSTILE, 0.0, HOSTILE, {"refused": 1.0, HOSTILE: HOSTILE})
    line = line_of(1, Puzzle(((RIGHT, RIGHT),), RIGHT), [hostile, tried(EDIT, HOSTILE, 1.0, HOSTILE)], name=HOSTILE)
    found = read(with_lines(tmp_path, [line], baselines={HOSTILE: {"accuracy": 0.5, "ci": [0.1, 0.9]}}))
    assert_self_contained(found)
    assert not set("\x00\x1b\u202e\u202c") & set(found.raw)
    assert visible(HOSTILE)[:80] in "".join(found.said) and "<img src=x" not in section(found, "Puzzles")


def damaged_lines() -> list[Any]:
    """A good line with one part after the other replaced by what does not belong there; and lines that are none."""
    good, found = json.dumps(line_of(1, Puzzle(((RIGHT, RIGHT),), RIGHT), usual()[2:4])), []
    for junk in JUNK:
        for key in ("round", "version", "task", "attempts"):
            found.append(json.loads(good) | {key: junk})
        for key in ("id", "prompt", "passage"):
            found.append(json.loads(good))
            found[-1]["task"][key] = junk
        for key in ("text", "answer", "stop", "verdict", "index"):
            found.append(json.loads(good))
            found[-1]["attempts"][0][key] = junk
        for key in ("score", "why", "parts", "source"):
            found.append(json.loads(good))
            found[-1]["attempts"][0]["verdict"][key] = junk
    named = [
        line | {"task": line["task"] | {"id": f"t{i}"}} if isinstance(line["task"], dict) else line
        for i, line in enumerate(found)
    ]
    return [good, *named, "{half a li", "[1, 2]", good[: len(good) // 2]]


@pytest.fixture
def all_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puzzles, "PUZZLES", 10_000)
    monkeypatch.setattr(passages, "PASSAGES", 10_000)


def test_damaged_lines_do_not_raise(tmp_path: Path, all_shown: None) -> None:
    found = read(with_lines(tmp_path / "a", damaged_lines()))
    assert "<h2>Puzzles</h2>" in found.raw and "lines of attempts.jsonl could not be read." in found.text
    assert_self_contained(found)
    passage = {"title": "Rivers", "text": "The Elbe."}
    lines = [x if isinstance(x, str) else x | {"task": passage_in(x["task"], passage)} for x in damaged_lines()]
    odd = [
        line_of(1, Puzzle((), RIGHT), usual()) | {"task": {"id": "o", "passage": {"title": junk, "text": junk}}} for junk in JUNK
    ]
    assert "<h2>Passages</h2>" in read(with_lines(tmp_path / "b", [*lines, *odd], noise={"run": {"edits": 3}})).raw


def passage_in(task: Any, passage: dict[str, str]) -> Any:
    return task | {"passage": task.get("passage") or passage} if isinstance(task, dict) else task


@pytest.mark.parametrize("junk", JUNK, ids=lambda j: repr(j)[:12])
def test_damaged_baselines_and_noise_do_not_raise(tmp_path: Path, junk: Any) -> None:
    told = {
        "whole": {"accuracy": 0.5, "ci": [0.25, 0.75]},
        "a": junk,
        "b": {"accuracy": junk, "ci": [0, 1]},
        "c": {"accuracy": 1, "ci": junk},
    }
    rows = edits.baselines({"baselines": told, "exam": junk})
    assert rows[0].name == "whole" and all(is_number(x) for row in rows for x in (row.value, row.low, row.high))
    assert edits.baselines({"baselines": junk}) == []
    run = puzzle_run(tmp_path, baselines=told, noise=junk, forgetting=junk)
    assert "whole" in section(read(run), "Puzzles")
    assert passages._noise(dict.fromkeys((*passages.NOISE, "true_gain_ci"), junk)) == ""


def test_passages_stand_with_their_edits_and_seeds(tmp_path: Path) -> None:
    best = tried("The Elbe is long.", "x", 0.5, "kept, 1 of 2 questions", {"base": 0.25, "seed 0": 1.0, "seed 1": 0.0})
    line = line_of(1, Puzzle((), RIGHT), [best, tried("Nothing.", "x", None, "no document")])
    line["task"]["passage"] = {"title": "Rivers", "text": "The Elbe."}
    told = dict.fromkeys(passages.NOISE, 0.25) | {"edits": 2, "passages": 1, "seeds": 2, "true_gain_ci": [0.0, 0.5]}
    found = read(
        with_lines(tmp_path, [line], noise={"run": told}, baselines={"passage only": {"accuracy": 0.5, "ci": [0.25, 0.75]}})
    )
    assert "Round 1: Rivers (answers without training: 0.25)" in found.text and "<h2>Puzzles</h2>" not in found.raw
    assert found.row("The Elbe is long.") == ["0.50", "1.00, 0.00", "kept, 1 of 2 questions"]
    assert found.row("Nothing.") == ["none", "", "no document"]
    assert found.row("passage only") == ["50.0 %", "25.0 % to 75.0 %"]
    assert "it is +25.0 (95 % interval 0.0 to +50.0; 1 passages, 2 seeds)" in found.text.replace("\u00a0", " ")


# ---- forgetting --------------------------------------------------------------------------------------------------------------


def test_the_matrix_is_drawn_and_said(tmp_path: Path) -> None:
    found = read(with_lines(tmp_path, [], forgetting=forgotten(16, refused=("r005", "r009"))))
    assert_self_contained(found)
    said = (
        "Right after a passage was studied, 61.0 % of its questions are answered without it; at the end of the run, 48.0 % (−13.0 "
        "points); the base, which studied nothing, answers 12.5 %; of the passages in the first half, it was 62.5 % at first "
        "and is 40.0 % at the end."
    )
    assert said in found.text.replace("\u00a0", " ") and "The guard refused r005, r009:" in found.text
    wide, narrow = section(found, "Forgetting").split('class="narrow"')
    for drawing in (wide, narrow):
        assert drawing.count('class="fresh"') == 16 and drawing.count('class="refused"') == 2
        assert drawing.count('class="heat"') == 17 * 16 + 6 and "✕ r005" in drawing
    assert "r003, passage 3, Passage 2, and how it begins: 100.0 %, just studied" in wide and ">91</text>" in wide
    assert "<title>" not in narrow
    assert found.row("2") == ["Passage 1, and how it begins", "3", "5 %", "100 %", "30.6 %"]


def test_cells_lie_where_their_row_and_column_say_and_are_as_dark_as_their_share() -> None:
    rows = [
        heatmap.Row("base", (heatmap.Cell(0.25, False), heatmap.Cell(None, False)), False),
        heatmap.Row("r001", (heatmap.Cell(1.0, True),) * 2, True),
    ]
    picture = heatmap.heat_map(rows, [(1, "a"), (2, "b")], 400)
    cells = re.findall(r'class="heat" fill-opacity="([\d.]+)" x="([\d.]+)" y="([\d.]+)"', picture)[:3]
    assert cells == [("0.25", "51.6", "36"), ("1.00", "51.6", "62"), ("1.00", "107.6", "62")]
    assert re.findall(r'class="none" x="([\d.]+)" y="([\d.]+)"', picture) == [("107.6", "36")]
    assert re.findall(r'class="refused" x="[\d.]+" y="([\d.]+)" width="([\d.]+)"', picture) == [("62", "112")]
    assert "base, passage 2, b: not measured" in picture and picture.count('class="fresh"') == 2


@pytest.mark.parametrize(("n", "numbers"), [(1, True), (16, True), (32, True), (64, False)])
def test_a_map_fits_its_width_and_leaves_numbers_out_where_there_is_no_room(n: int, numbers: bool) -> None:
    rows = [heatmap.Row(f"r{i:03d}", tuple(heatmap.Cell(0.5, i == j + 1) for j in range(n)), False) for i in range(n + 1)]
    for width in (1000, 370):
        picture = heatmap.heat_map(rows, [(j + 1, HOSTILE) for j in range(n)], width)
        boxes = re.findall(r'class="heat"[^>]* x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', picture)
        assert max(float(x) + float(w) for x, w in boxes) <= width and HOSTILE not in picture
        assert ('class="on"' in picture) == (numbers if width == 1000 else n == 1)
        assert len(picture) < 1_500_000 and float(picture.split('viewBox="0 0 ')[1].split('"')[0].split()[1]) < 900


def test_a_matrix_of_hundreds_is_thinned_and_says_so(tmp_path: Path) -> None:
    found = read(with_lines(tmp_path, [], forgetting=forgotten(300)))
    assert "Shown are 65 of 301 versions and 65 of 300 passages" in found.text
    assert section(found, "Forgetting").count('class="heat"') == 2 * (65 * 65 + 6)
    assert len(section(found, "Forgetting").encode()) < 2_000_000
    places = forgetting.spread(300)
    assert (places[0], places[-1], len(set(places))) == (0, 299, 65) and forgetting.spread(3) == [0, 1, 2]


def test_hostile_text_in_the_matrix_is_inert(tmp_path: Path) -> None:
    told = forgotten(3) | {"passages": [HOSTILE] * 3, "versions": ["base", HOSTILE, "r002", "r003"], "refused": [HOSTILE] * 99}
    found = read(with_lines(tmp_path, [], forgetting=told))
    assert_self_contained(found)
    assert not set("\x00\x1b\u202e\u202c") & set(found.raw) and "<img" not in section(found, "Forgetting")


def test_versions_that_studied_several_passages_and_rows_that_are_too_short(tmp_path: Path) -> None:
    told = forgotten(4) | {"studied": [None, [0, 1], [2, 99, -1, True, "x"]], "matrix": [[0.1], None, [0.5, 2.0, "x", 0.5, 0.5]]}
    shown = section(read(with_lines(tmp_path, [], forgetting=told)), "Forgetting").split('class="narrow"')[0]
    assert shown.count('class="fresh"') == 3 and shown.count('class="none"') == 5 * 4 - 3


@pytest.mark.parametrize("key", sorted(forgotten(1)))
@pytest.mark.parametrize("junk", JUNK, ids=lambda j: repr(j)[:12])
def test_a_damaged_matrix_does_not_raise(key: str, junk: Any) -> None:
    run = type("Run", (), {"summary": {"forgetting": forgotten(3, ("r002",)) | {key: junk}}})
    found = forgetting.forgetting(run)  # type: ignore[arg-type]
    if key in ("passages", "versions", "matrix"):
        assert found is None or isinstance(junk, list)
    else:
        assert found and found["wide"].startswith("<svg")
    twice = type("Run", (), {"summary": {"forgetting": forgotten(3) | {key: [junk] * 4}}})
    assert forgetting.forgetting(twice)  # type: ignore[arg-type]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(forgotten(1), anything)))
def test_whatever_the_matrix_is_the_map_is_drawn_or_not(told: dict[str, Any]) -> None:
    found = forgetting.forgetting(type("Run", (), {"summary": {"forgetting": told}}))  # type: ignore[arg-type]
    assert found is None or (found["wide"].startswith("<svg") and found["narrow"].startswith("<svg"))


@pytest.mark.parametrize(
    ("value", "so"), [(1, True), (1.5, True), (True, False), ("1", False), (math.nan, False), (math.inf, False), (10**400, False)]
)
def test_what_is_a_number(value: Any, so: bool) -> None:
    assert is_number(value) is so


def test_an_unfinished_run_on_puzzles_has_its_puzzles(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('recipe = "seal_arc"\n')
    write_lines(tmp_path / "attempts.jsonl", [line_of(1, Puzzle(((RIGHT, RIGHT),), RIGHT), usual())])
    assert "1 of 1 puzzles" in Page(write_report(tmp_path)).text
