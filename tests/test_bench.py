"""The bench: both sides do the same work, its numbers hang together, and bad input is one line."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import run_cli

from antaeus import bench
from antaeus.bench import floor, growth, ours, peak, trainer_peer, trl_peer, work, worker
from antaeus.errors import UserError
from antaeus.recipes.round import Round

SMALL = ("--prompts", "2", "--samples", "4", "--tokens", "8")
needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")


@pytest.fixture
def cli(capfd: Any, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> Any:
    """`antaeus bench step --model TINY ...`; what child processes print is caught too."""
    return lambda *args: run_cli(capfd, monkeypatch, "bench", "step", "--model", tiny_folder, *args)


def check_side(side: dict[str, Any], repeats: int, tokens: int) -> None:
    assert len(side["seconds"]) == repeats and min(side["seconds"]) == side["min"] <= side["median"] <= side["max"] == max(
        side["seconds"]
    )
    assert side["cpu_seconds"] > 0 and 100 < side["peak_rss_mb"] < 20_000
    assert side["tokens_per_s"] == pytest.approx(tokens / side["median"])


def test_ours_alone_is_one_json_object(cli: Any, tiny_folder: Path) -> None:
    code, out, err = cli(*SMALL, "--repeats", "2", "--peer", "none", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert out.count("\n") == 1
    assert result["bench"] == "step" and result["model"] == str(tiny_folder)
    assert [result[k] for k in ("prompts", "samples", "tokens", "repeats")] == [2, 4, 8, 2]
    assert result["dtype"] in ("bfloat16", "float32") and result["threads"] >= 1
    assert 55 <= result["prompt_tokens"] <= 65
    check_side(result["ours"], 2, 2 * 4 * 8)
    parts = result["ours"]["parts"]
    assert parts.keys() == {"sample", "vote", "update"}
    assert sum(parts.values()) == pytest.approx(result["ours"]["median"], rel=0.2)
    assert result["peer"] is result["speedup"] is result["ratio"] is None
    assert {(m["dtype"], m["rows"]) for m in result["matmul"]} == {
        (d, r) for d in ("bfloat16", "float32") for r in (8, floor.MANY)
    }
    assert all(m["gflops"] > 0 and (m["inner"], m["columns"]) == (64, 128) for m in result["matmul"])
    bound = result["floor"]
    assert bound["seconds"] == pytest.approx(bound["sample_s"] + bound["update_s"])
    assert 0 < bound["share"] < 1 and bound["share"] == pytest.approx(bound["seconds"] / result["ours"]["median"])
    assert bound["read_share"] == pytest.approx(bound["read_s"] / parts["sample"])
    rates = result["memory"]
    assert rates["dtype"] == result["dtype"] and rates["block_mb"] > 500 and 0.5 < rates["stream_gb_s"] < 20_000
    assert 0 < rates["product_gb_s"] < 20_000
    assert "warm-up: antaeus" in err and "step 2 of 2: antaeus" in err


@pytest.mark.parametrize(
    ("what", "part", "peer"),
    [
        ("decode", "sample", "transformers"),
        ("update", "update", "transformers"),
        ("update", "update", "trainer"),
        ("adapters", "adapters", "peft"),
    ],
)
def test_the_parts_beside_their_peers(
    capfd: Any, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path, what: str, part: str, peer: str
) -> None:
    named = ("--peer", peer) if peer == "trainer" else ()  # the others are what is taken if none is named
    code, out, err = run_cli(
        capfd, monkeypatch, "bench", what, "--model", tiny_folder, *SMALL, *named, "--repeats", "1", "--json"
    )
    assert code == 0, err
    result = json.loads(out)
    check_side(result["ours"], 1, 2 * 4 * 8)
    check_side(result["peer"], 1, 2 * 4 * 8)
    assert result["bench"] == what and result["peer"]["name"] == peer and result["speedup"]["median"] > 0
    bound, text = result["floor"], bench.describe(result)
    assert bound["seconds"] == bound[f"{part}_s"] and "arithmetic alone" in text and "memory is read at" in text
    assert ("read_share" in bound) == ("reading alone" in text) == (what == "decode")
    if what == "decode":
        assert bound["read_share"] == pytest.approx(bound["read_s"] / result["ours"]["median"])


def test_given_completions_are_the_same_for_both_sides(tiny: Any) -> None:
    todo, tokenizer = work.Work("tiny", prompts=2, samples=3, tokens=40, steps=2), tiny().tokenizer
    steps = todo.completions(tokenizer)
    assert steps == todo.completions(tokenizer) and [len(rows) for rows in steps] == [6, 6]
    assert {len(c) for rows in steps for _, c in rows} == {40} and len({c for rows in steps for _, c in rows}) > 9
    assert [tokenizer.decode(p) for p, _ in steps[1][::3]] == todo.texts()[2:]


@needs_trl
def test_the_peer_is_measured_in_turn(cli: Any) -> None:
    code, out, err = cli(*SMALL, "--repeats", "2", "--json")
    assert code == 0, err
    result = json.loads(out)
    check_side(result["ours"], 2, 2 * 4 * 8)
    check_side(result["peer"], 2, 2 * 4 * 8)
    assert result["peer"]["name"] == "trl" and result["peer"]["version"][0].isdigit() and result["peer"]["micro_rows"] == 8
    assert result["peer"]["threads"] == result["threads"]
    pairs = [b / a for a, b in zip(result["ours"]["seconds"], result["peer"]["seconds"], strict=True)]
    assert [result["speedup"][k] for k in ("min", "max")] == pytest.approx([min(pairs), max(pairs)])
    assert result["ratio"] == pytest.approx(result["ours"]["median"] / result["peer"]["median"])
    for line in ("warm-up", "step 1 of 2", "step 2 of 2"):
        assert any(x.startswith(f"{line}: antaeus") and ", trl " in x for x in err.splitlines())
    text = bench.describe(result).splitlines()
    assert len(text) == 6 and "times as fast" in text[3] and "arithmetic alone" in text[4] and "reading alone" in text[5]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--peer", "trll"], "unknown peer 'trll' (did you mean 'trl'?)"),
        (["--peer", "none", "--prompts", "0"], "prompts=0"),
        (["--peer", "none", "--prompts", "100000"], "different sums"),
        (["--peer", "none", "--samples", "1"], "samples=1"),
        (["--peer", "none", "--tokens", "0"], "tokens"),
        (["--peer", "none", "--repeats", "0"], "repeats"),
        (["--peer", "none", "--tokens", "600"], "exceed the model's context of 512"),
    ],
)
def test_bad_input_is_one_line(cli: Any, args: list[str], says: str) -> None:
    code, out, err = cli(*args)
    told = [line for line in err.splitlines() if line.startswith("antaeus: ")]
    assert code == 2 and out == "" and len(told) == 1 and says in told[0]
    assert "Traceback" not in err


def test_an_unknown_measurement_is_one_line(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run_cli(capsys, monkeypatch, "bench", "stairs")
    assert (code, out, err) == (
        2,
        "",
        "antaeus: cannot measure 'stairs'; there are step, decode, update, adapters, edits, growth\n",
    )
    code, out, err = run_cli(capsys, monkeypatch, "bench", "growth", "--peer", "trl")
    assert (code, out, err) == (2, "", "antaeus: unknown peer 'trl'; there are none\n")


def test_a_peer_that_is_not_installed_is_one_line(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, err = cli()
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "trl is not installed" in err and "pip install trl" in err and "--peer none" in err


def die(turn: work.Turn, todo: work.Work) -> None:
    turn.ready(dtype="float32", device="cpu")
    turn.begin()
    sys.exit(9)


def test_a_process_that_dies_is_told_with_its_code() -> None:
    process = worker.Worker("trl", die, work.Work("", 1, 2, 1, 1))
    with pytest.raises(UserError, match="the process of trl ended with code 9"):
        process.step()
    process.close()


def test_a_worker_that_is_no_longer_needed_goes() -> None:
    process = worker.Worker("trl", die, work.Work("", 1, 2, 1, 1))
    process.close()
    assert process._process.exitcode == 0


def loiter(turn: work.Turn, todo: work.Work) -> None:
    turn._pipe.send(UserError("no such thing"))
    turn.begin()


def test_a_worker_that_refuses_to_start_is_not_waited_for() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(UserError, match="no such thing"):
        worker.Worker("trl", loiter, work.Work("", 1, 2, 1, 1))
    assert set(multiprocessing.active_children()) <= before


def test_both_sides_get_the_same_prompts() -> None:
    todo = work.Work("tiny", prompts=3, samples=4, tokens=8, steps=5)
    recipe, tasks = todo.recipe(), todo.tasks()
    mine = [task.shots + str(task.prompt) for i in range(5) for task in recipe.propose(Round(i + 1, 0, None, tasks))]
    assert todo.texts() == mine and len(set(mine)) == 15


@pytest.mark.parametrize(("prompts", "samples", "rows"), [(8, 16, 32), (8, 4, 32), (7, 4, 28), (5, 16, 16), (3, 100, 100)])
def test_micro_batches_of_the_peer_hold_whole_groups(prompts: int, samples: int, rows: int) -> None:
    settings = trl_peer._settings(work.Work("tiny", prompts, samples, 8, 2, "float32", "cpu"), "out")
    assert settings["per_device_train_batch_size"] == rows
    assert rows * settings["gradient_accumulation_steps"] == prompts * samples


def test_the_peers_reward_is_the_majority_of_its_own_group() -> None:
    vote = trl_peer._vote(work.Work("tiny", 2, 3, 4, 2))
    ids = [[1, 2, 3, 4]] * 6
    assert vote(completions=["a 5", "is 7", "= 5", "none", "no", "at all"], completion_ids=ids, prompts=[]) == [1, 0, 1, 0, 0, 0]
    with pytest.raises(AssertionError):
        vote(completions=["5"] * 6, completion_ids=[[1]] * 6)


def test_the_floor_counts_what_no_step_can_leave_out() -> None:
    shape = floor.Shape(
        rows=6, tokens=5, prompt_tokens=30, distinct_prompt_tokens=12, hidden=4, inner=8, body=10**6, head=10**5, column=1000
    )
    rates = [{"dtype": "float32", "gflops": 1.0}] * 2 + [{"dtype": "bfloat16", "gflops": g} for g in (2.0, 4.0)]
    once = 1e6 * (12 + 6 * 4) + 1e5 * 6 * 5  # weights x tokens
    got = floor.floor(shape, rates, {"dtype": "bfloat16", "itemsize": 2, "stream_gb_s": 0.1})
    assert got["sample_s"] == pytest.approx(2 * once / 2e9) and got["update_s"] == pytest.approx(6 * once / 4e9)
    assert (got["sample_gflop"], got["update_gflop"]) == (0.1, 0.2)
    columns = 4 * 12 + 6 * (1 + 2 + 3 + 4)  # read before each token but the first: prompts, and what each row has drawn
    assert got["weights_gb"] == pytest.approx(5 * 1.1e6 * 2 / 1e9) and got["cache_gb"] == pytest.approx(columns * 2000 / 1e9)
    assert got["read_s"] == pytest.approx((got["weights_gb"] + got["cache_gb"]) / 0.1)


def test_common_beginnings_are_counted_once() -> None:
    assert ours.distinct([(1, 2, 3), (1, 2, 4), (1, 2, 3, 5)]) == 5
    assert ours.distinct([(2, 1), (3, 1)]) == 4


def test_the_shape_of_the_model(tiny: Any) -> None:
    engine = tiny()
    shape = ours.shape(engine, work.Work("tiny", 2, 3, 4, 1))
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3 + 2 * 64  # q, o; k, v; feed-forward; norms
    assert (shape.body, shape.head, shape.hidden, shape.inner, shape.rows) == (2 * layer + 64, 99 * 64, 64, 128, 6)
    assert shape.distinct_prompt_tokens < shape.prompt_tokens and shape.column == 2 * 2 * 2 * 16  # layers, heads, keys and values


def grown(turn: work.Turn, todo: work.Work) -> None:
    """As `growth.grow` goes about it, but each size takes as long and holds as much as its number says."""
    turn.ready(dtype="float32", device="cpu", threads=1)
    for _, size in growth.planned(todo):
        n = list(size.values())[-1]
        turn._base = 100
        for i in range(todo.steps):
            turn._pipe.recv()
            parts = {"sample": n / 4, "vote": 0.0, "update": n / 2}
            turn._pipe.send(
                {"seconds": n + 1000 * (i == 0), "cpu_seconds": 0, "base_mb": 100, "peak_mb": 100 + n, "parts": parts}
            )


def test_growth_is_told_size_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "grow", grown)
    said: list[str] = []
    found = growth.growth(work.Work("", 3, 2, 5, 3), said.append)
    assert len(said) == 4 + 4 + 9 and said[0] == "completions 2: 2.00 s"
    assert [(r["count"], r["median"], r["each"], r["parts"]["update"]) for r in found["completions"]] == [
        (3 * n, n, n / (3 * n), n / 2) for n in (2, 4, 8, 16)
    ]
    assert [(r["count"], r["median"], r["each"], r["peak_mb"]) for r in found["adapters"]] == [
        (n, n, 1.0, 100 + n) for n in (4, 8, 16, 32)
    ]
    assert [(r["vocabulary"], r["length"], r["held_mb"]) for r in found["logits"]] == [
        (v, n, n) for v in (8192, 32768, 131072) for n in (32, 128, 512)
    ]
    text = bench.describe({"bench": "growth", "model": "", **found}).splitlines()
    assert len(text) == 1 + 5 + 5 + 10 and text[5].split() == ["48", "16.00", "4.00", "8.00", "0.3333", "116"]


def test_what_is_timed_is_what_is_named(tiny: Any, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from antaeus.engine import adapters, forward  # not above: the workers of other tests import this file and are to be quick

    engine, todo = tiny(), work.Work(str(tiny_folder), 2, 2, 4, 2)
    engine._eos = frozenset()
    parts = growth._completions(engine, todo, samples=3)()
    assert parts.keys() == {"sample", "vote", "update"}
    trained: list[int] = []
    monkeypatch.setattr(adapters.Adapters, "train", lambda self, plans: trained.extend(len(p.batches()) for p in plans))
    assert growth._adapters(engine, todo, adapters=5)() == {} and trained == [2] * 5
    most: list[int] = []
    real = forward.Net.logits
    monkeypatch.setattr(forward.Net, "logits", lambda net, hidden: most.append(len(hidden)) or real(net, hidden))
    step = growth._logits(engine, todo, vocabulary=50_000, length=160)
    most.clear()
    assert step() == {} and most == [503, 137]  # of 640 tokens' logits, never more than 25 million at once


def test_a_peak_is_forgotten() -> None:
    block = bytearray(200_000_000)
    high = peak.peak_rss_mb()
    del block
    base = peak.forget()
    assert peak.peak_rss_mb() < high - 150 and abs(base - peak.peak_rss_mb()) < 20
    again = bytearray(100_000_000)
    assert 80 < peak.peak_mb() - base < 130 and len(again)


def test_what_was_held_before_a_worker_is_ready_does_not_count() -> None:
    ours_end, theirs = multiprocessing.Pipe()
    block = bytearray(200_000_000)
    high = peak.peak_rss_mb()
    del block
    turn = work.Turn(theirs)
    turn.ready()
    ours_end.send("go")
    turn.begin()
    turn.end()
    assert ours_end.recv() == {} and ours_end.recv()["peak_rss_mb"] < high - 150


def test_the_trainer_takes_all_rows_of_a_step_in_equal_batches() -> None:
    for prompts, samples, rows in ((8, 16, 32), (2, 4, 8), (5, 7, 7), (37, 1, 1)):
        settings = trainer_peer._settings(work.Work("tiny", prompts, samples, 8, 2, "bfloat16", "cpu"), "out")
        assert settings["per_device_train_batch_size"] == rows and settings["bf16"] is True
        assert rows * settings["gradient_accumulation_steps"] == prompts * samples


class Watch:
    """A turn that nobody waits for."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def ready(self, **about: Any) -> None:
        assert about["micro_rows"] == 8

    def begin(self) -> None:
        self.said.append("begin")

    def end(self) -> None:
        self.said.append("end")


def test_the_trainer_is_given_the_same_rows_and_keeps_float32_weights(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    todo, load, batch = work.Work(str(tiny_folder), 2, 4, 8, 2, "bfloat16", "cpu"), trainer_peer.load, trainer_peer.batch
    heads, given, before, turn = [], [], [], Watch()

    def watched(*args: Any) -> Any:
        model, tokenizer = load(*args)
        model.lm_head.register_forward_hook(lambda m, _, out: heads.append((m.weight.dtype, out.dtype, out.shape[:2])))
        before.extend([model, tokenizer, model.lm_head.weight.detach().clone()])
        return model, tokenizer

    monkeypatch.setattr(trainer_peer, "load", watched)
    monkeypatch.setattr(trainer_peer, "batch", lambda rows, device: given.append(rows) or batch(rows, device))
    trainer_peer.trainer(turn, todo)  # type: ignore[arg-type]
    model, tokenizer, weight = before
    assert given == todo.completions(tokenizer) and turn.said == ["begin", "end"] * 2
    width = [max(len(p) + len(c) for p, c in rows) for rows in given]
    assert heads == [(torch.float32, torch.bfloat16, (8, w)) for w in width]  # computes in bfloat16, all logits
    assert 0 < (model.lm_head.weight - weight).abs().max() < 1e-4


def test_every_completion_is_learned_from(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours leaves out what has no advantage; measured against a peer that does not, it must not."""
    engine, todo = tiny(), work.Work("tiny", 2, 4, 6, 1)
    engine._eos = frozenset()
    seen: list[Any] = []
    monkeypatch.setattr(engine, "train", lambda lessons, how: seen.extend(lessons) or SimpleNamespace(tokens=48))
    ours.one_round(engine, todo.recipe(), todo.tasks(), 1)
    assert len(seen) == 8 and all(lesson.advantage and len(lesson.ids) == 6 for lesson in seen)
