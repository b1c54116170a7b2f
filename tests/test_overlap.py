"""What counts as the same task, and the fence that keeps held-out tasks out of learning."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antaeus.asking import put
from antaeus.guard.overlap import Fence, overlaps
from antaeus.overlap import THRESHOLD, Index, same, text_of, tokens
from antaeus.types import Anchor, Exam, Lesson, Message, Practice, SealBroken

LONG = (
    "A baker has 48 eggs in the morning. She uses 3 eggs for every cake and bakes 9 cakes before noon, then a neighbour brings "
    "her 12 more eggs. How many eggs does the baker have in the evening if none of them breaks?"
)


def lesson(task: Practice | Anchor | Exam) -> Lesson:
    return Lesson(task=task, prompt_ids=(1, 2), ids=(3,), advantage=0.5)


def test_a_question_about_a_passage_is_found_without_its_frame_in_what_a_model_writes() -> None:
    question = "What was the name of the first queen who lived in the castle?"
    fence = Fence([Exam("q", put("History of the Czech lands", question), tags=("p",))])
    assert fence.given_away(f"Question 1: {question}\nAnswer: Bohemia") is not None
    assert fence.given_away("The castle was built for a queen of Bohemia.") is None
    fence.check([Practice("p", f"The castle\nNobody knows {question.lower()}")])  # the passage itself may say what it says


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("34 + 57 =", ("34", "+", "57", "=")),
        ("Straße, STRASSE.", ("strasse", "strasse")),
        ("１２ × 3", ("12", "*", "3")),
        ("7 − 2", ("7", "-", "2")),
        ("1,234,567 and 3.50", ("1234567", "and", "3.50")),
        ("x_1 (a)", ("x", "_", "1", "(", "a", ")")),
        ("so\u200bft hy\u00adphen", ("soft", "hyphen")),
        ("数学 is", ("数", "学", "is")),
        ("$5! ?$", ("5", "!")),
        ("", ()),
    ],
)
def test_tokens(text: str, wanted: tuple[str, ...]) -> None:
    assert tokens(text) == wanted


@pytest.mark.parametrize(
    "variant",
    [
        LONG.upper(),
        LONG.replace(" ", "\n\t "),
        LONG.replace("e", "e\u200b"),
        LONG.replace("48", "４８"),
        "Solve this step by step. " + LONG + " Give only the number.",
        LONG.replace("baker", "cook", 1),
        LONG.replace(" before noon", ""),
    ],
)
def test_variants_of_a_long_text_are_the_same(variant: str) -> None:
    assert same(LONG, variant) and same(variant, LONG)


@pytest.mark.parametrize("old, new", [("48", "49"), ("9 cakes", "8 cakes"), ("12 more", "120 more")])
def test_a_changed_number_is_another_task(old: str, new: str) -> None:
    assert not same(LONG, LONG.replace(old, new))


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        ("34 + 57 =", "34+57=", True),
        ("34 + 57 =", " 34  +\n57 = ", True),
        ("34 + 57 =", "34 - 57 =", False),
        ("34 + 57 =", "34 + 58 =", False),
        ("34 + 57 =", "57 + 34 =", False),
        ("2 * (3 + 4)", "2 * 3 + 4", False),
        ("3.5 + 1", "35 + 1", False),
        ("...", "???", False),
        ("?", "  ? ", True),
        ("word", "word", True),
    ],
)
def test_short_texts_must_be_equal(a: str, b: str, equal: bool) -> None:
    assert same(a, b) is equal is same(b, a)


def test_a_long_text_counts_thirteen_grams_and_stands_a_replaced_word() -> None:
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)]
    held = " ".join(words)
    other = " ".join([*words[:100], "else", *words[101:]])
    assert same(held, other)
    assert not same(held, " ".join(words[i // 2 * 2 + 1 - i % 2] for i in range(200)))  # every pair of neighbours swapped


@pytest.mark.parametrize(("length", "equal"), [(63, True), (64, False), (200, False)])
def test_from_64_tokens_on_thirteen_grams_count(length: int, equal: bool) -> None:
    words = [f"w{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(length)]
    every_22nd = [w if i % 22 else "else" for i, w in enumerate(words)]  # leaves 64 % of the 8-grams, 41 % of the 13-grams
    assert (Index([("h", " ".join(words))]).hit(" ".join(every_22nd)) == "h") is equal


def test_the_threshold_is_where_it_says() -> None:
    words = [f"w{'abcdefghijklmnopqrstuvwxyz'[i]}" for i in range(17)]  # 10 8-grams
    held = Index([("h", " ".join(words))])
    assert THRESHOLD == 0.6
    assert held.hit(" ".join(words[:13])) == "h"  # 6 of them
    assert held.hit(" ".join(words[:12])) is None  # 5 of them


def test_instructions_that_many_share_are_not_the_task() -> None:
    ask = "Read the following list of words with care, sort it and write the words down in order of the alphabet: "
    lists = [f"{a}pple {b}erry {a}{b}x" for a in "abcdefgh" for b in "ijklmnop"]
    held = Index((str(i), ask + words) for i, words in enumerate(lists[:40]))
    assert all(held.hit(ask + words) is None for words in lists[40:])
    assert held.hit(ask.upper() + lists[7]) == "7"
    assert same(ask + lists[0], ask + lists[50])  # without the others there is no knowing what an instruction is


def test_two_texts_under_one_id_are_both_guarded() -> None:
    held = Index([("1", "34 + 57 ="), ("1", "2 + 2 =")])
    assert len(held) == 2 and held.hit("34 + 57 =") == "1" == held.hit("2 + 2 =")


def test_ten_thousand_texts_are_fast() -> None:
    def text(i: int) -> str:
        return " ".join(f"{chr(97 + i * j % 26)}{chr(97 + i // (j + 1) % 26)}{j}" for j in range(40))

    began = time.process_time()
    held = Index((str(i), text(i)) for i in range(10_000))
    hits = [held.hit(text(i)) for i in range(0, 10_000, 10)]
    assert None not in hits
    assert time.process_time() - began < 10  # 1 s alone on one core


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_same_is_reflexive_symmetric_and_never_raises(a: str, b: str) -> None:
    assert same(a, a)
    assert same(a, b) == same(b, a)


def test_of_messages_the_users_count() -> None:
    prompt = (Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert text_of(prompt) == "a\nc"
    assert text_of("plain") == "plain"


HELD = [Anchor("a1", "34 + 57 ="), Exam("e1", LONG), Exam("e2", (Message("system", "Be brief."), Message("user", "8 * 8 =")))]


@pytest.mark.parametrize(
    ("prompt", "theirs"),
    [
        ("34 + 57 =", "a1"),
        ("34+57 =\n", "a1"),
        ("３４ + ５７ =", "a1"),
        ("Hello. " + LONG, "e1"),
        ((Message("user", LONG.lower()),), "e1"),
        ("8 * 8 =", "e2"),
        ((Message("user", "8 × 8 ="),), "e2"),
    ],
)
def test_the_fence_stops_planted_duplicates(prompt: str | tuple[Message, ...], theirs: str) -> None:
    planted = Practice("p", prompt)
    with pytest.raises(SealBroken, match=f"practice task 'p' is the held-out task '{theirs}'"):
        Fence(HELD).check([planted])  # type: ignore[list-item]
    with pytest.raises(SealBroken, match=theirs):
        Fence(HELD).check([lesson(Practice("fine", "1 + 1 =")), lesson(planted)])  # type: ignore[arg-type]
    assert overlaps([Practice("q", "1 + 1 ="), planted], HELD) == [("p", theirs)]


@pytest.mark.parametrize("kind", [Anchor, Exam])
def test_the_fence_stops_every_other_kind(kind: type[Anchor] | type[Exam]) -> None:
    with pytest.raises(SealBroken, match="only Practice tasks may be learned from"):
        Fence(HELD).check([kind("new", "never seen before")])
    with pytest.raises(SealBroken, match=kind.__name__):
        Fence([]).check([lesson(kind("new", "never seen before"))])


def test_a_subclass_of_practice_is_not_practice() -> None:
    class Sneaky(Practice):
        pass

    with pytest.raises(SealBroken, match="Sneaky"):
        Fence(HELD).check([Sneaky("s", "1 + 1 =")])


def test_the_fence_lets_others_pass_and_looks_at_each_prompt() -> None:
    fence = Fence(HELD)
    near = [Practice("p1", "34 + 58 ="), Practice("p2", "34 - 57 ="), Practice("p3", LONG.replace("48", "84"))]
    fence.check([*near, *map(lesson, near)])
    with pytest.raises(SealBroken):  # an id that passed does not help another prompt
        fence.check([Practice("p1", "34 + 57 =")])
