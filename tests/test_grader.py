"""The check of graders: ours are right on the tables, naive ones are found out, and no grader can hang or crash us."""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
from functools import partial
from pathlib import Path

import pytest
from helpers import lines, run_cli
from hypothesis import given, settings
from hypothesis import strategies as st

import antaeus
from antaeus.answers import judge, workers
from antaeus.errors import UserError
from antaeus.guard.grader import Child, Gold, Target, check, golds_of, quick
from antaeus.guard.grader_calls import conventions, score_of
from antaeus.guard.grader_findings import SAME, SYMMETRIC, Report
from antaeus.guard.grader_probes import FORMS, GOLDS, MAY, MUST, NEVER, cheap, probes
from antaeus.propose.builtin import FAMILIES, builtin
from antaeus.types import Practice, Vault
from antaeus.verify.ground import grade_text, ground, right_answer

DATA = Path(__file__).parent / "data"
FEW = ("42", "1234", "-5", "0.5", "Paris")


@pytest.fixture
def cli(capsys, monkeypatch):
    return lambda *args: run_cli(capsys, monkeypatch, "check-grader", *args)


@pytest.fixture
def file(tmp_path):
    def write(code: str, name: str = "reward.py") -> str:
        (tmp_path / name).write_text(code)
        return str(tmp_path / name)

    return write


def rows(report: Report, rule: str) -> dict[str, dict[str, int]]:
    """Kind of probe -> what went wrong."""
    return {row.kind: row.troubles for row in report.rows if row.rule == rule and row.troubles}


# --- tables ----------------------------------------------------------------------------------------------------------------


def test_the_tables_are_large_and_have_both_labels() -> None:
    for name in ("golden", "adversarial"):
        labels = [row["right"] for row in lines(DATA / f"{name}.jsonl")]
        assert len(labels) >= 500 and 100 < sum(labels) < 400


def test_our_grader_makes_no_error_on_the_golden_table_in_either_order() -> None:
    table = lines(DATA / "golden.jsonl")
    assert [row for row in table if judge(gold=row["gold"], answer=row["answer"]) is not row["right"]] == []
    assert [row for row in table if judge(gold=row["answer"], answer=row["gold"]) is not row["right"]] == []


def test_our_grader_makes_no_error_on_golden_answers_in_a_sentence() -> None:
    whole = [row for row in lines(DATA / "golden.jsonl") if row["answer"].count("{") == row["answer"].count("}")]
    assert [
        row for row in whole if grade_text(row["gold"], rf"So the answer is \boxed{{{row['answer']}}}.") is not row["right"]
    ] == []


def test_our_grader_makes_no_error_on_adversarial_completions() -> None:
    table = lines(DATA / "adversarial.jsonl")
    assert [row for row in table if grade_text(row["gold"], row["text"] * row.get("times", 1)) is not row["right"]] == []


# --- naive graders are found out ---------------------------------------------------------------------------------------------


def substring(gold, answer):
    return gold in answer


def exact_string(gold, answer):
    return gold == answer


def last_gsm8k(solution_str, ground_truth, method="strict", format_score=0.0, score=1.0):
    """As in verl: the last "#### number"."""
    found = re.findall(r"#### (\-?[0-9\.\,]+)", solution_str)
    return (score if found[-1].replace(",", "") == ground_truth else format_score) if found else 0


def any_box(gold, completion):
    return float(gold in re.findall(r"\\boxed\{([^{}]*)\}", completion))


def exact_words(gold, answer):
    return sorted(gold.split()) == sorted(answer.split())


def ignores_the_sign(gold, answer):
    return gold.strip().lstrip("-") == answer.strip().lstrip("-")


def close_enough(gold, answer):
    try:
        return abs(float(gold) - float(answer)) <= 1
    except ValueError:
        return gold.strip() == answer.strip()


@pytest.mark.parametrize(
    ("grade", "kind"),
    [
        (substring, "gold with a digit appended"),
        (substring, "gold thought, another answer given"),
        (substring, "hedge: two answers joined by or"),
        (lambda gold, answer: answer in gold, "empty or white space"),
        (lambda gold, answer: (answer or "").strip() in gold, "part of the gold"),
        (last_gsm8k, "hedge: two answers joined by or"),
        (any_box, "two answers, the gold first"),
        (any_box, "gold given and taken back"),
        (any_box, "gold in an unclosed think block, another answer"),
        (ignores_the_sign, "gold with the other sign"),
        (close_enough, "gold + 1"),
        (lambda gold, answer: 1.0, "a think block and no answer"),
        (lambda gold, answer: gold == answer or "correct" in answer, "prompt injection"),
        (lambda gold, answer: gold == answer or len(answer) > 50_000, "100,000 characters"),
        (lambda gold, answer: gold in answer.replace("not ", "").split("\n"), "not the gold"),
        (lambda gold, answer: answer is None or gold == answer, "None"),
    ],
)
def test_a_grader_that_accepts_junk_is_unsound_and_told_why(grade, kind) -> None:
    report = check(grade, FEW)
    assert not report.sound and report.verdict.startswith("unsound: it accepts ")
    assert rows(report, NEVER)[kind]["accepted"] > 0


@pytest.mark.parametrize(
    "nothing", [lambda gold, answer: 0.0, lambda gold, answer: -1, lambda gold, answer: answer == "x" + gold]
)
def test_a_grader_that_refuses_every_gold_is_unsound(nothing) -> None:
    report = check(nothing, FEW)
    assert not report.sound and rows(report, MUST)["gold itself"] == {"refused": len(FEW)} and report.reads == ()


def test_one_refused_gold_among_many_is_a_finding() -> None:
    report = check(lambda gold, answer: gold.strip() == answer.strip() != "Paris", FEW)
    assert not report.sound and rows(report, MUST)["gold itself"] == {"refused": 1} and "'Paris'" in report.verdict


def test_white_space_around_an_answer_must_not_matter_and_dressing_may() -> None:
    report = check(exact_string, FEW)
    assert not report.sound and rows(report, MUST) == {"gold with white space around the text": {"refused": 15}}
    tidy = check(lambda gold, answer: gold == answer.strip(), FEW)
    assert tidy.sound and rows(tidy, MAY)["gold between dollar signs"] == {"refused": 5}
    assert {row.severity for row in tidy.rows if row.rule == MAY} == {"strict", ""}


def test_a_grader_that_tells_gold_and_answer_apart_is_reported() -> None:
    assert rows(check(substring, FEW), SYMMETRIC)["gold and answer exchanged"]["differed"] > 0
    assert not rows(check(lambda a, b: a.strip() == b.strip(), FEW), SYMMETRIC)


def test_scores_that_change_are_a_finding() -> None:
    coin, seen = random.Random(0), set()

    def first_time_only(gold, answer):
        new = (gold, answer) not in seen
        seen.add((gold, answer))
        return new and gold == answer.strip()

    for grade in (lambda gold, answer: coin.random() < 0.5, first_time_only):
        report = check(grade, FEW)
        assert not report.sound and rows(report, SAME)["asked again, in another order"]["differed"] > 0


def test_part_payment_for_a_wrong_answer_is_reported_and_is_no_acceptance() -> None:
    report = check(lambda gold, answer: 1.0 if gold == answer.strip() else 0.2 * (gold in answer), FEW)
    assert report.sound and rows(report, NEVER)["gold with a digit appended"] == {"partial": 4} and "weak on" in report.verdict


def test_what_the_gold_is_paid_is_what_counts_as_accepted() -> None:
    report = check(lambda gold, answer: 10 if gold == (answer or "").strip() else -10, FEW)
    assert report.sound and not rows(report, NEVER)
    assert not check(lambda gold, answer: 10 if gold in answer else -10, FEW).sound


def test_kinds_that_a_grader_does_not_take_are_named_with_the_built_in_golds_only() -> None:
    numbers = lambda gold, answer: re.fullmatch(r"[-\d.]+", gold) is not None and gold == answer.strip()  # noqa: E731
    report = check(numbers)
    assert report.sound and "words" in report.left_out and "integers" not in report.left_out and "takes no" in report.verdict
    assert not check(numbers, ["42", "Paris"]).sound


def test_our_own_comparison_is_sound() -> None:
    report = check(lambda gold, answer: judge(gold=gold, answer=answer, timeout_s=0.5), name="math")
    assert report.sound and report.golds == len(GOLDS) and not report.left_out and not rows(report, SYMMETRIC)
    assert all(set(troubles) == {"failed"} for troubles in rows(report, NEVER).values())  # 9!!!!!!!!: late, and so no verdict


# --- how graders are called, and what they return ---------------------------------------------------------------------------


def verl(data_source, solution_str, ground_truth, extra_info=None):
    assert data_source and extra_info is None
    return {"score": float(solution_str.rpartition("#### ")[2].strip() == ground_truth), "acc": 0.0}


def trl_text(completions, answer, **kwargs):
    assert kwargs["prompts"]
    return [float(c.endswith(f"<answer>{a}</answer>")) for c, a in zip(completions, answer, strict=True)]


def trl_messages(prompts, completions, solution, **kwargs):
    return [float(c[0]["content"].strip() == a) for c, a in zip(completions, solution, strict=True)]


def trl_columns(completions, **kwargs):
    return [float(c.strip() == a) for c, a in zip(completions, kwargs["ground_truth"], strict=True)]


def answer_first(answer, gold):
    return answer.endswith(f" {gold}.")


def response_and_answer(response, answer):
    return response.strip() == answer


def unnamed(a, b):
    return a.rpartition("####")[2].strip() == b


async def waits(gold, answer, prompt):
    return gold == answer.strip()


def by_keyword(*, gold, answer):
    return gold == answer.strip()


def by_position(answer, reference, /):
    return reference == answer.strip()


@pytest.mark.parametrize(
    ("grade", "said", "reads"),
    [
        (verl, "verl's verl(data_source, solution_str, ground_truth, extra_info)", "#### at the end"),
        (trl_text, "TRL's trl_text(completions, answer, **kwargs), completions as text", "<answer> tags"),
        (trl_messages, "completions as messages", "the bare answer"),
        (trl_columns, "completions as text", "the bare answer"),
        (answer_first, "gold is the gold, answer the answer", "a sentence"),
        (response_and_answer, "answer is the gold, response the answer", "the bare answer"),
        (unnamed, "b is the gold, a the answer", "#### at the end"),
        (waits, "answer the answer", "the bare answer"),
        (by_keyword, "answer the answer", "the bare answer"),
        (by_position, "reference is the gold", "the bare answer"),
    ],
)
def test_signatures_and_forms_are_recognised_and_said(grade, said, reads) -> None:
    report = check(grade, ["42", "-5", "Paris"])
    assert said in report.called and reads in report.reads
    assert not rows(report, MUST).get("gold itself")


@pytest.mark.parametrize("no_grader", [lambda answer: 1, lambda a, b, c: 1, lambda: 1, lambda completions: [1.0], print])
def test_what_is_no_grader_is_refused(no_grader) -> None:
    assert conventions(no_grader) == []
    with pytest.raises(UserError, match="expected f.gold, answer."):
        check(no_grader, FEW)


class Tensor:
    def __init__(self, value):
        self.value = value

    def item(self):
        return self.value


@pytest.mark.parametrize(
    ("returned", "score"),
    [(1, 1.0), (True, 1.0), (0.25, 0.25), ({"score": 0.5, "acc": 1}, 0.5), ((1.0, "why"), 1.0), (Tensor(0.5), 0.5), ([True], 1.0)]
    + [
        (bad, None)
        for bad in (None, "1.0", "", math.nan, math.inf, {}, {"acc": 1}, [], (), Tensor("x"), object(), b"1", {"score": None})
    ],
)
def test_scores_are_read_or_are_a_failure_and_never_a_zero(returned, score) -> None:
    found, why = score_of(returned)
    assert found == score and bool(why) == (score is None)


@pytest.mark.parametrize("returned", [1.0, [], [1.0, 0.0], None, "1", {"score": 1}, [None], [math.nan]])
def test_a_batch_must_give_one_score_for_one_completion(returned) -> None:
    assert score_of(returned, batch=True)[0] is None


@pytest.mark.parametrize("returned", [None, "1.0", math.nan, {"reward": 1.0}])
def test_no_score_for_a_wrong_answer_is_counted_as_a_failure(returned) -> None:
    report = check(lambda gold, answer: True if gold == answer.strip() else returned, FEW)
    assert report.sound and rows(report, NEVER)["gold + 1"] == {"failed": 4}


# --- in a process of its own --------------------------------------------------------------------------------------------------

HOSTILE = """
import os, subprocess, sys, time
print("printed while it is imported")
def grade(gold, answer):
    print("1.0")
    sys.stdin.read()
    if answer.startswith("not"):
        subprocess.Popen(["sleep", "600"])
        while True: pass
    if answer.startswith("maybe"): os._exit(0)
    if answer.startswith("either"): sys.exit(0)
    if answer == "None": raise ValueError("no such thing")
    return gold == answer.strip()
"""


def test_a_grader_that_hangs_dies_exits_raises_and_prints_is_survived(file) -> None:
    child = Child(Target(file(HOSTILE)), timeout_s=1.0)
    start = time.perf_counter()
    report = check(child, ["42", "Paris"])
    child.close()
    assert time.perf_counter() - start < 120
    found = rows(report, NEVER)
    assert found["not the gold"] == {"timed out": 2}
    assert found["hedge: two answers joined by or"] == {"failed": 4}  # it exits twice and dies twice
    assert found["a word for nothing"] == {"failed": 2} and report.sound
    examples = {row.kind: row.examples for row in report.rows}
    assert (
        "took more than 1 s" in examples["not the gold"]["timed out"] and "ValueError" in examples["a word for nothing"]["failed"]
    )


def test_a_grader_that_always_hangs_is_given_up_after_two_time_outs(file, tmp_path) -> None:
    calls = tmp_path / "calls"
    code = (
        f"import re\ndef grade(gold, answer):\n    open({str(calls)!r}, 'a').write('.')\n    re.match('(a+)+$', 'a' * 60 + 'b')\n"
    )
    child = Child(Target(file(code)), timeout_s=0.5)
    report = check(child, FEW)
    child.close()
    assert calls.read_text() == ".."
    assert not report.sound and rows(report, MUST)["gold itself"] == {"timed out": 5}


def test_everything_a_late_grader_started_is_killed_with_it(file, tmp_path) -> None:
    code = f"import os\ndef grade(gold, answer):\n    open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}} ')\n"
    code += (
        f"    if not os.fork():\n        open({str(tmp_path / 'pids')!r}, 'a').write(f'{{os.getpid()}} ')\n    while True: pass\n"
    )
    child = Child(Target(file(code)), timeout_s=1.0)
    assert child.ask("1", "1").late
    for pid in (tmp_path / "pids").read_text().split():
        deadline = time.monotonic() + 20
        while alive(int(pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(int(pid))
    child.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_text_of_every_kind_reaches_the_child_unharmed(file) -> None:
    child = Child(Target(file("def grade(gold, answer):\n    return [ord(c) for c in answer] == [int(n) for n in gold.split()]")))
    for text in ("\0\ud800\u202e🙂\n\r\u2028", "a" * 200_000):
        assert child.ask(" ".join(str(ord(c)) for c in text), text).score == 1.0
    child.close()


# --- the command ------------------------------------------------------------------------------------------------------------

GOOD = "def grade(gold, answer):\n    return answer is not None and gold == answer.strip()\n"


def test_exit_codes_and_json(cli, file) -> None:
    code, out, _ = cli(file(GOOD), "--json")
    found = json.loads(out)
    assert code == 0 and found["sound"] and found["verdict"].startswith("sound") and found["rows"]
    assert {"probe", "rule", "severity", "tried", "troubles", "counts", "examples"} == set(found["rows"][0])
    code, out, _ = cli(file("def grade(gold, answer):\n    return gold in (answer or '')\n"))
    assert code == 1 and "hedge: two" in out and "unsound: it accepts" in out


def test_the_users_answers_are_the_golds(cli, file, tmp_path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"what is {i} + {i}?", "answer": str(2 * i)}) + "\n" for i in range(10, 200)))
    strict = "def grade(gold, answer):\n    return gold != '24' and gold == (answer or '').strip()\n"
    code, out, _ = cli(file(strict), "--data", data, "--json")
    found = json.loads(out)
    assert code == 0 and found["golds"] == 38  # every fifth of 190, the first of them 20
    code, out, _ = cli(file(strict.replace("24", "20")), "--data", data)
    assert code == 1 and "1 of 38 refused" in out


def test_the_exact_check_of_runs_is_sound(cli) -> None:
    code, out, _ = cli("exact", "--json")
    assert code == 0 and json.loads(out)["reads"] == ["the bare answer", r"\boxed{}"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["mth"], None, "unknown grader 'mth'"),
        (["nowhere.py"], None, "there is no file"),
        (["{}"], "def grade(gold, answer)\n", "SyntaxError"),
        (["{}"], "import nothing_of_this_name\n", "ModuleNotFoundError"),
        (["{}"], "import sys\nsys.exit(3)\n", "cannot be imported: SystemExit"),
        (["{}"], "import os\nos._exit(3)\n", "ended the process"),
        (["{}"], "x = 1\n", "no function is a grader (it defines none)"),
        (["{}"], "def f(answer): pass\n", "no function is a grader (f)"),
        (["{}:g"], GOOD, "has no function 'g' (grade)"),
        (["{}:f"], "def f(answer): pass\n", "f(answer) is no grader"),
        (["{}"], "def f(gold, answer): pass\ndef g(gold, answer): pass\n", "several functions may be the grader (f, g); choose"),
        (["{}", "--data", "nowhere.jsonl"], GOOD, "there is no file nowhere.jsonl"),
        (["{}", "--data", "{data}"], GOOD, "no row has an answer"),
        (["reasoning-gym:leg_counting", "--data", "{data}"], None, "grades its own tasks only"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, file, tmp_path, args, code, says) -> None:
    (tmp_path / "d.jsonl").write_text('{"prompt": "a question without an answer"}\n')
    path = file(code) if code else ""
    status, out, err = cli(*[arg.replace("{data}", str(tmp_path / "d.jsonl")).replace("{}", path) for arg in args])
    told = err.splitlines()
    assert status == 2 and out == "" and len(told) == 1 and told[0].startswith("antaeus: ") and says in told[0], (status, err)


def test_one_of_several_functions_can_be_chosen_and_usual_names_are_found(file) -> None:
    path = file(GOOD + "def f(gold, answer):\n    return True\n")
    for target, score in ((Target(path), 0.0), (Target(path, "f"), 1.0)):
        child = Child(target)
        assert child.ask("1", "2").score == score
        child.close()


def test_the_function_in_python() -> None:
    with pytest.raises(UserError, match="unknown grader"):
        antaeus.check_grader("nothing")


# --- before a run -----------------------------------------------------------------------------------------------------------


def math_check(gold, answer):
    return right_answer("math", gold, answer)


@pytest.mark.parametrize("name", FAMILIES)
def test_built_in_tasks_pass_before_a_run_without_a_worker(name, monkeypatch) -> None:
    monkeypatch.setattr(workers, "same", lambda *_: pytest.fail("a worker was asked"))
    tasks = builtin(name, 0)
    golds = golds_of(tasks.anchor[:4], tasks.anchor_vault)["math"]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert quick(name, math_check, golds) == ()
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_formulas_and_words_pass_before_a_run_without_a_worker(monkeypatch) -> None:
    monkeypatch.setattr(workers, "same", lambda *_: pytest.fail("a worker was asked"))
    assert quick("mine", math_check, GOLDS) == ()


def test_a_run_is_refused_whose_grader_is_broken() -> None:
    with pytest.raises(UserError, match=r"^mine: its grader refuses '42' for the gold '42' \(gold itself\)"):
        quick("mine", lambda gold, answer: False, [Gold("42")])
    with pytest.raises(UserError, match="accepts '' for the gold '42'"):
        quick("mine", lambda gold, answer: True, [Gold("42")])
    with pytest.raises(UserError, match="accepts '42 or 43'"):
        quick("mine", substring, [Gold("42"), Gold("7")])
    for gold in (" ", "5 or 7"):  # a gold that is empty or hedges can never be given
        with pytest.raises(UserError, match="refuses"):
            quick("mine", math_check, [Gold(gold)] if gold != "5 or 7" else [Gold("maybe 5", "5")])


def test_failures_of_the_grader_are_returned() -> None:
    assert quick("mine", lambda gold, answer: None if answer == "None" else gold == answer, [Gold("42")]) == (
        "the grader of mine failed on 'None' for the gold '42'",
    )


def test_of_sealed_entries_only_what_answers_nothing_is_wrong_for_sure() -> None:
    asked: list[str] = []
    quick("gym", lambda gold, answer: asked.append(answer) or answer == "42", [Gold("42", "{sealed}"), Gold("", "{no answer}")])
    assert "43" not in asked and not any("or" in a.split() for a in asked) and asked.count("") == 2


def test_gym_tasks_are_checked_by_their_own_scorer(cli) -> None:
    pytest.importorskip("reasoning_gym")
    code, out, _ = cli("reasoning-gym:leg_counting", "--json")
    found = json.loads(out)
    assert code == 0 and found["golds"] == 12 and found["sound"]


def test_the_run_and_the_check_ask_the_same_grader() -> None:
    from helpers import group

    task, vault = Practice("t", "6 * 7 ="), Vault(Practice, {"t": "42"})
    found = ground(group("42", "42.0", "43", None, task=task), vault)
    assert [v.score for v in found] == [1.0, 1.0, 0.0, 0.0]
    assert [grade_text("42", text, check) for check in ("math", "exact") for text in ("42", r"\boxed{42.0}", "43", None)] == [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
        False,
    ]


# --- the probes themselves ----------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(-1000, 1000, places=2, allow_nan=False).map(str).filter(lambda text: "E" not in text),
    st.fractions(-50, 50, max_denominator=40).map(str),
)


@settings(max_examples=100, deadline=None)
@given(numbers, numbers)
def test_what_must_fail_is_wrong_and_what_may_pass_is_right(gold: str, other: str) -> None:
    for probe in probes(Gold(gold), [Gold(other)], "the bare answer"):
        if probe.whole or (probe.rule == NEVER and probe.kind == "a word for nothing"):
            continue
        verdict = judge(gold=gold, answer=probe.answer)
        assert verdict is (probe.rule != NEVER), (gold, probe)


def test_every_gold_is_asked_about_in_every_form() -> None:
    for form in FORMS:
        rules = {probe.rule for gold in GOLDS for probe in probes(gold, GOLDS, form)}
        assert rules == {MUST, MAY, NEVER}
    assert len(list(cheap("42", "7"))) < 25


def test_partial_targets_are_named_like_the_function() -> None:
    report = check(partial(right_answer, "exact"), ["42", "7"])
    assert report.called.startswith("right_answer(") and report.sound
