"""Finding answers and telling which are the same: golden and adversarial tables, properties, and workers that hang or die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import antaeus
from antaeus.answers import FORMS, canonical, classes, equivalent, extract, judge, workers
from antaeus.errors import UserError

HANGS = "9!!!!!!!!"  # sympy computes it exactly, or would


# --- finding ---------------------------------------------------------------------------------------------------------------

FOUND = [
    # boxed
    ("boxed", r"so \boxed{5}", "5"),
    ("boxed", r"\boxed{\frac{1}{2}} is it", r"\frac{1}{2}"),
    ("boxed", r"\boxed{ \{1, 2\} }", r"\{1, 2\}"),
    ("boxed", r"\boxed{\left\{ x : x > \sqrt{2} \right\}}", r"\left\{ x : x > \sqrt{2} \right\}"),
    ("boxed", r"\fbox{7}", "7"),
    ("boxed", r"\boxed {7}", "7"),
    ("boxed", r"First \boxed{3}. Then, after some work, \boxed{4}.", "4"),
    ("boxed", "\\boxed{3}\nso\n\\boxed{4}", "4"),
    ("boxed", r"\boxed{5}, that is \boxed{5.0}", "5.0"),
    ("boxed", r"\boxed{\boxed{5}}", "5"),
    ("boxed", r"\boxed{(1,2)}", "(1,2)"),
    ("boxed", r"\boxed{x=1, 2}", "x=1, 2"),
    ("boxed", r"\boxed{5} and then \boxed{6", "5"),
    ("boxed", r"stray { brace \boxed{5}", "5"),
    ("boxed", r"\boxed{\text{Evelyn}}", r"\text{Evelyn}"),
    # marker
    ("marker", "12 eggs\n#### 18", "18"),
    ("marker", "#### 1,234", "1,234"),
    ("marker", "#### Paris", "Paris"),
    ("marker", "The answer is 42.", "42"),
    ("marker", "The answer is 41. No: the answer is 42, because 6*7=42.", "42"),
    ("marker", "**Answer:** 18 dollars per day for 7 days", "18"),
    ("marker", "Final answer: (1, 2)", "(1, 2)"),
    ("marker", "Answer: 1, 2, 3", "1, 2, 3"),
    ("marker", "Answer: 3 + 4 = 7", "7"),
    ("marker", "Answer: y = 2x + 1", "y = 2x + 1"),
    ("marker", "Answer:\nParis.", "Paris"),
    ("marker", "The final answer is:\n\\[\n\\frac{3}{4}\n\\]", r"\frac{3}{4}"),
    ("marker", "The answer is $\\frac{3}{4}$ of the cake. I hope it is correct.", r"\frac{3}{4}"),
    ("marker", r"The answer is \boxed{5}", "5"),
    ("marker", "The answer is $18.50 per day.", "18.50"),
    ("marker", "The answer is 12 because either Tom or Jane pays.", "12"),
    ("marker", "The answer is that she has 12 apples left.", "12"),
    # number
    ("number", "we get 3 and then 4", "4"),
    ("number", "it is -5", "-5"),
    ("number", "it is \u22125 degrees", "\u22125"),
    ("number", "10-5", "5"),
    ("number", "costs $1,234,567.89.", "1,234,567.89"),
    ("number", "that is 50%", "50"),
    ("number", "3/4 of it", "3/4"),
    ("number", r"so -\frac{1}{2}.", r"-\frac{1}{2}"),
    ("number", "2 1/2 cups", "2 1/2"),
    ("number", r"3 \times 10^8 m", r"3 \times 10^8"),
    ("number", "about .5", ".5"),
    ("number", "not 5 but 6", "6"),
    ("number", "I do not know, 42", "42"),
    ("marker", "The answer is not 41 but 42.", "42"),
    ("marker", "The answer is 12, not 15.", "12"),
    # line
    ("line", "\n  12 \nQuestion: 5 + 5 =", "12"),
    # auto, thinking
    ("auto", r"The answer is 3. \boxed{4}", "4"),
    ("auto", "7 apples. The answer is 5. There were 9.", "5"),
    ("auto", "#### Step 4: add\nSo we get 12.", "12"),
    ("auto", "<think>maybe 5, or 6</think>\n7", "7"),
    ("auto", "the prompt opened the tag: 5</think> 8", "8"),
    ("auto", "<think></think>\nThe answer is 7.", "7"),
]

NOTHING = [
    ("auto", ""),
    ("auto", " \n\t"),
    ("auto", "I do not know."),
    ("auto", r"The result is 5, hence \boxed{}"),
    ("auto", r"\boxed{ \text{ } }"),
    ("auto", r"The answer is \boxed{5"),  # truncated: it might have been 57
    ("auto", "So it is 12. The answer is"),
    ("auto", "5 or maybe 7 or 9"),
    ("auto", "either 3 or 4"),
    ("auto", "It is 5 apples or 7."),
    ("auto", r"\boxed{5 \text{ or } 7}"),
    ("auto", r"\boxed{5} or \boxed{7}"),
    ("auto", r"\boxed{5}, maybe even \boxed{7} or \boxed{5}"),
    ("auto", r"\boxed{\boxed{5} or \boxed{7}}"),
    ("auto", "The answer is 5 or 7."),
    ("auto", "The answer is $5$ or $7$."),
    ("auto", "Answer: A or B"),
    ("auto", "The answer is possibly 5"),
    ("auto", "<think>The answer is 5</think>"),
    ("auto", "The answer is definitely not equal to 42"),
    ("auto", "It isn't 42"),
    ("auto", "it cannot be 42."),
    ("auto", "1, 2, 3"),
    ("auto", "The roots are 1.5, 2.5, and 3"),
    ("auto", "<think>The answer is 5"),
    ("auto", r"\boxed{5}<think></think>"),
    ("auto", r"</think><think>\boxed{5}"),
    ("auto", "x^2"),
    ("auto", r"\sqrt{2}"),
    ("boxed", "The answer is 5"),
    ("marker", "5"),
    ("marker", "#### Step 4: add\nSo we get 12."),
    ("number", "H2O and x2"),
    ("line", "5 or 7"),
    ("line", "\n \n"),
]


@pytest.mark.parametrize(("how", "text", "answer"), FOUND)
def test_the_answer_is_found(how: str, text: str, answer: str) -> None:
    assert extract(text, how) == answer


@pytest.mark.parametrize(("how", "text"), NOTHING)
def test_no_answer_is_none(how: str, text: str) -> None:
    assert extract(text, how) is None


def test_what_is_no_text_has_no_answer() -> None:
    assert extract(None) is None and extract(5) is None and extract(b"5") is None  # type: ignore[arg-type]


def test_an_unknown_way_to_find_answers_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^extract: .*'boxd'.*auto, boxed, marker, number, line$"):
        extract("5", "boxd")


_SCRAPS = [r"\boxed{", "}", "{", "5", "7", " or ", "-", ".", ",", "/", "####", "The answer is ", "answer:", "<think>", "</think>"]
_SCRAPS += ["$", "\\", r"\frac", r"\text{cm}", "\n", " ", "^", "=", "x", "%", "(", ")", "½", "²", "\u2212", "\x00", "\ud800"]
texts = st.lists(st.sampled_from(_SCRAPS) | st.text(max_size=4), max_size=12).map("".join)


@settings(max_examples=300, deadline=None)
@given(texts, st.sampled_from(FORMS))
def test_extract_never_raises_and_never_finds_nothing(text: str, how: str) -> None:
    found = extract(text, how)
    assert found is None or (found == found.strip() != "" and canonical(found))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(-(10**6), 10**6), st.sampled_from(["{}", "It is {}.", "#### {}", "The answer is {}.", r"\boxed{{{}}}", "= {}\n"])
)
def test_a_number_survives_its_sentence(number: int, sentence: str) -> None:
    assert extract(sentence.format(number)) == str(number)


_FLOODS = [
    r"\boxed{",
    r"\boxed{5} or ",
    r"\boxed{5}. ",
    "}",
    "\\",
    "1",
    "1 ",
    "1,",
    "-",
    r"\frac{",
    r"\frac{1}",
    "1^{",
    "maybe 1",
]
_FLOODS += ["answer: ", "#### 1\n", "<think>", "</think>", r"\[", ". ", " ", "or "]


@pytest.mark.parametrize("scrap", _FLOODS)
def test_a_megabyte_takes_linear_time(no_workers: None, scrap: str) -> None:
    text = scrap * (1_000_000 // len(scrap))
    start = time.process_time()  # all of it is done here, whatever else the machine does
    extract(text, "auto")
    extract(text, "marker")
    canonical(text)
    judge(gold="5", answer=text)
    assert time.process_time() - start < 8  # quadratic time is minutes


# --- equivalence -----------------------------------------------------------------------------------------------------------

EASY = [  # the same without a worker
    ("142", "142.0"),
    ("142", "+142."),
    ("-5", "\u22125"),
    ("0", "-0.0"),
    ("7", "007"),
    ("1,234", "1234"),
    (r"10,\!080", "10080"),
    ("10 000", "10{,}000"),
    ("1,000.50", "1000.5"),
    ("1/2", "0.5"),
    (r"\frac12", r"\frac{1}{2}"),
    ("½", r"\dfrac{1}{2}"),
    (".35625", r"\frac{57}{160}"),
    ("-3/4", r"\frac{-3}{4}"),
    (r"1\frac{4}{5}", "9/5"),
    ("1 1/2", "1.5"),
    ("1½", "3/2"),
    ("1e5", "100000"),
    ("5 million", "5,000,000"),
    (r"\$18.90", "18.9"),
    (r"145^\circ", "145°"),
    (r"30^{\circ}", "30 degrees"),
    (r"50\%", "50"),
    (r"5.4 \text{ cents}", "5.4"),
    (r"864 \mbox{ inches}^2", "864"),
    ("12 apples", "12"),
    ("９", "9"),
    ("5", "5;"),
    ("5", "**5.**"),
    # words and shapes
    (r"\text{Evelyn}", "evelyn"),
    (r"\text{(E)}", "E"),
    (r"\textbf{(C)}", "C."),
    ("$x=5$", "5"),
    (r"x = 5 \text{ cm}", "5"),
    ("y = -2x", "-2x"),
    (r"x \in [-2,7]", "[-2, 7]"),
    ("(6,31,-1)", r"\left( 6, 31, -1 \right)"),
    ("3, 5, 7", "7,5,3"),
    ("x=1, x=2", "2, 1"),
    (r"\{1,\tfrac12\}", r"\{0.5,1\}"),
    ("(x,y)=(1,2)", "1,2"),
    (r"4210_{5}", "4210_5"),
    ("1/3", r"0.\overline{3}"),
    (r"0.1\bar6", "1/6"),
    (r"-2.5\overline{12}", "-829/330"),
    ("1", r"0.\overline{9}"),
    ("5 cm", "5cm"),
    ("$5$", r"\$5"),
    ("5", "\u200f5"),
    (r"4>x\ge -1", r"-1\leq x<4"),
]

SAME = [
    *EASY,
    (r"18+2\pi", "2π + 18"),
    ("2^10", "1024"),
    ("10²", "100"),
    (r"1.5\times10^{3}", "1500"),
    (r"\frac{\sqrt{3}}{3}", "1/sqrt(3)"),
    ("2*sqrt(3)", r"\sqrt{12}"),
    (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt2, 3-2\sqrt2"),
    ("x^2+2x+1", "(x+1)^2"),
    ("x**2 - 1", "(x-1)(x+1)"),
    ("p - q", "-q+p"),
    ("5x - 7y + 11z + 4 = 0", "-5x + 7y - 11z - 4 = 0"),
    (r"\begin{pmatrix} -1/3 \\ 2 \end{pmatrix}", r"\begin{pmatrix} -\frac13 \\ 2.0 \end{pmatrix}"),
    ("x<5", r"(-\infty,5)"),
    (r"(0,9) \cup (9,36)", r"(0,36) \setminus \{9\}"),
    ("1+274i", "274i + 1"),
    ("(1+i)(1-i)", "2"),
    (r"e^{i\pi}", "-1"),
    (r"0.1\pi", r"\frac{\pi}{10}"),
    (r"\sqrt2+\sqrt3-\sqrt{5+2\sqrt6}", "0"),
    (r"\binom{10}{3}", "120"),
]

DIFFERENT = [
    ("5", "-5"),
    ("5", "50"),
    ("1", "21"),
    ("5", "5.0001"),
    ("3.14", "3.141"),
    ("3.14", r"\pi"),
    ("100", "99"),
    ("100", "101"),
    ("1/3", "0.333333"),
    ("1/3", "0.333..."),
    (r"\frac{\pi}{2}", "1.5707963"),
    (r"\sqrt2", "1.41421356237309504880"),
    ("1/2004!", "1/2006!"),
    ("2^{-99}", "2^{-98}"),
    (r"x 2^{-99}", r"x 2^{-98}"),
    ("x<2^{-99}", "x<2^{-98}"),
    ("1+10^{-90}", "1"),
    (r"\sqrt{10^{40}+1}", "10^{20}"),
    ("e^{-100}", "0"),
    ("1000000007", "1000000008"),
    ("9" * 5000, "9" * 4999 + "8"),
    ("5", "5 or maybe 7 or 9"),
    ("7", r"5 \text{ or } 7"),
    ("5", "5, 7"),
    ("5", "either 5"),
    ("1, 2", "1 or 2"),
    ("12", "1 2"),
    ("12", "1, 2"),
    ("1200", "x=1, 200"),
    ("100200", "100 and 200"),
    ("1234", "(1,234)"),
    ("1234", "1,23,4"),
    ("102", "10²"),
    ("11/2", "1 1/2"),
    ("5", "5 million"),
    ("5", "5 squared"),
    ("5", "5 dozen"),
    (r"50\%", "0.5"),
    ("5 cm", "5 miles"),
    (r"12\text{ m}^2", r"12\text{ m}"),
    ("5", "5x"),
    ("5cm", "5mm"),
    ("$5", "£5"),
    (r"\$5", "€5"),
    ("0", "not 0"),
    ("1/3", r"0.\overline{33}4"),
    (r"4>x\ge -1", r"-1<x\le 4"),
    ("2", "2h"),
    ("x=5", "y=5"),
    ("x=1, y=2", "2, 1"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "2,1"),
    ("(1,2)", r"\{1,2\}"),
    ("(1,2]", "(1,2)"),
    ("1,2", "1,2,3"),
    ("1,1,2", "1,2,2"),
    (r"\pm 2", "2"),
    ("east", "seat"),
    ("no", "on"),
    ("A", "B"),
    ("3R^2", "3r^2"),
    ("12_3", "12"),
    ("12_3", "12_4"),
    ("3:30", "3/30"),
    ("10**10**8", "10^{80}"),
    (r"\infty", r"-\infty"),
    ("x<5", r"x \le 5"),
    ("1/0", "2/0"),
    ("1/0", "0"),
    (r"\sqrt{x^2}", "x"),
    ("5", ""),
    ("5", "__import__('os').getpid()"),
]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a: str, b: str) -> None:
    assert judge(gold=a, answer=b) is True
    assert judge(gold=b, answer=a) is True


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different(a: str, b: str) -> None:
    assert judge(gold=a, answer=b) is False
    assert judge(gold=b, answer=a) is False


@pytest.mark.parametrize("blank", [None, "", " ", "\n\t", "\u00a0"])
def test_no_answer_is_the_same_as_nothing(blank: str | None) -> None:
    assert not equivalent(gold="", answer=blank)
    assert not equivalent(gold="5", answer=blank)
    assert not equivalent(gold=" ", answer=blank)
    assert not equivalent(gold=None, answer=blank)  # type: ignore[arg-type]


def test_gold_and_answer_cannot_be_swapped_by_position() -> None:
    with pytest.raises(TypeError):
        equivalent("5", "5")  # type: ignore[misc]


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> None:
        raise AssertionError("a worker was asked")

    monkeypatch.setattr(workers, "same", ask)


@pytest.mark.parametrize(("a", "b"), EASY + [(a, b) for a, b in DIFFERENT if not set(r"\^!xh²") & set(a + b)])
def test_easy_cases_need_no_worker(a: str, b: str, no_workers: None) -> None:
    assert judge(gold=a, answer=b) is not None


@pytest.mark.parametrize(
    ("answer", "key"),
    [
        ("142.0", "142"),
        (r"\frac{2}{4}", "1/2"),
        ("-0", "0"),
        ("9" * 5000 + ".10", "9" * 5000 + ".1"),
        (r"5\text{ cm}", r"5\text{cm}"),
        ("x = 0.50", "x=1/2"),
        (" Yes ", "yes"),
        ("2 sqrt(2)", r"2\sqrt{2}"),
        ("x_{1} + y**10", "x_1+y^{10}"),
        ("1, 200", "1, 200"),
        ("$", "$"),
    ],
)
def test_canonical(answer: str, key: str) -> None:
    assert canonical(answer) == key
    assert canonical(key) == key


fractions = st.fractions(-1000, 1000, max_denominator=64)
forms = st.sampled_from(["{n}/{d}", r"\frac{{{n}}}{{{d}}}", r"${n}/{d}$", r"x = \dfrac{{{n}}}{{{d}}}", r"{n}/{d} \text{{ cm}}"])


@settings(max_examples=200, deadline=None)
@given(fractions, fractions, forms, forms)
def test_fractions_are_compared_exactly(x, y, f, g) -> None:  # type: ignore[no-untyped-def]
    a, b = f.format(n=x.numerator, d=x.denominator), g.format(n=y.numerator, d=y.denominator)
    assert equivalent(gold=a, answer=b) is (x == y)
    assert equivalent(gold=a, answer=g.format(n=3 * x.numerator, d=3 * x.denominator))


pieces = st.sampled_from(
    ["1", "2", "-3", "0.5", "x", "y", "+", "=", ",", "(", ")", r"\sqrt2", r"\pi", "cm", r"\{", r"\}", " or ", " ", "^2"]
)
answers = st.lists(pieces, min_size=1, max_size=5).map("".join) | texts


@settings(max_examples=60, deadline=None)
@given(answers, answers)
def test_equivalence_never_raises_is_symmetric_and_reflexive(a: str, b: str) -> None:
    forth, back = judge(gold=a, answer=b, timeout_s=5.0), judge(gold=b, answer=a, timeout_s=5.0)
    assert forth in (True, False, None) and forth == back
    assert equivalent(gold=a, answer=a) is bool(a.strip())


# --- classes ---------------------------------------------------------------------------------------------------------------


def test_classes_of_votes() -> None:
    votes = ["5", None, "1/2", "5.0", "0.5", "", r"\frac12", "x=5", "  ", "2", r"\sqrt{4}", "5 or 2", "$5$"]
    assert classes(votes) == [0, None, 1, 0, 1, None, 1, 0, None, 2, 2, 3, 0]
    assert classes([]) == [] and classes([None, "", None]) == [None, None, None]


def test_142_and_one_half_are_one_class_for_vote_and_reward() -> None:
    for group in (["142.0", "142"], ["1/2", "0.5", r"\frac12"]):
        assert set(classes(group)) == {0}
        assert all(equivalent(gold=a, answer=b) for a in group for b in group)


def test_classes_compare_with_the_first_member() -> None:
    assert classes(["5 miles", "5", "5 cm"]) == [0, 0, 1]
    assert classes(["5", "5 miles", "5 cm"]) == [0, 0, 0]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.none() | answers, max_size=6))
def test_classes_are_what_equivalent_says(group: list[str | None]) -> None:
    labels = classes(group)
    first: list[str] = []
    for answer, label in zip(group, labels, strict=True):
        if answer is None or not answer.strip():
            assert label is None
            continue
        assert label is not None and label <= len(first)
        matches = [i for i, member in enumerate(first) if equivalent(gold=member, answer=answer)]
        assert label == (matches[0] if matches else len(first))
        if label == len(first):
            first.append(answer)


def test_128_integers_take_less_than_a_millisecond(no_workers: None) -> None:
    votes = [str(i % 97 - 40) for i in range(128)]
    assert max(label for label in classes(votes) if label is not None) == 96
    times = []
    for _ in range(20):
        start = time.perf_counter()
        classes(votes)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


def test_one_hanging_vote_costs_one_time_out() -> None:
    hanging = HANGS + "!"
    start = time.perf_counter()
    assert classes(["x+1", hanging, "1+x", "2x", hanging + "+0", "x+x"], timeout_s=1.0) == [0, 1, 0, 2, 3, 2]
    assert time.perf_counter() - start < 12  # two different hanging answers, and workers that start again


# --- workers ---------------------------------------------------------------------------------------------------------------


def formula(counter: list[int] = [0]) -> str:  # noqa: B006
    """A formula no test has asked about: neither it nor a pair with it is cached."""
    counter[0] += 1
    return rf"\sqrt{{{counter[0] ** 2}}}+x"


def same_formula(text: str) -> str:
    return text.replace(r"\sqrt", "").replace("+x", "") and f"x+{round(float(text[6:-3]) ** 0.5)}"


def test_a_hanging_formula_is_a_failure_of_the_grader_and_no_wrong_answer() -> None:
    start = time.perf_counter()
    assert judge(gold="5", answer=HANGS, timeout_s=1.0) is None
    assert 0.9 < time.perf_counter() - start < 30
    assert equivalent(gold="5", answer=HANGS, timeout_s=1.0) is False
    start = time.perf_counter()
    assert judge(gold="6", answer=HANGS, timeout_s=1.0) is None  # remembered
    assert time.perf_counter() - start < 0.5
    text = formula()
    assert judge(gold=text, answer=same_formula(text)) is True


@pytest.mark.parametrize(
    "monster", [r"(10^9)!", r"10^{10^{10^{10}}}", r"\binom{10^9}{5 \cdot 10^8}", "((" * 100 + "1" + "))" * 100]
)
def test_monsters_are_never_the_same_and_never_raise(monster: str) -> None:
    assert equivalent(gold="5", answer=monster, timeout_s=1.0) is False
    text = formula()
    assert judge(gold=text, answer=same_formula(text)) is True


def test_a_worker_killed_at_work_gives_none_and_the_next_question_is_answered() -> None:
    verdicts: list[bool | None] = []
    thread = threading.Thread(target=lambda: verdicts.append(judge(gold="7", answer=HANGS + "!!", timeout_s=60.0)))
    thread.start()
    time.sleep(0.2)
    deadline = time.monotonic() + 30
    while thread.is_alive() and time.monotonic() < deadline:  # also one that is only just starting
        for worker in list(workers._pool._all):
            os.kill(worker.process.pid, signal.SIGKILL)
        thread.join(0.2)
    assert verdicts == [None]
    text = formula()
    assert judge(gold=text, answer=same_formula(text)) is True


def test_a_worker_that_died_while_idle_is_replaced() -> None:
    text = formula()
    assert judge(gold=text, answer=same_formula(text)) is True
    for worker in list(workers._pool._idle):
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
    text = formula()
    assert judge(gold=text, answer=same_formula(text)) is True


def test_a_frozen_worker_is_late() -> None:
    text = formula()
    assert judge(gold=text, answer=same_formula(text)) is True
    frozen = list(workers._pool._idle)
    for worker in frozen:
        os.kill(worker.process.pid, signal.SIGSTOP)
    text = formula()
    assert judge(gold=text, answer=same_formula(text), timeout_s=0.5) is None
    assert any(worker.process.poll() is not None for worker in frozen)
    workers._pool.close()
    workers._pool._idle.clear()


def test_a_verdict_is_cached_and_a_failure_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    replies, asked = [(None, 2, False), ([True, None, None], 2, False)], []
    monkeypatch.setattr(workers._pool, "ask", lambda a, b, timeout_s: asked.append((a, b)) or replies.pop(0))
    text = formula()
    assert [judge(gold=text, answer="x+y") for _ in range(3)] == [None, True, True]
    assert len(asked) == 2 and asked[0] == asked[1]
    assert judge(gold="x+y", answer=text) is True and len(asked) == 2  # the other way round is the same question


def test_without_math_verify_formulas_are_failures_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(workers, "_pool", workers.Pool(1))
    question, answer = formula(), "x+y"
    assert [judge(gold=question, answer=answer) for _ in range(3)] == [None] * 3
    assert judge(gold="1/2", answer="0.5") is True
    assert len(caplog.records) == 1 and "pip install math-verify" in caplog.text
    monkeypatch.undo()
    assert judge(gold=question, answer=answer) is False  # the formula was not to blame


def test_formulas_that_are_clearly_apart_are_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = [rf"{n}\sqrt{{3}}" for n in range(2, 12)] + [str(n) for n in range(20)] + [r"\sqrt{12}", r"(\sqrt{3})^{2}"]
    asked = []
    ask = workers._pool.ask
    monkeypatch.setattr(workers._pool, "ask", lambda *question: asked.append(question) or ask(*question))
    assert classes(votes) == [*range(30), 0, 13]
    assert len(asked) < 40  # of about 350 pairs


def test_threads_share_the_workers() -> None:
    texts, verdicts = [formula() for _ in range(8)], {}
    threads = [threading.Thread(target=lambda t=t: verdicts.update({t: judge(gold=t, answer=same_formula(t))})) for t in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == dict.fromkeys(texts, True)
    assert len(workers._pool._all) <= workers._pool.size


# --- whole processes -------------------------------------------------------------------------------------------------------


def start(script: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(p).parent) for p in antaeus.__path__] + [os.environ.get("PYTHONPATH", "")])
    command, env = [sys.executable, "-c", textwrap.dedent(script)], {**os.environ, "PYTHONPATH": path}
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  # in a background job it would be ignored
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True, preexec_fn=heed)


def gone(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] if Path("/proc/self").exists() else "R"
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":  # dead; whoever adopted it has not looked yet
            return True
        time.sleep(0.1)
    return False


def test_importing_answers_and_judging_numbers_is_light() -> None:
    script = """
        import sys
        from antaeus.answers import classes, extract, judge
        assert judge(gold="1/2", answer="0.5") and classes(["5", "x=5.0"]) == [0, 0] and extract("is 5") == "5"
        heavy = {"sympy", "math_verify", "torch", "transformers", "numpy", "multiprocessing"} & set(sys.modules)
        from antaeus.answers import workers
        print(sorted(heavy), len(workers._pool._all))
    """
    out, _ = start(script).communicate(timeout=60)
    assert out == "[] 0\n"


def test_a_script_without_a_main_guard_a_forked_child_and_a_clean_end() -> None:
    script = """
        import os
        from antaeus.answers import judge, workers
        print(judge(gold="x+1", answer="1+x"), *(w.process.pid for w in workers._pool._all), flush=True)
        child = os.fork()
        if not child:
            os._exit(0 if not workers._pool._all and judge(gold="x+2", answer="2+x") and judge(gold="2x", answer="x+x") else 1)
        print(os.waitpid(child, 0)[1], judge(gold="x+3", answer="3+x"), flush=True)
    """
    process = start(script)
    out, _ = process.communicate(timeout=120)
    first, second = out.splitlines()
    verdict, pid = first.split()
    assert (verdict, second, process.returncode) == ("True", "0 True", 0)
    assert gone(int(pid), within_s=5)


def test_a_worker_survives_a_ctrl_c_that_the_script_survives() -> None:
    script = """
        import time
        from antaeus.answers import judge, workers
        judge(gold="x+1", answer="1+x")
        before = set(workers._pool._all)
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            print(judge(gold="x+2", answer="2+x"), before == workers._pool._all)
    """
    process = start(script)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: everybody in the group
    assert process.communicate(timeout=60)[0] == "True True\n"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_ctrl_c_or_the_death_of_its_parent(how: signal.Signals) -> None:
    script = f"""
        from antaeus.answers import judge, workers
        judge(gold="x+1", answer="1+x")
        print(*(w.process.pid for w in workers._pool._all), flush=True)
        judge(gold="5", answer={HANGS!r}, timeout_s=2.0 if {int(how)} == {int(signal.SIGKILL)} else 100.0)
    """
    process = start(script)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    time.sleep(0.3)
    process.send_signal(how)
    assert process.wait(timeout=10) != 0
    assert gone(pid, within_s=15)
