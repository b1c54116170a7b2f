"""Bad input at the real command line: one clear line, exit code 2, no traceback, nothing half-written."""

import errno
import json
import shutil
from dataclasses import replace

import pytest

from antaeus.engine import models

ROWS = [
    {"prompt": f"what is {i} plus {i * 3 % 17}, my good friend number {i * 31}?", "answer": str(i + i * 3 % 17)}
    for i in range(80)
]


@pytest.fixture
def refused(cli, tmp_path):
    """Run, and insist on exit code 2, one line on standard error and no run directory."""

    def check(*args, says):
        code, out, err = cli("run", *args, "--run-dir", tmp_path / "fresh")
        told = [line for line in err.splitlines() if line.startswith("antaeus: ")]
        assert code == 2 and len(told) == 1 and out == "" and "Traceback" not in err, (code, out, err)
        for text in (says,) if isinstance(says, str) else says:
            assert text in told[0]
        assert not (tmp_path / "fresh").exists()
        return told[0]

    return check


def jsonl(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_unknown_names_are_met_with_what_may_have_been_meant(refused):
    refused("ttlr", says="unknown recipe 'ttlr' (did you mean 'ttrl'?)")
    refused("ttrl", "promts=3", says="did you mean 'prompts'?")
    refused("ttrl", "--tasks", "ad2", says="add2")
    refused("ttrl", "--model", "no/such/model/anywhere", says="no/such/model/anywhere")
    refused("ttrl", "rounds", says="not of the form key=value")
    refused("ttrl", "seed=1", "--seed", "2", says="seed is given twice")
    refused(says="no recipe given")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "d.jsonl"),
        ([*ROWS[:3], '{"prompt": "x", '], ["d.jsonl", "4"]),
        ([{"text": "no prompt"}], ["d.jsonl", "1", "prompt"]),
        ([{"prompt": "a b c", "id": "x", "answer": "1"}, {"prompt": "d e f", "id": "x", "answer": "2"}], ["d.jsonl", "x", "2"]),
        ([{"prompt": 5, "answer": "1"}], ["d.jsonl", "1", "prompt"]),
        ([{"messages": [{"role": "wizard", "content": "hi"}]}], ["d.jsonl", "1", "wizard"]),
        ([{"prompt": "no answers here at all"}, {"prompt": "nor in this other one"}], "answer"),
    ],
)
def test_bad_rows_name_the_file_and_the_line(refused, tmp_path, rows, says):
    refused("ttrl", "--model", "tiny", "--tasks", jsonl(tmp_path / "d.jsonl", rows), says=says)


def test_held_out_rows_that_stand_in_practice(refused, tmp_path):
    practice, anchor, exam = (
        jsonl(tmp_path / f"{n}.jsonl", r) for n, r in (("p", ROWS[:40]), ("a", ROWS[39:60]), ("e", ROWS[60:]))
    )
    files = ("--practice", practice, "--anchor", anchor, "--exam", exam)
    refused("ttrl", "--model", "tiny", "--tasks", practice, *files, says="a.jsonl")


def test_rlvr_needs_answers(refused, tmp_path):
    practice = jsonl(tmp_path / "p.jsonl", [{"prompt": r["prompt"]} for r in ROWS[:40]])
    anchor, exam = jsonl(tmp_path / "a.jsonl", ROWS[40:60]), jsonl(tmp_path / "e.jsonl", ROWS[60:])
    files = ("--tasks", practice, "--anchor", anchor, "--exam", exam)
    refused("rlvr", "--model", "tiny", *files, says=["rlvr learns from sealed answers", "40 of 40"])


def test_prompts_longer_than_the_context(refused, tmp_path):
    rows = [{"prompt": f"Say {'1' * (600 if i == 3 else 1)} after {i}:", "answer": "9"} for i in range(9)]
    long = jsonl(tmp_path / "long.jsonl", rows)
    refused(
        "ttrl",
        "--model",
        "tiny",
        "--tasks",
        "add2",
        "--exam",
        long,
        says=["exam task", "an answer of 8 tokens exceed the model's"],
    )
    refused("ttrl", "--model", "tiny", "max_tokens=600", says=["exceed the model's context of 512", "lower max_tokens"])


def test_chat_messages_for_a_model_without_template(refused, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(models.resolve("tiny"), folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    rows = [{"messages": [{"role": "user", "content": r["prompt"]}], "answer": r["answer"]} for r in ROWS]
    args = ("--model", folder, "--tasks", jsonl(tmp_path / "d.jsonl", rows))
    refused("ttrl", *args, says="the model has no chat template")


def test_pickled_weights_and_remote_code(refused, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(models.resolve("tiny"), folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused("ttrl", "--model", folder, says="pytorch_model.bin")
    folder = tmp_path / "remote"
    shutil.copytree(models.resolve("tiny"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "mine.Model"}})
    )
    refused("ttrl", "--model", folder, says="code")


def test_a_directory_that_holds_something_else(cli, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    code, _, err = cli("run", "ttrl", "--model", "tiny", "--run-dir", tmp_path / "full")
    assert code == 2 and "not an empty folder" in err and (tmp_path / "full" / "thesis.tex").read_text() == "precious"


def test_a_run_directory_of_another_configuration(cli, tmp_path):
    small = (
        "rounds=1",
        "prompts=2",
        "samples=2",
        "agreement=0",
        "n_exam=4",
        "n_anchor=4",
        "--model",
        "tiny",
        "--run-dir",
        tmp_path / "r",
    )
    assert cli("run", "ttrl", *small)[0] == 0
    before = (tmp_path / "r" / "summary.json").read_bytes()
    code, _, err = cli("run", "ttrl", *small, "lr=1e-4")
    assert code == 2 and "another configuration" in err
    code, _, err = cli("run", "ttrl", *small)
    assert code == 2 and "finished" in err
    assert (tmp_path / "r" / "summary.json").read_bytes() == before


def test_weights_that_find_no_room_are_one_line(cli, tmp_path, monkeypatch):
    """What safetensors says when the disk is full, word for word."""
    from safetensors import SafetensorError

    from antaeus.engine.local import LocalEngine

    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(LocalEngine, "_write", full)
    args = ("rounds=1", "control=random", "prompts=4", "samples=4", "n_exam=8", "n_anchor=8")
    code, _, err = cli("run", "ttrl", *args, "--model", "tiny", "--run-dir", tmp_path / "r")
    assert code == 2 and "the disk is full" in err and "Traceback" not in err, err


def test_a_full_disk_is_one_line(cli, tmp_path, monkeypatch):
    from antaeus.store import run as store

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "events.jsonl")

    monkeypatch.setattr(store.RunDir, "append", full)
    code, _, err = cli("run", "ttrl", "rounds=1", "agreement=0", "--model", "tiny", "--run-dir", tmp_path / "r")
    assert code == 2 and "the disk is full" in err and "Traceback" not in err


@pytest.mark.parametrize("command", ["resume", "report"])
def test_a_folder_that_is_no_run(cli, tmp_path, command):
    code, _, err = cli(command, tmp_path)
    assert code == 2 and "config.toml" in err and "Traceback" not in err


def test_list_and_help_teach(cli):
    code, out, _ = cli("list", "--json")
    assert code == 0 and json.loads(out)["ttrl"]["source"] == "self"
    code, out, _ = cli("list", "ttrl", "--json")
    assert code == 0 and {"rounds", "prompts", "samples", "lr", "control", "model"} <= json.loads(out).keys()
    code, out, _ = cli("run", "--help")
    assert code == 0 and "Example" in out and "--dry-run" in out
    assert cli("list", "nosuch")[0] == 2


def test_a_hanging_grader_abstains_and_the_run_goes_on(cli, tmp_path, monkeypatch):
    """Every fifth task's grading fails: counted as infrastructure, never as right or wrong."""
    from antaeus.guard.service import ScoreService

    real = ScoreService.mark

    def failing(self, groups):
        rows = real(self, groups)
        return [[replace(v, score=None if i % 5 == 0 else v.score) for v in row] for i, row in enumerate(rows)]

    monkeypatch.setattr(ScoreService, "mark", failing)
    small = ("rounds=1", "prompts=2", "samples=2", "agreement=0", "n_exam=40", "n_anchor=20", "--model", "tiny")
    code, out, err = cli("run", "ttrl", *small, "--run-dir", tmp_path / "r", "--json")
    assert code == 0, err
    exam = json.loads(out)["exam"]
    assert exam["infra"] >= 8 and exam["infra"] + exam["n"] == 40


def test_own_prompts_come_without_the_built_in_worked_examples(cli, tmp_path):
    practice = jsonl(tmp_path / "p.jsonl", [{"prompt": r["prompt"]} for r in ROWS[:40]])
    anchor, exam = jsonl(tmp_path / "a.jsonl", ROWS[40:60]), jsonl(tmp_path / "e.jsonl", ROWS[60:])
    files = ("--practice", practice, "--anchor", anchor, "--exam", exam)
    code, out, err = cli("run", "ttrl", "--model", "tiny", *files, "max_tokens=8", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["tasks"] == {"practice": 40, "anchor": 20, "exam": 20} and "17 + 25" not in plan["rendered_prompt"]


def test_a_stop_string_is_a_setting_like_others(cli, tmp_path):
    code, out, err = cli("run", "ttrl", "stop=;", "--model", "tiny", "--run-dir", tmp_path / "r", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["run"]["stop"] == ";", err
