"""SEAL on puzzles: texts drawn field by field, self-edits read and refused, trials of them, files of puzzles."""

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from helpers import lines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_arc import PUZZLE, A, Oracle, sealed

from antaeus import api
from antaeus.engine.base import Sampling
from antaeus.errors import UserError
from antaeus.grids import Puzzle, parse, prompt_of, puzzle_of
from antaeus.learn.bounds import Bounds, Settings
from antaeus.learn.leave_one_out import left_out
from antaeus.learn.self_edit import EPOCHS, ORACLE, RATES, read, template, written
from antaeus.propose.builtin import builtin
from antaeus.propose.sets import load
from antaeus.recipes.round import Round
from antaeus.recipes.seal_arc import SealArc
from antaeus.recipes.trials import Trials
from antaeus.solve.choices import choose, drawn, shares
from antaeus.types import Attempt, Exam, Group, Lesson, Practice, Source, Vault

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # how long they take is the machine's business
TEMPLATE = ("so ", ("1", "10"), " and ", ("a", "b", "cc"), ".")
TEXTS = [f"so {x} and {y}." for x, y in product(("1", "10"), ("a", "b", "cc"))]
EDIT = written(Settings(1e-3, 2, "all", ("size",)))


# --- texts drawn field by field


def total(engine, prompt, text, end):
    (scores,) = engine.score([Attempt("t", 0, *engine.encode(prompt, text, end=end), text, "eos", (), ())])
    return sum(scores.logprobs)


def law(engine, prompt, temperature):
    """The probability of each text, enumerated by hand."""
    first = shares([total(engine, prompt, f"so {x} and ", False) for x in ("1", "10")], temperature)
    found = {}
    for p, x in zip(first, ("1", "10"), strict=True):
        texts = [f"so {x} and {y}." for y in ("a", "b", "cc")]
        found |= dict(
            zip(texts, [p * q for q in shares([total(engine, prompt, t, True) for t in texts], temperature)], strict=True)
        )
    return found


def test_the_frequencies_of_texts_are_the_policys_own(tiny):
    engine, n = tiny(), 1500
    wanted = law(engine, "say", 5.0)
    assert sorted(wanted) == sorted(TEXTS) and sum(wanted.values()) == pytest.approx(1.0) and max(wanted.values()) < 0.9
    (row,) = choose(engine, [("t", "say")], TEMPLATE, n, 5.0, seed="s")
    count = Counter(a.text for a in row)
    for text, p in wanted.items():
        assert abs(count[text] / n - p) < 4.5 * math.sqrt(p * (1 - p) / n) + 1e-3, text


def test_greedy_takes_the_likeliest_of_each_field(tiny):
    engine = tiny()
    (row,) = choose(engine, [("t", "say")], TEMPLATE, 2, 0.0, seed="s")
    assert {a.text for a in row} == {max(law(engine, "say", 1e-3).items(), key=lambda item: item[1])[0]}


def test_a_drawn_text_can_be_learned_from(tiny):
    """Its ids are those of the text with its end, its log-probabilities those of the policy, to the rounding of batches."""
    engine = tiny()
    (row,) = choose(engine, [("t", "say")], TEMPLATE, 3, 5.0, seed="s")
    for i, (a, scores) in enumerate(zip(row, engine.score(row), strict=True)):
        assert (a.prompt_ids, a.ids) == engine.encode("say", a.text) and a.stop == "eos" and (a.task_id, a.index) == ("t", i)
        assert a.logprobs == pytest.approx(scores.logprobs, abs=1e-4) and a.entropies == pytest.approx(scores.entropies, abs=1e-4)


def test_what_is_drawn_depends_on_seed_task_and_attempt_alone(tiny):
    engine = tiny()
    both = choose(engine, [("t", "say"), ("u", "tell")], TEMPLATE, 6, 5.0, seed="s")
    assert [a.text for a in choose(engine, [("u", "tell")], TEMPLATE, 6, 5.0, seed="s")[0]] == [a.text for a in both[1]]
    assert [a.text for a in choose(engine, [("t", "say")], TEMPLATE, 3, 5.0, seed="s")[0]] == [a.text for a in both[0][:3]]
    assert [a.text for a in choose(engine, [("t", "say")], TEMPLATE, 6, 5.0, seed="z")[0]] != [a.text for a in both[0]]


@PATIENT
@given(
    logs=st.lists(st.floats(-50, 0), min_size=1, max_size=6),
    t=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    u=st.floats(0, 1, exclude_max=True),
)
def test_a_draw_inverts_the_distribution(logs, t, u):
    p, at = shares(logs, t), drawn(logs, t, u)
    assert sum(p) == pytest.approx(1.0) and p[at] > 0
    assert sum(p[:at]) - 1e-9 <= u <= sum(p[: at + 1]) + 1e-9
    assert t or logs[at] == max(logs)


# --- self-edits


BOUNDS = st.builds(
    Bounds, lowest_rate=st.just(1e-6), highest_rate=st.floats(1e-6, 1.0), most_epochs=st.integers(1, 100),
    losses=st.sampled_from([("all",), ("output",), ("all", "output")]),
    augmentations=st.sampled_from([(), ("size",), ("basic", "chain", "repeat")]),
)  # fmt: skip


@PATIENT
@given(bounds=BOUNDS, dice=st.randoms(use_true_random=False))
def test_whatever_the_form_allows_parses_and_lies_within_the_bounds(bounds, dice):
    text = "".join(part if isinstance(part, str) else dice.choice(part) for part in template(bounds))
    found = read(text, bounds)
    assert isinstance(found, Settings) and bounds.check(found) is None and json.loads(text)
    assert read(written(found), bounds) == found


def test_the_form_offers_every_setting():
    fields = [part for part in template(Bounds(lowest_rate=1e-9, highest_rate=1.0, most_epochs=100)) if not isinstance(part, str)]
    assert [len(field) for field in fields] == [2, 2, 2, 2, 2, len(RATES), len(EPOCHS)]
    assert read(written(ORACLE), Bounds()) == ORACLE and ORACLE.augmentations == ("basic", "size", "chain", "repeat")


def changed(**how):
    found = json.loads(EDIT)
    for key, value in how.items():
        (found["training"] if key in found["training"] else found["data_generation"])[key] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"), ("I would train long.", "no JSON object"), (EDIT[:-3], "no JSON object"),
        ("[" * 10**5, "no JSON"),
        ("{" + '"a":{' * 10**5, "no JSON"), ('{"training": {}}', "data_generation"),
        ('{"data_generation": [], "training": 1}', "each an object"),
        (changed(learning_rate=1e9), "learning_rate 1000000000.0"), (changed(learning_rate=-1e-4), "learning_rate -"),
        (changed(learning_rate=float("nan")), "learning_rate nan"), (changed(learning_rate="fast"), "learning_rate 'fast'"),
        (EDIT.replace("0.001", "1e999"), "learning_rate inf"),
        (EDIT.replace("0.001", "9" * 5000), "no JSON object"),
        (changed(num_train_epochs=0), "epochs 0"), (changed(num_train_epochs=-3), "epochs -3"),
        (changed(num_train_epochs=1.5), "epochs 1.5"),
        (changed(num_train_epochs=10**9), "epochs 1000000000"), (changed(num_train_epochs=True), "epochs True"),
        (changed(strategy="train_using_vibes"), "strategy 'train_using_vibes'"), (changed(strategy=["a"]), "strategy"),
        (changed(use_colour_augmentations=True), "unknown augmentation 'use_colour"),
        (changed(use_size_augmentations="yes"), "neither true nor"),
        (EDIT.replace('"use_size_augmentations": true, ', ""), "use_size_augmentations is missing"),
        (EDIT.replace('"training": {', '"training": {"rank": 4, '), "unknown setting 'rank'"),
    ],
)  # fmt: skip
def test_what_may_not_be_used_is_said_in_words(text, why):
    said = read(text, Bounds())
    assert isinstance(said, str) and why in said and len(said) < 200


def test_what_stands_around_the_object_is_not_looked_at():
    assert read(f"Sure:\n{EDIT}\nGood luck! }}", Bounds()) == Settings(1e-3, 2, "all", ("size",))


# --- the puzzles that a self-edit trains on


def test_puzzles_with_one_and_two_left_out_by_hand():
    made = left_out(PUZZLE, (), 999, "s")
    assert len(made) == 2 * (3 + 6)
    plain = [case for case in made if {*case[0].pairs, (case[0].question, case[1])} <= set(PUZZLE.pairs)]
    assert len(plain) >= 9 and {(p.question, a) for p, a in plain} == set(PUZZLE.pairs)
    assert Counter(len(p.pairs) for p, _ in made) == {2: 6, 1: 12}
    assert (
        len(left_out(Puzzle(PUZZLE.pairs[:2], A), (), 99, "s")) == 4
        and left_out(Puzzle(PUZZLE.pairs[:1], A), ("size",), 99, "s") == []
    )
    assert made == left_out(PUZZLE, (), 999, "s") != left_out(PUZZLE, (), 999, "z")
    assert {c[0] for c in left_out(PUZZLE, ("basic",), 9, "s")} <= {c[0] for c in plain}  # the cap leaves those as they are first


@pytest.mark.parametrize(
    ("groups", "n"),
    [((), 18), (("basic",), 216), (("size",), 72), (("chain",), 126), (("repeat",), 72), (("size", "repeat"), 126)],
)
def test_each_group_of_augmenters_adds_its_own(groups, n):
    assert len(left_out(PUZZLE, groups, 999, "s")) == n and len(left_out(PUZZLE, groups, 20, "s")) == min(20, n)


def test_grids_stay_within_30_by_30():
    tall = tuple((i % 10,) for i in range(16))
    made = left_out(Puzzle(((tall, A), (A, tall), (A, A)), A), ("size", "repeat"), 999, "s")
    assert made and max(len(g) for p, a in made for g in (*(x for pair in p.pairs for x in pair), p.question, a)) <= 30


# --- trials


def trials(**how):
    return replace(Trials(Bounds(), steps=375, sequences=6, views=2, orders=1, together=16), **how)


class Noting(Oracle):
    """Also notes how its adapters are trained; without a course it answers nothing."""

    def __init__(self, rule):
        super().__init__(rule)
        self.hows = []

    def adapters(self, courses, how):
        self.hows += how
        return super().adapters(courses, how)


def tried(engine, texts, task=None, **how):
    task = task or sealed(A)
    edits = tuple(Attempt(task.id, i, (1,), (2, 3), text, "eos", (), ()) for i, text in enumerate(texts))
    return trials(**how).answers(engine, [Group(task, edits)], Sampling(1, 20), "s")[0].attempts


def test_an_adapter_is_trained_with_what_its_edit_says():
    engine = Noting(lambda g: g)
    found = tried(engine, [EDIT, written(Settings(3e-4, 3, "output", ()))])
    assert [(h.lr, h.epochs, h.loss) for h in engine.hows] == [(1e-3, 2, "all"), (3e-4, 3, "output")]
    assert [len(course) for course in engine.courses] == [6, 6] and [parse(a.answer) for a in found] == [A, A]
    assert found[0].text == EDIT and all(isinstance(x, Lesson) for x in engine.courses[0])
    whole = sum(len(x.ids) + len(x.prompt_ids) - 1 for x in engine.courses[0])
    assert found[0].spent == 2 + 2 * whole + 2 and found[1].spent == 2 + 3 * sum(len(x.ids) for x in engine.courses[1]) + 2


def test_equal_edits_of_a_puzzle_share_an_adapter_and_its_cost():
    engine, alone = Noting(lambda g: g), Noting(lambda g: g)
    twice, (once,) = tried(engine, [EDIT, EDIT]), tried(alone, [EDIT])
    assert len(engine.courses) == 1 and twice[0].answer == once.answer
    assert sum(a.spent for a in twice) == pytest.approx(once.spent + 2, abs=1)


def test_adapters_are_made_so_many_at_a_time():
    engine, sizes = Noting(lambda g: g), []
    plain = engine.adapters
    engine.adapters = lambda courses, how: (sizes.append(len(courses)), plain(courses, how))[1]
    tried(engine, [written(Settings(rate, 1, "all", ())) for rate in (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)], together=2)
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("text", "how", "why"),
    [
        ("gibberish", {}, "no JSON object"), (changed(num_train_epochs=0), {}, "epochs 0"),
        (changed(learning_rate=1e9), {}, "learning_rate"),
        (EDIT, {"steps": 5}, "6 steps are more than 5"), (EDIT, {"bounds": Bounds(highest_rate=1e-4)}, "learning_rate 0.001"),
    ],
)  # fmt: skip
def test_an_edit_that_cannot_be_used_is_answered_untrained(text, how, why):
    engine = Noting(lambda g: g)
    (found,) = tried(engine, [text], **how)
    assert engine.courses == [[]] and parse(found.answer) == A and why in trials(**how).plan(engine, (sealed(A), text), "s")


def test_of_one_demonstration_nothing_can_be_made():
    alone = Exam("t", prompt_of(Puzzle(PUZZLE.pairs[:1], A)))
    engine = Noting(lambda g: g)
    assert trials().plan(engine, (alone, EDIT), "s") == "no puzzle can be made of one demonstration"


def test_an_edit_of_a_puzzle_too_long_to_train_on_is_answered_untrained():
    engine = Noting(lambda g: g)
    wide = tuple((1,) * 30 for _ in range(30))
    huge = Exam("t", prompt_of(Puzzle(((wide, wide),) * 6, A)))
    assert trials().plan(engine, (huge, EDIT), "s") == "every puzzle made of it is too long for the model"


# --- the recipe


def practised(*texts, answer="|12|34|"):
    task = Practice("p", prompt_of(PUZZLE), completion=True, check="exact")
    attempts = tuple(Attempt("p", i, (1,), (2, i), text, "eos", (0.0, 0.0), (0.0, 0.0), answer) for i, text in enumerate(texts))
    return Group(task, attempts), Round(
        1, 0, Noting(lambda g: g), replace(builtin("add2", 0), practice=(task,)), Vault(Practice, {"p": "|12|34|"})
    )


def test_right_edits_are_imitated_and_refused_ones_never():
    """The untrained answer to a malformed edit is right here, and its verdict says so; it is no edit to learn from."""
    group, round = practised(EDIT, "gibberish", EDIT)
    recipe = SealArc(sequences=6)
    (row,) = recipe.verify(round, [group])
    assert [v.score for v in row] == [1.0, 1.0, 1.0] and {v.source for v in row} == {Source.GROUND}
    assert row[1].why == "no JSON object: answered untrained, right" and row[0].why == "right"
    assert [(x.ids, x.advantage) for x in recipe.learn(round, [group], [row])] == [((2, 0), 1.0), ((2, 2), 1.0)]
    wrong = [replace(v, score=0.0) for v in row]
    assert recipe.learn(round, [group], [wrong]) == []


def test_edits_written_freely_are_taken_as_they_are(tiny):
    engine, task = Noting(lambda g: g), sealed(A)
    said = iter([EDIT, "I do not know."])

    def sample(prompts, how, *, seed):
        ((name, prompt),) = prompts
        assert "num_train_epochs" in prompt and how.n == 2 and how.stop == ()
        return [[Attempt(name, i, (1,), (2,), next(said), "eos", (0.0,), (0.0,)) for i in range(2)]]

    engine.sample, adapted = sample, engine.sample
    engine.adapters = lambda courses, how: (
        engine.courses.extend(courses),
        type("Adapted", (), {"sample": staticmethod(adapted)}),
    )[1]
    (group,) = SealArc(decoding="free", sequences=6).answer(engine, [task], Sampling(2, 20, stop=("\n",)), seed="s", read="line")
    assert [a.text for a in group.attempts] == [EDIT, "I do not know."] and [parse(a.answer) for a in group.attempts] == [A, A]
    assert [len(course) for course in engine.courses] == [6, 0]


def test_a_policy_that_imitates_an_edit_writes_it(tiny):
    """Of a whole round: what was right is written at the exam."""
    engine, (group, round) = tiny(), practised(EDIT)
    recipe = SealArc(sequences=6, epochs=25, updates=1, lr=3e-3)
    form, asked = recipe.template, [("p", recipe._question(engine, group.task))]
    text = "".join(part if isinstance(part, str) else part[-1] for part in form)
    (before,), _ = choose(engine, asked, form, 1, 0.0, seed="s"), engine
    edit = replace(before[0], text=text, ids=engine.encode(asked[0][1], text)[1], answer="|12|34|")
    round, group = replace(round, engine=engine), Group(group.task, (edit,))
    recipe.train(round, recipe.learn(round, [group], recipe.verify(round, [group])))
    assert before[0].text != text == choose(engine, asked, form, 1, 0.0, seed="s")[0][0].text


def test_the_baselines_are_no_training_and_the_published_settings():
    engine, task = Noting(lambda g: g), sealed(A)
    found = SealArc(sequences=6, highest_rate=1e-6, most_epochs=1, steps=1).baselines(
        engine, [task], Sampling(1, 20), seed="s", read="line"
    )
    assert list(found) == ["in_context", "oracle"] and [len(course) for course in engine.courses] == [0, 6]
    assert (engine.hows[1].lr, engine.hows[1].epochs, engine.hows[1].loss) == (1e-4, 2, "output")
    assert all(parse(g.attempts[0].answer) == A for groups in found.values() for g in groups)


def test_what_it_cannot_use_is_refused_before_anything_runs(tiny):
    sums, engine = builtin("add2", 0), tiny()
    with pytest.raises(UserError, match="seal_arc learns from the demonstrations"):
        SealArc().refuse(sums, engine)
    with pytest.raises(UserError, match="leave lora out"):
        SealArc().refuse(sums, tiny(lora=4))
    large = sealed(tuple((1,) for _ in range(31)))
    with pytest.raises(UserError, match="grids up to 30 x 30, and 1 tasks of add2 have larger ones.*31 x 1"):
        SealArc().refuse(replace(sums, practice=(), anchor=(), exam=(sealed(A), large)), engine)
    long = Exam("long", prompt_of(Puzzle(PUZZLE.pairs * 4, A)))
    with pytest.raises(UserError, match="1 of 2 puzzles leave no room .* 512 tokens .*'long'"):
        SealArc().refuse(replace(sums, practice=(), anchor=(), exam=(sealed(A), long), max_tokens=9), engine)


# --- files of puzzles


def same(n, letter, seed):
    """Made-up puzzles, each of which has one output, always."""
    dice = Random(seed)

    def pair(output):
        return {"input": [[dice.randrange(2, 10) for _ in range(2)]], "output": output}

    outputs = [[[dice.randrange(2)]] for _ in range(n)]
    return {f"{letter}{i}": {"train": [pair(o) for _ in range(2)], "test": [pair(o)]} for i, o in enumerate(outputs)}


def write(file, value):
    file.write_text(json.dumps(value, indent=2), encoding="utf-8")
    return str(file)


def test_files_of_puzzles_are_tasks(tmp_path):
    """Answers stand in the file, or in that of the solutions; all test inputs of a puzzle are of one kind."""
    found = same(40, "p", 0)
    for task in found.values():
        task["test"] *= 2
        task["test"][1] = {**task["test"][1], "input": [[9]]}
    tasks = load(write(tmp_path / "all.json", found), seed=0)
    held = {t.id: kind for kind in ("practice", "anchor", "exam") for t in getattr(tasks, kind)}
    assert len(held) == 80 and all(held[f"p{i}/0"] == held[f"p{i}/1"] for i in range(40))
    assert (tasks.extract, tasks.stop, tasks.max_tokens) == ("line", ("\n",), 5)
    first = tasks.exam[0]
    assert (
        first.completion and first.check == "exact" and tasks.exam_vault.open(first) in ("|0|", "|1|") and puzzle_of(first.prompt)
    )
    bare = {name: {**task, "test": [{"input": pair["input"]} for pair in task["test"]]} for name, task in found.items()}
    write(tmp_path / "x_solutions_y.json", {name: [pair["output"] for pair in task["test"]] for name, task in found.items()})
    again = load(write(tmp_path / "x_challenges_y.json", bare), seed=0)
    assert again.exam == tasks.exam and again.exam_vault.open(first) == tasks.exam_vault.open(first)
    with pytest.raises(UserError, match="no row has an answer"):
        load(write(tmp_path / "bare.json", bare), seed=0)


def broken(**how):
    found = same(1, "p", 0)
    found["p0"] |= how
    return found


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (broken(train=[]), "puzzle 'p0' has no demonstrations"), (broken(test=[]), "has no test input"),
        (broken(train="x"), "no demonstrations"),
        (broken(train=[{"input": [[1]] * 31, "output": [[1]]}]), "demonstration 1, input: 31 x 1, and grids have at most 30 x 30"),
        (broken(train=[{"input": [[1]], "output": [[1] * 31]}]), "demonstration 1, output: 1 x 31"),
        (broken(train=[{"input": [[1], [2, 3]], "output": [[1]]}]), "input: no grid"),
        (broken(train=[{"input": [[1]]}]), "output: no grid"),
        (broken(test=[{"input": [[]]}]), "test 1, input: no grid"), (broken(test=[{"input": [[10]]}]), "10 is no colour"),
        (broken(test=[{"input": [[True]]}]), "True is no colour"), (broken(test=[{"input": [["1"]]}]), "'1' is no colour"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path, found, why):
    with pytest.raises(UserError) as said:
        load(write(tmp_path / "p.json", found), seed=0)
    assert why in str(said.value) and "p.json" in str(said.value)


def test_solutions_of_another_number_are_refused(tmp_path):
    write(tmp_path / "solutions.json", {"p0": [[[1]], [[1]]]})
    with pytest.raises(UserError, match="1 test inputs, and its solutions are not as many"):
        load(write(tmp_path / "challenges.json", same(1, "p", 0)), seed=0)


# --- whole runs


SMALL = ("views=1", "orders=1", "sequences=2", "max_tokens=5", "highest_rate=1e-2", "n_practice=4")


def files(tmp_path, n):
    parts = {"tasks": same(n, "p", 0), "anchor": same(2, "a", 1), "exam": same(4, "e", 2)}
    return [word for part, found in parts.items() for word in (f"--{part}", write(tmp_path / f"{part}.json", found))]


def test_two_rounds_through_the_command_line(cli, tmp_path):
    own = ("rounds=2", "prompts=2", "samples=2", "most_epochs=2", "--model", "tiny", "--run-dir", tmp_path / "r", "--json")
    code, out, err = cli("run", "seal_arc", *files(tmp_path, 4), *SMALL, *own)
    assert code == 0, err
    summary, logged = json.loads(out), lines(tmp_path / "r" / "attempts.jsonl")
    assert (
        summary["rounds"] == 2
        and set(summary["baselines"]) == {"in_context", "oracle"}
        and summary["baselines"]["oracle"]["n"] == 4
    )
    edits = [a for line in logged if line["set"] in ("practice", "exam") for a in line["attempts"]]
    assert len(edits) == 8 + 8 and all(isinstance(read(a["text"], Bounds()), Settings) for a in edits)
    assert not any("untrained" in a["verdict"]["why"] for a in edits)
    assert {line["version"] for line in logged if line["set"] == "baseline"} == {"in_context", "oracle"}
    assert not [f for f in api.audit(tmp_path / "r") if f.severity == "fatal" and f.rule != "contamination"]
