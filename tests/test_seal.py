"""SEAL: passages as tasks, edits cut into documents, the inner loop, the recipe through its command line."""

import json
import math
import warnings
from dataclasses import replace

import pytest
from helpers import lines, run_cli

from antaeus.engine.base import Sampling, Tuning
from antaeus.errors import UserError
from antaeus.guard.overlap import Fence
from antaeus.learn.demonstrations import best
from antaeus.learn.documents import documents
from antaeus.propose.own_questions import own_questions
from antaeus.propose.passages import Question, are_passages, given_edits, opened, part_of, read_passages
from antaeus.propose.sets import load
from antaeus.recipes.round import Round
from antaeus.recipes.seal import SEAL
from antaeus.recipes.study import Study, by_passage, study
from antaeus.recipes.ttrl import TTRL
from antaeus.solve.templates import NAMES, filled, template
from antaeus.types import Attempt, Group, Passage, Practice, SealBroken, Source, Verdict, to_json

TITLES = {"practice": ["Rivers", "Bridges", "Ships"], "anchor": ["Lakes", "Paper"], "exam": ["Bees", "Iron", "Glass"]}
ELBE = Passage("Rivers", "The Elbe rises in Bohemia. It flows to Hamburg in 5 days.")


def row(title, n=2):
    said = {0: ("Who keeps", "Anna"), 1: ("Where is", "Ulm"), 2: ("What likes", "rain")}
    text = f"Of {title.lower()} this is known: " + " ".join(f"{q} {title.lower()}? {a}." for q, a in said.values())
    questions = [{"question": f"{said[i][0]} {title.lower()}?", "answer": said[i][1]} for i in range(n)]
    return {"title": title, "context": text, "questions": questions}


ROWS = [row(title) for titles in TITLES.values() for title in titles]


def write(path, rows):
    path.write_text(json.dumps(rows) if path.suffix == ".json" else "\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "passages.jsonl", ROWS)


def said_of(tmp_path, rows, name="bad.jsonl"):
    with pytest.raises(UserError) as caught, warnings.catch_warnings(action="ignore"):
        load(str(write(tmp_path / name, rows)), seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# passages as tasks


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_passages_are_split_by_title_and_their_answers_sealed(tmp_path, name):
    tasks = load(str(write(tmp_path / name, ROWS)), seed=0)
    parts = {part: {t.passage.title for t in getattr(tasks, part)} for part in TITLES}
    assert parts == {part: set(titles) for part, titles in TITLES.items()}
    assert len(tasks.practice) == 3 and len(tasks.anchor) == 4 and len(tasks.exam) == 6
    one = tasks.exam[0]
    assert (
        one.prompt.endswith("\nAnswer:") and one.passage.text not in one.prompt and (one.check, one.completion) == ("span", True)
    )
    assert tasks.exam_vault.open(one) in ("Anna", "Ulm") and not {"Anna", "Ulm"} & set(one.prompt.split())
    assert [q.answers for q in opened(tasks.practice_vault.open(tasks.practice[0]))] == [("Anna",), ("Ulm",)]
    assert "Anna" not in to_json([replace(t, passage=None, prompt="") for t in tasks.practice])


def test_a_title_has_one_side_however_it_is_written(tmp_path):
    rows = [*ROWS, {**row("BEES "), "context": "Quite another text on them, of other words."}]
    tasks = load(str(write(tmp_path / "p.json", rows)), seed=0)
    assert part_of("bees") == part_of("BEES ") == "exam" and sum(t.passage.title.lower() == "bees" for t in tasks.exam) == 4


def test_sizes_are_passages_to_practise_on_and_questions_to_measure_with(tmp_path, file):
    with pytest.warns(UserWarning, match="3 more exam questions are not used"):
        tasks = load(str(file), seed=0, n_practice=2, n_exam=3)
    assert len(tasks.practice) == 2 and len(tasks.exam) == 3 and len({t.passage for t in tasks.exam}) == 2


def test_a_practice_passage_that_stands_in_the_exam_under_another_title_is_dropped(tmp_path):
    copied = {**row("Kites"), "context": ROWS[5]["context"] + " And more."}
    assert ROWS[5]["title"] in TITLES["exam"] and part_of("Kites") == "practice"
    with pytest.warns(UserWarning, match="1 practice tasks near held-out ones were dropped"):
        tasks = load(str(write(tmp_path / "p.json", [*ROWS, copied])), seed=0)
    assert "Kites" not in {t.passage.title for t in tasks.practice}
    with pytest.raises(SealBroken, match="near-duplicate"):
        Fence(tasks.exam).check([Practice("p", f"Learn this:\n{ROWS[5]['context']}")])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"title": None}, "'title'"), ({"title": "  "}, "'title' is empty"), ({"context": ""}, "'context' is empty"),
        ({"context": 5}, "'context' is a number"), ({"questions": "Who?"}, "'questions' is a string"),
        ({"questions": ["Who?"]}, r"'questions[0]' is a string"), ({"questions": [{"question": "Who?"}]}, "has no answer"),
        ({"questions": [{"question": "", "answer": "x"}]}, "'questions[0].question' is empty"),
        ({"questions": [{"question": "Who?", "answers": []}]}, "has no answer"),
        ({"questions": [{"question": "Who?", "answers": ["x", " "]}]}, "'questions[0].answer' is empty"),
        ({"questions": [{"question": "Who? " * 300, "answer": "x"}]}, "has 1,499 characters"),
    ],
)  # fmt: skip
def test_bad_rows_are_named_with_line_and_field(tmp_path, change, reason):
    said = said_of(tmp_path, [ROWS[0], {**ROWS[1], **change}])
    assert said.startswith(f"{tmp_path / 'bad.jsonl'}:2: ") and reason in said


def test_too_few_titles_are_refused(tmp_path):
    assert "none fell to anchor and exam" in said_of(tmp_path, ROWS[:3])


def test_a_file_for_a_part_is_taken_whole_whatever_its_titles(tmp_path, file):
    mine = write(tmp_path / "exam.json", [row("Rain", 3), {**row("Snow"), "title": "Ships"}])
    with pytest.warns(UserWarning, match=r"1 titles \(first: 'ships'\) stand in practice and exam"):
        tasks = load(str(file), seed=0, exam=str(mine))
    assert [len(tasks.practice), len(tasks.anchor), len(tasks.exam)] == [6, 4, 5]  # what would have been exam is practice
    assert {t.passage.title for t in tasks.exam} == {"Rain", "Ships"} and tasks.exam_vault.open(tasks.exam[0])
    tasks = load(str(file), seed=0, practice=str(write(tmp_path / "p.json", [row("Rain")])), n_exam=3)
    assert [t.passage.title for t in tasks.practice] == ["Rain"] and len(tasks.exam) == 3
    unasked = write(tmp_path / "q.jsonl", [row("Rain"), {"title": "Snow", "context": "It falls."}])
    with pytest.raises(UserError, match=r"q.jsonl:2: 1 of 2 passages have no questions: every anchor passage needs some"):
        load(str(file), seed=0, anchor=str(unasked))
    with pytest.raises(UserError, match="no anchor task is left that is not a held-out task"):
        load(str(file), seed=0, exam=str(file))


def test_odd_rows_are_kept_and_said(tmp_path):
    odd = [*ROWS, {**ROWS[0], "questions": [{"question": "Is it wet?", "answers": ["Yes", "It is"]}]}]
    with pytest.warns(UserWarning) as said:
        rows = read_passages(write(tmp_path / "p.json", odd))
    texts = " ".join(str(w.message) for w in said)
    assert "1 questions have an answer that does not stand in their passage" in texts and "1 of 9 rows repeat" in texts
    assert len(rows) == 8 and rows[0].questions[-1] == Question("Is it wet?", ("Yes", "It is")) and len(rows[0].questions) == 3


def test_what_is_a_file_of_passages(tmp_path, file):
    assert are_passages(str(file)) and not are_passages(str(tmp_path / "none.jsonl"))
    assert are_passages(str(write(tmp_path / "e.jsonl", [{**ROWS[0], "prompt": "Read this:", "completions": []}])))
    assert not are_passages(str(write(tmp_path / "q.jsonl", [{"prompt": "1 + 1 =", "answer": "2", "context": "sums"}])))


def test_each_recipe_says_which_tasks_it_can_use(file):
    tasks = load(str(file), seed=0)
    with pytest.raises(UserError, match="take recipe seal"):
        TTRL().prepare(tasks)
    with pytest.raises(UserError, match="rest_em learns from tasks with answers"):
        SEAL().prepare(load("add2", seed=0))


def test_passages_without_questions_are_practice_for_own_questions_alone(tmp_path):
    tasks = load(str(write(tmp_path / "p.json", [*ROWS, {"title": "Iron", "context": "Iron rusts in the rain."}])), seed=0)
    assert "Iron" in {t.passage.title for t in tasks.practice}
    with pytest.raises(UserError, match="1 of 4 practice passages have no questions"):
        SEAL().prepare(tasks)
    assert len(SEAL(questions="own").prepare(tasks).practice) == 4


# edits


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        ("a\n\n b \nc", ["a", "b", "c"]),
        ("1. a\n2. b", ["1. a", "2. b"]),
        ("Here is a list:\n1. a\n2. b", ["1. a", "2. b"]),
        ("So:\n- a\n1. b", ["So:", "- a", "1. b"]),
        ("a\nb\n---\nc\n-----\n", ["a", "b", "c"]),
        ("one -- two --- three", ["one -- two --- three"]),
        ("Sure.\nQuestion 1: a?\nAnswer: b\n\nQuestion 2: c?\nAnswer: d", ["Question 1: a?\nAnswer: b", "Question 2: c?\nAnswer: d"]),
        (" a?\nAnswer: b\nQuestion 2: c?\nAnswer: d", ["a?\nAnswer: b", "Question 2: c?\nAnswer: d"]),
        ("**Question 1:** a?\nb", ["**Question 1:** a?\nb"]),
        ("", []), (" \n\n---\n", []), ("***\n...\n", []), ("é", ["é"]),
    ],
)  # fmt: skip
def test_an_edit_is_cut_where_several_things_were_written(edit, parts):
    assert documents(edit, ELBE) == [f"Rivers\n{part}" for part in parts]


@pytest.mark.parametrize("name", NAMES)
def test_templates_of_the_package_hold_title_and_passage_once(name):
    text = filled(template(name), ELBE)
    assert text.count(ELBE.text) == 1 == text.count("Rivers") and "{" not in text


def test_templates_of_the_user(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("{title}: {context} {other} {title}", encoding="utf-8")
    odd = Passage("T", "{title} {context}")
    assert filled(template(str(own)), odd) == "T: {title} {context} {other} T"
    own.write_text("no place for it", encoding="utf-8")
    for name, reason in ((str(own), "holds {context}"), ("rewirte", "one of implications"), (str(tmp_path), "one of")):
        with pytest.raises(UserError) as caught:
            template(name)
        assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_own_questions_are_kept_where_the_passage_answers_them():
    text = " Where does the Elbe rise?\nAnswer: Bohemia.\nQuestion 2: Where does it flow?\nAnswer: to Rome\n"
    text += "question: How long?\n\nAnswer: 5 days\n"
    found = own_questions(text, ELBE)
    assert found == [Question("Where does the Elbe rise?", ("Bohemia.",)), Question("How long?", ("5 days",))]
    assert own_questions("Question: In Bohemia?\nAnswer: Bohemia", ELBE) == [] == own_questions("", ELBE)
    assert len(own_questions(text * 3, ELBE)) == 2 and own_questions("Question: a?\nAnswer: the", ELBE) == []


def edit(text="a\nb", index=0, stop="eos"):
    return Attempt("t", index, (7,), (1, 2), text, stop, (0.0, 0.0), (0.0, 0.0), text[:80] or None)


def test_the_best_edit_is_kept_the_first_of_equals_and_none_that_was_cut():
    group = Group(Practice("t", ""), tuple(edit(index=i, stop="length" if i == 3 else "eos") for i in range(5)))
    scores = [0.2, 0.5, 0.5, 0.9, None]
    row = [Verdict(s, Source.GROUND, parts={"base": 0.4}) for s in scores]
    assert [a.index for a in best(group, row)] == [1] and [a.index for a in best(group, row, 0)] == [1, 2, 0]
    assert best(group, row, gain=0.2) == [] and [a.index for a in best(group, row, 0, gain=0.05)] == [1, 2]
    assert [a.index for a in best(group, [replace(v, parts={}, score=v.score and 0.0) for v in row])] == [0]


# the inner loop


def rounded(tiny, file, **given):
    recipe = SEAL(samples=2, edit_tokens=20, rank=4, study_epochs=2, **given)
    tasks = recipe.prepare(load(str(file), seed=0))
    return recipe, Round(1, 0, tiny(), tasks, tasks.practice_vault)


def groups_of(round, *texts):
    return [Group(t, tuple(edit(text, i) for i, text in enumerate(texts))) for t in round.tasks.practice]


def test_an_edits_reward_is_the_mean_over_paired_seeds_and_equal_edits_are_equal(tiny, file, monkeypatch):
    """By F1 in a vocabulary of characters anything may happen; what must hold is the bookkeeping."""
    recipe, round = rounded(tiny, file, seeds=3, reward="f1")
    groups = groups_of(round, "one line\nanother", "one line\nanother", "")
    rows = recipe.verify(round, groups)
    for row in rows:
        same, again, empty = row
        seeds = [same.parts[f"seed {i}"] for i in range(3)]
        assert same.score == pytest.approx(sum(seeds) / 3) and same.source is Source.GROUND and "seed 3" not in same.parts
        assert again.parts == same.parts and (empty.score, empty.why) == (0.0, "an empty edit")
        assert same.spent > again.spent > 0 == empty.spent  # the first bears what was asked for all
    assert recipe.verify(round, groups) == rows


def test_a_training_that_fails_is_that_edits_failure_alone(tiny, file, monkeypatch):
    import antaeus.engine.adapters as room

    recipe, round = rounded(tiny, file, seeds=2)
    train = room.Adapters.train

    def broken(self, plans):
        found = train(self, plans)
        self.courses = [replace(c, grad_norms=(math.inf,)) if i == 1 else c for i, c in enumerate(found)]
        return found

    monkeypatch.setattr(room.Adapters, "train", broken)
    (first, other), *rest = recipe.verify(round, groups_of(round, "a", "b"))
    assert (
        first.score is None
        and "not finite" in first.why
        and other.score is not None
        and all(v.score is not None for r in rest for v in r)
    )
    monkeypatch.setattr(room.Adapters, "train", train)
    long, fine = recipe.verify(round, groups_of(round, "x" * 600, "b"))[0]
    assert long.score is None and "exceeds the model's context" in long.why and fine.score is not None


def test_as_many_seeds_as_the_noise_asks_for_and_the_budget_pays(tiny, file, monkeypatch):
    from antaeus.recipes import inner

    recipe, round = rounded(tiny, file, seeds=0)
    asked = []
    monkeypatch.setattr(inner, "seeds_wanted", lambda of, affordable: (asked.append(affordable), 4)[1])
    found = recipe.verify(round, groups_of(round, "a", "b"))
    assert all([n for n in v.parts if n.startswith("seed ")] == [f"seed {i}" for i in range(4)] for row in found for v in row)
    each = sum(v.spent for row in found for v in row)
    replace(recipe, seed_tokens=each).verify(round, groups_of(round, "a", "b"))
    assert asked[0] == 10**6 and 3 <= asked[1] <= 5


def test_the_models_own_questions_and_judgement_are_marked_as_its_own(tiny, file, monkeypatch):
    recipe, round = rounded(tiny, file, seeds=1, questions="own")
    groups = groups_of(round, "a", "b")
    assert {(v.score, v.source) for row in recipe.verify(round, groups) for v in row} == {(None, Source.SELF)}  # it writes none
    from antaeus.recipes import inner

    monkeypatch.setattr(inner, "own_questions", lambda text, passage: [Question("Who?", ("Anna",))])
    assert recipe.sources == {Source.SELF} and all(v.score is not None for row in recipe.verify(round, groups) for v in row)
    judging = replace(recipe, questions="given", reward="judge")
    monkeypatch.setattr(inner, "yes_or_no", lambda text: Verdict(1.0, Source.SELF))
    monkeypatch.setattr("antaeus.recipes.marking.extract", lambda text, how: "x")
    rows = judging.verify(round, groups)
    assert {(v.score, v.source, v.parts["em"]) for row in rows for v in row} == {(1.0, Source.SELF, 0.0)}
    monkeypatch.setattr(inner, "yes_or_no", lambda text: Verdict(None, Source.SELF))
    assert {v.score for row in judging.verify(round, groups) for v in row} == {None}


def test_what_is_studied_is_known_and_nothing_stays(tiny, file):
    """Two questions with their answers until they are known by heart; the policy's own answers are the same to the bit afterwards."""
    engine, how = tiny(), Sampling(1, 12, 0.0, stop=("\n",))
    tasks = load(str(file), seed=0)
    asked, right = tasks.exam[:2], [tasks.exam_vault.open(t) for t in tasks.exam[:2]]
    plain = [(t.id, t.shots + t.prompt) for t in asked]
    before = engine.sample(plain, how, seed="s")
    texts = tuple(f"{t.shots}{t.prompt} {answer}" for t, answer in zip(asked, right, strict=True))
    hard = Tuning(1e-2, 16, 32, epochs=40, batch_size=1, loss="all", warmup=0.0)
    done, untaught = study(engine, [Study(texts, asked, hard), Study((), asked, hard)], how, seed="s")
    assert [row[0].text.strip() for row in done.answers] == right and not done.failed and done.spent > 40 * sum(map(len, texts))
    assert [row[0].ids for row in untaught.answers] == [row[0].ids for row in before]
    assert engine.sample(plain, how, seed="s") == before


def test_exam_answers_bear_the_cost_of_edit_and_adapter(tiny, file):
    engine, tasks = tiny(), load(str(file), seed=0)
    recipe, how = SEAL(edit_tokens=9, rank=2, study_epochs=3), Sampling(1, 4, 0.0)
    groups = recipe.answer(engine, [*tasks.exam, Practice("sum", "1 + 1 =", completion=True)], how, seed="s", read="line")
    assert [g.task for g in groups[:-1]] == list(tasks.exam) and len(groups[-1].attempts[0].ids) == groups[-1].attempts[0].cost
    own = sum(len(engine.encode("", p.whole)[1]) for p in by_passage(tasks.exam))
    assert sum(a.cost for g in groups for a in g.attempts) > 3 * own


# the whole


def test_bad_settings_are_refused_before_anything_runs(tiny, file, tmp_path):
    tasks = SEAL().prepare(load(str(file), seed=0))
    with pytest.raises(
        UserError, match=r"passage '(Rivers|Bridges|Ships)'.*edit_tokens=512 exceed the model's context of 512; split"
    ):
        SEAL().refuse(tasks, tiny())
    with pytest.raises(UserError, match="edit_tokens=200 exceed"):  # not in the edit's prompt, but in that of the baseline
        SEAL(edit_tokens=200).refuse(tasks, tiny())
    with pytest.raises(UserError, match="no linear layer is called"):
        type("Other", (SEAL,), {"targets": ("attention",)})(edit_tokens=20).refuse(tasks, tiny())
    for edits, why in (("They say.", "'completions' is a string, not a list"), ([True], r"'completions\[0\]' is a boolean")):
        with pytest.raises(UserError, match=why):
            given_edits(str(write(tmp_path / "odd.json", [{**ROWS[0], "completions": edits}])))
    with pytest.raises(UserError, match="no row has 'completions'"):
        SEAL(edit_tokens=20, edits=str(file)).refuse(tasks, tiny())
    theirs = write(tmp_path / "e.json", [{**ROWS[0], "completions": ["x"]}])
    with pytest.raises(UserError, match="no edit of any passage in the exam"):
        SEAL(edit_tokens=20, edits=str(theirs)).refuse(tasks, tiny())


@pytest.fixture
def cli(capsys, monkeypatch):
    return lambda *args: run_cli(capsys, monkeypatch, *args)


@pytest.mark.parametrize("lora", [0, 4])
def test_two_rounds_through_the_command_line(cli, tmp_path, file, lora):
    given = write(tmp_path / "edits.json", [{**r, "completions": ["They are known.", "unused"]} for r in ROWS])
    code, out, err = cli(
        "run", "seal", "rounds=2", "prompts=2", "samples=2", "seeds=2", "edit_tokens=24", "study_epochs=1", "rank=2",
        "reward=f1", f"edits={given}", "on_alarm=note", f"lora={lora}", "lr=1e-3", "--model", "tiny", "--tasks", file,
        "--run-dir", tmp_path / "r", "--json",
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert summary["rounds"] == 2 and summary["exam"]["n"] == 6 and summary["source"] == "ground"
    assert set(summary["baselines"]) == {"base", "passage only", "untrained rewrite", "edits given"}
    assert all(told["n"] == 6 and told["ci"] for told in summary["baselines"].values())
    assert summary["noise"]["run"]["seeds"] == 2 and set(summary["noise"]["rounds"]) <= {"1", "2"}
    logged = lines(tmp_path / "r" / "attempts.jsonl")
    practice = [a for line in logged if line["set"] == "practice" for a in line["attempts"]]
    assert summary["tokens_sampled"] == sum(a["tokens"] for a in practice)
    assert {line["version"] for line in logged if line["set"] == "baseline"} == set(summary["baselines"])
    sat = {v: [a for x in logged if x["set"] == "exam" and x["version"] == v for a in x["attempts"]] for v in ("base", "r002")}
    assert all(len(sat[v]) in (0, 6) and all(a["tokens"] > 40 for a in sat[v]) for v in sat) and sat["base"]  # both in its way
    kept = [a for a in practice if a["verdict"]["why"].startswith("kept")]
    assert (
        0 <= summary["tokens_trained"] - 2 * sum(len(a["text"]) for a in kept) <= 18
    )  # two passes; a token a character, but for those without one
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Passages</h2>" in page and "untrained rewrite" in page and "by seeds that had no part in the choice" in page
    code, out, err = cli("audit", tmp_path / "r")
    assert code == 0 or "fatal" not in out, out
