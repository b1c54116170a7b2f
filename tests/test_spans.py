"""Exact match and F1 of short answers, as SQuAD has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antaeus.answers.spans import exact, f1, normal
from antaeus.types import Attempt, Exam, Group, Source, Vault
from antaeus.verify.ground import ground

WORDS = st.text(st.characters(categories=["L", "N", "P", "Z"]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("Denver Broncos", "the denver  broncos."), ("24–10", "24-10"), ('"golden anniversary"', "Golden Anniversary"),
        ("Ångström", "A\u030angstro\u0308m"), ("Straße", "STRASSE"), ("A", "a"), ("Santa Clara\nSanta Clara, California", "santa clara"),
        ("½", "½"), ("$5", "5"), ("東京", "東京。"),
    ],
)  # fmt: skip
def test_what_is_the_same(gold, answer):
    assert exact(gold, answer) and f1(gold, answer) == 1.0


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("Denver Broncos", "Broncos"), ("A", "the"), ("the", ""), ("5", "6"), ("Paris", "Paris or Rome"), (".", ""), (".", " "), ("", "")],
)  # fmt: skip
def test_what_is_not(gold, answer):
    assert not exact(gold, answer)


def test_f1_by_hand():
    """Two of three words common with two of two: precision 2/2, recall 2/3; the best of several golds; nothing common."""
    assert f1("the city of Santa Clara", "Santa Clara") == pytest.approx(2 * (1 * 0.5) / 1.5)
    assert f1("Rome\nSanta Clara California", "Santa Clara") == pytest.approx(0.8)
    assert f1("to to be", "to be be") == pytest.approx(2 / 3)  # a word counts as often as both have it
    assert f1("Rome", "Paris") == f1("Rome", "the") == f1("Rome", "") == 0.0


@given(gold=WORDS, answer=WORDS)
def test_f1_is_a_share_and_symmetric_and_one_only_where_the_words_are_the_same(gold, answer):
    score = f1(gold, answer)
    assert 0 <= score <= 1 and score == pytest.approx(f1(answer, gold))
    if exact(gold, answer):
        assert score == 1
    if score == 1 and normal(gold):
        assert sorted(normal(gold).split()) == sorted(normal(answer).split())


@given(gold=st.text(max_size=20), nothing=st.sampled_from(["", " ", "\n", "\t "]))
def test_no_answer_never_wins(gold, nothing):
    assert not exact(gold, nothing) and f1(gold, nothing) == 0.0


@given(text=st.text(max_size=40))
def test_normal_is_normal_and_whatever_the_text_accepts_itself(text):
    assert normal(normal(text)) == normal(text)
    if text.strip():
        assert exact(text, text)


def test_ground_truth_tells_f1_beside():
    said = tuple(Attempt("t", i, (), (1,), "", "eos", (), (), a) for i, a in enumerate(["the Denver Broncos", "Broncos", None]))
    verdicts = ground(Group(Exam("t", "Who won?", check="span"), said), Vault(Exam, {"t": "Denver Broncos"}))
    assert [v.score for v in verdicts] == [1.0, 0.0, 0.0] and {v.source for v in verdicts} == {Source.GROUND}
    assert [v.parts.get("f1") for v in verdicts] == pytest.approx([1.0, 2 / 3, 0.0])
