"""What was known is not to be lost: the guard's look, the matrix, adapters that are merged, stored or blind to what was read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_adapters import Adapters, Plan, examples, folders, opened, plain, text  # noqa: F401  (folders is a fixture)

from antaeus.asking import asked as asked_in
from antaeus.asking import put
from antaeus.engine.base import Sampling, Tuning, Update
from antaeus.engine.local import LocalEngine
from antaeus.engine.sparing import directions, leading, spare
from antaeus.errors import UserError
from antaeus.guard.descent import weights_hash
from antaeus.guard.forgetting import harm, matrix, remembered
from antaeus.solve.retrieval import nearest
from antaeus.types import Anchor, Attempt, Group, Lesson, Practice, Source, Verdict

GREEDY = Sampling(max_tokens=8, temperature=0.0)
HARD = Tuning(3e-2, 4, 8, epochs=10, batch_size=1, loss="all", warmup=0.0)


# the guard's look


def asked(passage: str, i: int) -> Group:
    task = Anchor(f"{passage}/{i}", "", tags=(passage,))
    return Group(task, (Attempt(task.id, 0, (), (), "", "eos", (), ()),))


def rows(*right: float | None) -> list[list[Verdict]]:
    return [[Verdict(score, Source.GROUND)] for score in right]


def test_a_version_is_refused_that_answers_what_was_known_worse_than_chance_does() -> None:
    groups = [asked("a", i) for i in range(6)] + [asked("b", i) for i in range(6)]
    known = remembered({}, groups, rows(*[1] * 5, 0, *[0] * 6), frozenset())
    assert sum(known.values()) == 5
    kept = rows(*[1] * 5, 0, *[1] * 6)
    assert harm(known, groups, kept, frozenset("b")) == ""
    lost = rows(*[0] * 6, *[1] * 6)
    said = harm(known, groups, lost, frozenset("b"))
    about = "of 6 questions about other passages 5 are answered worse than they were known and 0 better"
    assert said == f"{about} (mean -0.83, p = 0.031)"
    assert harm(known, groups, lost, frozenset("a")) == ""  # its own passage is what it studied: nothing to compare
    assert harm(known, groups, rows(*[0] * 4, 1, 0, *[0] * 6), frozenset("b")) == ""  # four may be chance
    assert harm(known, groups, rows(None, *[0] * 5, *[1] * 6), frozenset("b")) == ""  # a grader that failed loses nothing


def test_answers_that_get_only_half_as_good_are_harm_too() -> None:
    groups, half = [asked("a", i) for i in range(6)], [[Verdict(0.0, Source.GROUND, parts={"f1": f1})] for f1 in (0.5, 0.2)]
    known = remembered({}, groups, [half[0]] * 6, frozenset())
    assert set(known.values()) == {0.5}
    assert "6 are answered worse than they were known and 0 better (mean -0.30, p = 0.016)" in harm(
        known, groups, [half[1]] * 6, frozenset("b")
    )
    assert harm(known, groups, [half[0]] * 6, frozenset("b")) == "" == harm(known, groups, [half[1]] * 6, frozenset("a"))


def test_small_losses_add_up_until_they_are_seen() -> None:
    groups = [asked(p, i) for p in "abc" for i in range(3)]
    known = remembered({}, groups, rows(*[1] * 6, *[0] * 3), frozenset())
    steps = [[0, 0, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0, 0], [0] * 9]
    found = []
    for step in steps:
        found.append(harm(known, groups, rows(*step), frozenset("c")))
        known = remembered(known, groups, rows(*step), frozenset("c"))
    assert [bool(why) for why in found] == [False, False, True]


def line(which: str, version: str, tag: str, score: float | None, round: int = 0, task: str = "q") -> dict:
    if which == "practice":
        return {
            "set": which,
            "round": round,
            "version": version,
            "task": {"id": tag, "passage": {"title": tag, "text": "t" * 90}},
        }
    attempts = [{"verdict": {"score": score, "parts": {} if score is None else {"f1": score / 2}}}]
    return {
        "set": which,
        "round": round,
        "version": version,
        "task": {"id": f"{tag}/{task}", "tags": [tag]},
        "attempts": attempts,
    }


def test_the_matrix_and_what_it_comes_to() -> None:
    log = [line("anchor", "base", p, 0.0) for p in "abcd"] + [line("anchor", "base", "d", None, task="z")]
    table = {"r001": "a", "r002": "ab", "r003": "c", "r004": "bd"}  # which are right
    for n, (version, right) in enumerate(table.items(), 1):
        log += [line("practice", "x", "abcd"[n - 1], None, n)]
        log += [line("merge", version, p, float(p in right), n) for p in "abcd"]
    found = matrix(log, ["r003"])
    assert found["versions"] == ["base", "r001", "r002", "r003", "r004"] and found["questions"] == [1, 1, 1, 1]
    assert found["passages"][0] == "a: " + "t" * 40 and found["studied"] == [None, [0], [1], [2], [3]]
    assert found["matrix"][2] == [1.0, 1.0, 0.0, 0.0] and found["refused"] == ["r003"]
    told = {k: found[k] for k in ("base", "immediate", "retained", "first_half_immediate", "first_half_retained")}
    assert told == {"base": 0.0, "immediate": 1.0, "retained": 2 / 3, "first_half_immediate": 1.0, "first_half_retained": 0.5}
    assert json.dumps(found) and matrix([], [])["retained"] is None
    assert matrix(log, ["r003"], "f1")["retained"] == 1 / 3 and matrix(log, ["r003"], "f1")["questions"] == [1, 1, 1, 1]


# merged


def learned(engine: LocalEngine, ids: tuple[int, ...], **how: object) -> Adapters:
    return engine.adapters([[Lesson(Practice("t", ""), (), ids, 1.0)]], HARD, **how)  # type: ignore[arg-type,return-value]


def scored(engine: LocalEngine | Adapters, ids: tuple[int, ...], owner: int | None = 0) -> float:
    attempt = Attempt("t", 0, ids[:1], ids[1:], "", "eos", (), ())
    found = engine.score([attempt]) if isinstance(engine, LocalEngine) else engine.score([(owner, attempt)])
    return sum(found[0].logprobs)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2"])
def test_a_merged_policy_is_what_it_was_under_the_adapter(folders: dict[str, Path], kind: str) -> None:  # noqa: F811
    engine, ids = opened(folders[kind]), text(7, 30)
    before = scored(engine, ids)
    adapters = learned(engine, ids)
    under = scored(adapters, ids)
    assert under > before + 5 and scored(engine, ids) == pytest.approx(before)
    adapters.merge(0)
    assert scored(engine, ids) == pytest.approx(under, abs=1e-3)
    step = engine.train([Lesson(Practice("t", ""), ids[:1], ids[1:], 1.0)], Update(lr=1e-4))
    assert step.tokens == 29 and scored(engine, ids) > under - 0.5  # masters are those of the merged weights
    engine.load(None)
    assert scored(engine, ids) == pytest.approx(before)


def test_an_untrained_adapter_adds_nothing_and_a_part_takes_none(folders: dict[str, Path]) -> None:  # noqa: F811
    engine = opened(folders["llama"])
    weights = {n: p.clone() for n, p in engine.model.named_parameters()}
    engine.adapters([[]], HARD).merge(0)
    assert all(torch.equal(p, weights[n]) for n, p in engine.model.named_parameters())
    for how in ({"part": "norms"}, {"lora": 4}):
        part = LocalEngine(str(folders["llama"]), device="cpu", dtype="float32", **how)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="leave lora and part out"):
            part.adapters([[]], HARD).merge(0)


def test_a_trial_that_is_kept_stays_and_one_that_is_not_leaves_no_trace(folders: dict[str, Path]) -> None:  # noqa: F811
    engine, ids = opened(folders["llama"]), text(7, 30)
    before = scored(engine, ids)
    for keep in (False, True):
        with engine.trial() as trial:
            adapters = learned(engine, ids)
            adapters.merge(0)
            adapters.shelve(0, "one")
            if keep:
                trial.keep()
        assert (scored(engine, ids) > before + 5) is keep and list(engine.shelf) == ["one"] * keep


# blind to what was read


def test_leading_directions_carry_the_share_asked_for() -> None:
    u, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    energy = u @ torch.diag(torch.tensor([50.0, 30.0, 15.0, 5.0, 0.0, 0.0])) @ u.T
    assert [leading(energy, share).shape[1] for share in (0.4, 0.5, 0.79, 0.94, 1.0)] == [1, 1, 2, 3, 4]
    first = leading(energy, 0.8)
    assert torch.allclose(first.T @ first, torch.eye(2), atol=1e-5)
    assert torch.allclose(spare(torch.randn(3, 6) @ (u[:, :2] @ u[:, :2].T), first), torch.zeros(3, 6), atol=1e-5)


def test_adapters_are_blind_to_what_they_spare(folders: dict[str, Path]) -> None:  # noqa: F811
    engine, new, old = opened(folders["llama"]), text(7, 30), text(8, 10)
    sparing = [Lesson(Practice("old", ""), (), old, 1.0)]
    free, blind = learned(engine, new), learned(engine, new, sparing=sparing, share=0.999)
    us = directions(engine.net, blind.layers, sparing, 0.999, 4096)
    for (a, _), u in zip(blind._split(blind.weights), us, strict=True):
        assert u.shape[1] <= len(old) and (a @ u).abs().max() < 1e-4 * a.abs().max()
    base_new, base_old = scored(engine, new), scored(engine, old)
    assert scored(blind, new) > base_new + 5  # it learns all the same
    moved = [abs(scored(adapters, old) - base_old) for adapters in (free, blind)]
    assert moved[1] < 0.5 * moved[0]
    blind.merge(0)
    assert abs(scored(engine, old) - base_old) == pytest.approx(moved[1], abs=1e-3)


# stored

KEYS = ("passage 0\nof é", "passage\u20281\x85of it")  # some of what Python takes for line ends


def test_a_text_that_is_read_again_has_one_adapter(folders: dict[str, Path]) -> None:  # noqa: F811
    engine, first, again = opened(folders["llama"]), text(7, 30), text(9, 25)
    for ids, key in ((first, "a"), (first, "b"), (again, "a")):
        learned(engine, ids).shelve(0, key)
    assert list(engine.shelf) == ["a", "b"]
    known = [scored(engine.shelved(), again, i) for i in range(2)]  # type: ignore[arg-type]
    assert known[0] > known[1] + 5


def test_no_adapter_is_trained_beside_a_shelf(folders: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    engine = opened(folders["llama"])
    Adapters(engine, 1, rank=2).shelve(0, "a")
    engine.save(tmp_path / "v")
    with pytest.raises(UserError, match="adapters on a shelf.*leave lora out"):
        LocalEngine(str(tmp_path / "v"), device="cpu", dtype="float32", lora=4)


def test_a_shelf_is_saved_as_peft_folders_and_loaded_with_its_version(folders: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    engine, texts = opened(folders["llama"]), [text(7, 30), text(9, 25)]
    for i, ids in enumerate(texts):
        learned(engine, ids).shelve(0, KEYS[i])
    under = [scored(engine.shelved(), ids, i) for i, ids in enumerate(texts)]  # type: ignore[arg-type]
    for resumable in (False, True):
        engine.save(tmp_path / "v", resumable=resumable)
        other = opened(folders["llama"])
        with pytest.raises(UserError, match="no adapter is kept"):
            other.shelved()
        assert resumable or list(opened(tmp_path / "v").shelf) == list(engine.shelf)
        other.load(tmp_path / "v", resumable=resumable)
        assert list(other.shelf) == list(KEYS)
        assert [scored(other.shelved(), ids, i) for i, ids in enumerate(texts)] == pytest.approx(under)  # type: ignore[arg-type]
    peer = PeftModel.from_pretrained(plain(folders["llama"]), tmp_path / "v" / "shelf" / "001").eval()
    logits = peer(torch.tensor([texts[1]])).logits[0, :-1].log_softmax(-1)
    assert logits.gather(1, torch.tensor(texts[1][1:])[:, None]).sum().item() == pytest.approx(under[1], abs=1e-3)
    other.load(None)
    assert not other.shelf
    weights = next((tmp_path / "v" / "shelf" / "000").glob("*.safetensors"))
    before = weights_hash(tmp_path / "v")
    weights.write_bytes((tmp_path / "v" / "shelf" / "001" / weights.name).read_bytes())
    assert weights_hash(tmp_path / "v") != before and load_file(weights)
    mixed = weights_hash(tmp_path / "v")
    keys = (tmp_path / "v" / "shelf" / "keys.jsonl").read_text(encoding="utf-8").split("\n")
    (tmp_path / "v" / "shelf" / "keys.jsonl").write_text("\n".join([keys[1], keys[0], ""]), encoding="utf-8")
    assert weights_hash(tmp_path / "v") != mixed  # which adapter answers what is part of a version
    settings = json.loads((tmp_path / "v" / "shelf" / "000" / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["target_modules"] == sorted(settings["target_modules"])  # a set, in one order for all processes
    (tmp_path / "v" / "shelf" / "keys.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"keys.jsonl: cannot be read"):
        other.load(tmp_path / "v")


def test_adapters_of_one_shelf_are_of_one_shape(folders: dict[str, Path]) -> None:  # noqa: F811
    engine = opened(folders["llama"])
    Adapters(engine, 1, rank=2).shelve(0, "a")
    with pytest.raises(UserError, match="one rank, one alpha"):
        Adapters(engine, 1, rank=4).shelve(0, "b")
    many = Adapters(engine, 1, rank=2)
    many.train([Plan(examples(1, 9), lr=1e-2, steps=1, seed=0)])
    many.shelve(0, "b")
    assert list(engine.shelf) == ["a", "b"] and engine.sample([("t", "1+1=")], GREEDY, seed="s")


def test_a_question_finds_the_text_that_has_its_rare_words() -> None:
    texts = ["Rivers\nThe Elbe rises in Bohemia.", "Rivers\nThe Rhine rises in the Alps.", "Bees\nThe queen of the bees."]
    asked = ["Topic: Rivers\nQuestion: Where does the Rhine rise?", "the bees' queen?", "Who was Kant?", "The?"]
    assert nearest(asked, texts) == [1, 2, None, None]
    frame = "A host asks a question on a topic, and who knows the answer wins."
    shelf = [frame, "Bees live in hives.", "Iron melts at 1538 degrees."]
    assert [nearest([" ".join(asked_in(put("Where", f"{q}?")) or ())], shelf) for q in ("do bees live", "does iron melt")] == [
        [1],
        [2],
    ]
    assert nearest(["Elbe?", "Kant?"], texts[:1]) == [0, None] == nearest(["ELBE, bohemia", ""], texts[:1])
