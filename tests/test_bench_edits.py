"""Self-edits a minute: both sides make the same adapters and give the same answers, and what is multiplied hangs together."""

from __future__ import annotations

import json
import multiprocessing
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import run_cli

from antaeus import bench
from antaeus.bench import edits, measure, peft_peer, work
from antaeus.bench.edit_work import HOW, MAX_TOKENS, QUESTIONS, edits_of
from antaeus.engine.base import Sampling
from antaeus.errors import UserError
from antaeus.recipes.study import Study, study

SHORT = replace(HOW, epochs=3)


def opened(folder: Path, **sizes: int) -> tuple[work.Work, Any, Any]:
    """The work, and a model and tokenizer for the peer."""
    todo = work.Work(
        str(folder), **{"prompts": 2, "samples": 3, "tokens": 30, "steps": 2, **sizes}, dtype="float32", device="cpu"
    )
    return todo, *peft_peer.load(todo)


def learned(engine: Any, todo: work.Work, how: Any) -> tuple[Any, list[Any]]:
    """Our adapters of all edits, and what `study` makes of them."""
    made: list[Any] = []
    real = engine.adapters
    engine.adapters = lambda *args, **more: made.append(real(*args, **more)) or made[-1]
    studies = [Study(e.documents, e.questions, replace(how, seed=i)) for i, e in enumerate(edits_of(todo, engine.tokenizer))]
    return made, study(engine, studies, Sampling(1, MAX_TOKENS, 0.0), seed="s")


def same(adapters: Any, i: int, model: Any) -> None:
    """Within float32: Adam divides by the size of gradients, and so shows the rounding of the smallest."""
    import torch

    mine = adapters._named(i)
    theirs = {k.replace(".default", ""): v for k, v in model.state_dict().items() if "lora_" in k}
    assert mine.keys() == theirs.keys() and max(float(v.abs().max()) for k, v in theirs.items() if "lora_B" in k) > 3e-3
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=3e-5)


def stored(model: Any, tokenizer: Any, folder: Path) -> Any:
    """Our engine over a model of the peer's."""
    from antaeus.engine.local import LocalEngine

    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return edits.unending(LocalEngine(str(folder), device="cpu", dtype="float32"))


def test_both_sides_make_the_same_adapters_and_give_the_same_answers(tiny_folder: Path, tmp_path: Path) -> None:
    import torch

    todo, model, tokenizer = opened(tiny_folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2 if weight.dim() > 1 else 1)  # else it says the same whatever it has learned
    made, done = learned(stored(model, tokenizer, tmp_path), todo, SHORT)
    for i, edit in enumerate(edits_of(todo, tokenizer)):
        own = peft_peer.fresh(model, how := replace(SHORT, seed=i))
        assert len(peft_peer.learn(own, peft_peer.rows(edit, tokenizer, 0, "cpu"), how)) == 9
        same(made[0], i, own)
        answers = peft_peer.answer(own, tokenizer, edit)
        assert answers == [list(row[0].ids) for row in done[i].answers] and {len(a) for a in answers} == {MAX_TOKENS}
        model = own.unload()
    assert len({row[0].ids for each in done for row in each.answers}) == 2 * QUESTIONS


def test_padded_is_the_official_loop_where_a_pad_surely_follows_a_pad(tiny_folder: Path, tmp_path: Path) -> None:
    """What `Tuning.padded` promises (pads that cost nothing) holds where the model is sure that an end token follows an end token: here one
    dimension of its states says so, which no layer writes to. A model that is not learns it in its first steps, and the official adapter is
    another by what that does to it, which no scaling of the loss can give; see the next test. The official code also draws other random
    numbers for the order."""
    import torch

    todo, model, tokenizer = opened(tiny_folder)
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[:, 0] = 0
        table[tokenizer.eos_token_id] = torch.eye(64)[0] * 30
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0
    made, _ = learned(stored(model, tokenizer, tmp_path), todo, replace(SHORT, padded=90))
    for i, edit in enumerate(edits_of(todo, tokenizer)):
        own = peft_peer.fresh(model, how := replace(SHORT, seed=i))
        losses = peft_peer.learn(own, peft_peer.rows(edit, tokenizer, 90, "cpu"), how)
        assert losses == pytest.approx(made[0].courses[i].losses, rel=1e-4)
        same(made[0], i, own)
        model = own.unload()


def test_what_the_official_loss_has_more_is_the_pads(tiny: Any, tiny_folder: Path) -> None:
    """Of a model that is not sure of them: before the first step the official loss is ours and the pads' own, without the first pad, which
    is our end token."""
    import torch

    todo, model, tokenizer = opened(tiny_folder)
    (edit, _), width = edits_of(todo, tokenizer), 90
    made, _ = learned(tiny(), todo, replace(SHORT, epochs=1, padded=width))
    documents = peft_peer.rows(edit, tokenizer, width, "cpu")
    own = peft_peer.fresh(model, replace(SHORT, seed=0))
    first = documents[next(peft_peer._order(3, SHORT))]
    with torch.no_grad():
        out = own(**first)
    pads = torch.nn.functional.cross_entropy(out.logits[0, :-1], first["labels"][0, 1:], reduction="none")
    pads = pads[int(first["attention_mask"].sum()) :].sum().item() / (width - 1)
    assert out.loss.item() - pads == pytest.approx(made[0].courses[0].losses[0], rel=1e-4) and pads > 1


class Line:
    """A turn that nobody waits for."""

    part = work.Turn.part

    def __init__(self) -> None:
        self.about: dict[str, Any] = {}
        self.reports: list[dict[str, Any]] = []

    def ready(self, **about: Any) -> None:
        self.about = about

    def begin(self) -> None:
        pass

    def end(self, **parts: float) -> None:
        self.reports.append({"seconds": 100.0, "cpu_seconds": 200.0, "peak_rss_mb": 7, "parts": parts})


def test_a_turn_of_ours_trains_all_edits_for_two_steps(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from antaeus.engine import adapters, local

    engine, trained, train, line = tiny(), [], adapters.Adapters.train, Line()
    monkeypatch.setattr(local, "LocalEngine", lambda model: engine)
    monkeypatch.setattr(edits, "matmul_rates", lambda sizes, device: [])
    todo = work.Work("", 2, 3, 30, 2)
    for tokens, says in ((700, "exceeds the model's context of 512"), (12, "a title and a word has 17 tokens")):
        with pytest.raises(UserError, match=says):
            edits.together(Line(), replace(todo, tokens=tokens))  # type: ignore[arg-type]
    monkeypatch.setattr(
        adapters.Adapters, "train", lambda self, plans: trained.append([len(p.batches()) for p in plans]) or train(self, plans)
    )
    edits.together(line, todo)  # type: ignore[arg-type]
    assert trained == [[2, 2]] * 2 and (line.about["edits"], line.about["taken"]) == (2, 2)
    assert all(0 < report["parts"]["train"] < 100 and report["parts"]["train_cpu"] > 0 for report in line.reports)


@pytest.mark.parametrize(("peer", "width", "taken"), [("official", 512, 1), ("unpadded", 30, 8)])
def test_a_turn_of_a_peer_trains_one(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, peer: str, width: int, taken: int
) -> None:
    seen, learn, line, (todo, _, _) = [], peft_peer.learn, Line(), opened(tiny_folder)

    def watched(own: Any, documents: Any, *how: Any) -> None:
        seen.append((max(d["labels"].shape[1] for d in documents), len(learn(own, documents, *how))))

    monkeypatch.setattr(peft_peer, "learn", watched)
    getattr(peft_peer, peer)(line, todo)
    assert len(seen) == 2 and all(width - 8 <= longest <= width and steps == taken for longest, steps in seen)
    assert (line.about["edits"], line.about["taken"]) == (1, taken) and line.reports[1]["parts"]["train_cpu"] > 0


def turn(seconds: float, train: float) -> dict[str, Any]:
    """Threads took twice as long as the clock."""
    both = {"seconds": seconds, "cpu_seconds": 2 * seconds, "parts": {"train": train, "train_cpu": 2 * train}}
    return {**both, "peak_rss_mb": 9}


def test_an_edit_is_its_steps_and_what_is_done_once() -> None:
    rate = {"matmul": [{"dtype": "float32", "gflops": 10.0}], "floor": {"train_gflop": 300.0, "answer_gflop": 20.0}}
    sizes = {"dtype": "float32", "device": "cpu", "threads": 2, "document_tokens": 54.0, "prompt_tokens": 67.0}
    turns = [turn(999, 1), turn(10, 6), turn(12, 8), turn(14, 10)]
    own: Any = SimpleNamespace(name="antaeus", about={**rate, **sizes, "edits": 4, "taken": 2}, reports=turns)
    turns = [turn(999, 1), turn(61, 60), turn(81, 80), turn(101, 100)]
    peer: Any = SimpleNamespace(name="peft", about={"version": "1", "edits": 1, "taken": 10}, reports=turns)
    found = edits.reckoned(work.Work("m", 4, 8, 55, 4), own, peer)
    mine, (theirs,) = found["ours"], found["peers"]
    assert found["steps"] == 80 and mine["step_s"] == {"median": 4, "min": 3, "max": 5} and mine["once_s"]["max"] == 4
    assert mine["edit_s"] == {"each": [61, 81, 101], "median": 81, "min": 61, "max": 101} and mine["edit_cpu_s"] == 162
    assert theirs["edit_s"]["each"] == [481, 641, 801] and theirs["per_minute"]["median"] == pytest.approx(60 / 641)
    assert theirs["speedup"] == {"median": 641 / 81, "min": 481 / 61, "max": 801 / 101} and theirs["cpu_speedup"] == 641 / 81
    assert found["floor"] == {**rate["floor"], "edit_s": 32.0, "share": 32 / 81}
    text = bench.describe({"bench": "edits", "model": "m", **found}).splitlines()
    assert len(text) == 5 and "8 documents of 54 tokens" in text[0] and "4.000 s a step,   4.00 s once, of  4" in text[1]
    assert "80 steps make   641.00 s an edit" in text[2] and "7.9 times as fast as peft" in text[3] and "40% of ours" in text[4]


class Inside:
    """A worker in this process: others' tests start processes, which takes most of their time."""

    def __init__(self, name: str, side: Any, todo: work.Work) -> None:
        self.name, self.reports = name, []
        self._pipe, theirs = multiprocessing.Pipe()
        self._thread = threading.Thread(target=side, args=(work.Turn(theirs), todo))
        self._thread.start()
        self.about = self._pipe.recv()

    def step(self) -> float:
        self._pipe.send("go")
        self.reports.append(self._pipe.recv())
        return self.reports[-1]["seconds"]

    def close(self) -> None:
        self._thread.join()


def test_both_peers_are_measured_unless_one_is_named(capfd: Any, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    monkeypatch.setattr(measure, "Worker", Inside)
    args = ("--prompts", "2", "--samples", "2", "--tokens", "20", "--repeats", "1", "--json")
    code, out, err = run_cli(capfd, monkeypatch, "bench", "edits", "--model", tiny_folder, *args)
    assert code == 0, err
    found = json.loads(out)
    assert [found[k] for k in ("prompts", "samples", "tokens", "steps", "questions")] == [2, 2, 20, 20, QUESTIONS]
    assert [(p["name"], p["edits"], p["taken"], p["padded"]) for p in found["peers"]] == [
        ("official", 1, 1, 512),
        ("peft", 1, 8, 0),
    ]
    assert found["peers"][0]["speedup"]["median"] > 1 and 0 < found["floor"]["share"] < 1
    assert "edits 1 of 1: antaeus" in err and ", official " in err and ", peft " in err
    assert "times as fast as official" in bench.describe(found)


def test_bad_input_is_one_line(capfd: Any, monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    for args, says in (
        (("--peer", "trl"), "there are official, peft, none"),
        (("--tokens", "0"), "tokens"),
        (("--samples", "1"), "samples"),
    ):
        code, out, err = run_cli(capfd, monkeypatch, "bench", "edits", "--model", tiny_folder, *args)
        assert (code, out, err.count("\n")) == (2, "", 1) and says in err
