"""The error budget: its rule, what it refuses, and that nothing (kills, clocks, rivals, damage) frees any of it."""

import json
import multiprocessing
import os
import signal
import time
from datetime import datetime
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antaeus import api
from antaeus.errors import UserError
from antaeus.guard import ledger
from antaeus.guard.lineage import Budget, Lineage, Proposal
from antaeus.types import Decision

SEALS = {"exam": "e1", "anchor": "a1", "grader": "g1"}


def proposal(candidate="c1", incumbent="base", **seals):
    return Proposal(candidate, incumbent, {**SEALS, **seals})


def decision(action="undecided", version="c1", alpha=1e-9):
    return Decision(action, version, "because", {"alpha": alpha, "p_gain": 0.5})


def judge(lineage, new, action="undecided"):
    level = lineage.open(new)
    return lineage.enter(new, decision(action, new.candidate, level))


# --- the rule


@cache
def worst(budget: Budget) -> float:
    """The most that the levels of null nodes without false promotion above them can sum to, over all trees of proposals."""
    if not budget.proposals:
        return 0.0
    refused, promoted = worst(budget.spent(False)), worst(budget.spent(True))
    return max(budget.level + refused, promoted + refused)


@pytest.mark.parametrize("proposals", [1, 2, 3, 7, 13])
def test_the_levels_of_every_tree_of_proposals_sum_to_alpha(proposals):
    assert worst(Budget(0.05, proposals)) == pytest.approx(0.05)


def test_each_proposal_has_an_equal_share_until_one_is_promoted(tmp_path):
    lineage = Lineage(tmp_path, alpha=0.05, proposals=50)
    assert lineage.allowance == pytest.approx(0.001)
    for i in range(9):
        judge(lineage, proposal(f"c{i}"), "reject" if i % 2 else "undecided")
        assert lineage.allowance == pytest.approx(0.001)
    judge(lineage, proposal("better"), "promote")
    assert lineage.incumbent == "better"
    assert lineage.allowance == pytest.approx(0.001 / 40)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["promote", "reject", "undecided", "killed"]), max_size=8))
def test_the_ledger_keeps_the_rule_and_never_gives_back(tmp_path_factory, actions):
    lineage, budget, incumbent = Lineage(tmp_path_factory.mktemp("l"), 0.1, 8), Budget(0.1, 8), "base"
    for i, action in enumerate(actions):
        assert lineage.allowance == pytest.approx(budget.level)
        new = proposal(f"c{i}", incumbent)
        level = lineage.open(new)
        assert level == pytest.approx(budget.level)
        if action != "killed":
            lineage.enter(new, decision(action, new.candidate, level))
        incumbent = new.candidate if action == "promote" else incumbent
        budget = budget.spent(action == "promote")
        lineage = Lineage(lineage.path.parent, 0.1, 8)
        assert lineage.incumbent == incumbent
    assert lineage.allowance == pytest.approx(budget.level)


# --- refusals


def test_a_spent_budget_refuses_until_a_new_exam_and_then_for_good(tmp_path):
    lineage = Lineage(tmp_path, alpha=0.05, proposals=4, exams=2)
    for i in range(2):
        assert lineage.allowance == pytest.approx(0.0125)
        judge(lineage, proposal(f"c{i}"))
    assert "budget of this exam is spent; go on with new exam tasks (1 more" in lineage.refusal(proposal("c9"))
    assert lineage.allowance == 0
    with pytest.raises(UserError, match="spent"):
        lineage.open(proposal("c9"))
    assert judge(lineage, proposal("c0", exam="e2", grader="g2"), "promote").action == "promote"
    assert lineage.allowance == pytest.approx(0.0125)
    judge(lineage, proposal("c5", "c0", exam="e2", grader="g2"))
    assert "spent; begin a new lineage" in lineage.refusal(proposal("c6", "c0", exam="e2", grader="g2"))
    for old_or_one_too_many in ("e1", "e3"):
        assert "changed since" in lineage.refusal(proposal("c6", "c0", exam=old_or_one_too_many, grader="g2"))


def test_what_an_exam_does_not_use_is_lost(tmp_path):
    lineage = Lineage(tmp_path, alpha=0.05, proposals=4, exams=2)
    judge(lineage, proposal())
    assert lineage.open(proposal("c2", exam="e2")) == pytest.approx(0.0125)


def test_the_same_pair_is_judged_once(tmp_path):
    lineage = Lineage(tmp_path)
    judge(lineage, proposal())
    assert "has sat this exam before" in lineage.refusal(proposal())
    assert lineage.refusal(proposal("c2")) is None


REFUSED = {
    "grader": (proposal("c2", grader="g2"), "changed since the exam was opened: grader"),
    "anchor": (proposal("c2", anchor="a2"), "changed since the exam was opened: anchor"),
    "exam": (proposal("c2", exam="e2"), "changed since the exam was opened: exam"),
    "a seal more": (proposal("c2", sandbox="s"), "changed since the exam was opened: sandbox"),
    "a seal less": (Proposal("c2", "base", {"exam": "e1", "grader": "g1"}), "changed since the exam was opened: anchor"),
    "baseline": (proposal("c2", "other"), "stands at base"),
    "no baseline": (proposal("c2", None), "no baseline"),
    "itself": (proposal("base"), "nothing to judge"),
    "no fingerprint": (proposal(""), "needs the fingerprints"),
    "no exam": (Proposal("c2", "base", {}), "needs the fingerprints"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_changed_is_refused(tmp_path, name):
    new, says = REFUSED[name]
    lineage = Lineage(tmp_path)
    judge(lineage, proposal())
    before = lineage.path.read_bytes()
    assert says in lineage.refusal(new)
    with pytest.raises(UserError, match=says):
        lineage.open(new)
    assert lineage.path.read_bytes() == before


def test_another_declaration_is_refused(tmp_path):
    judge(Lineage(tmp_path, alpha=0.05), proposal())
    for other in ({"alpha": 0.5}, {"proposals": 9}, {"exams": 3}):
        with pytest.raises(UserError, match="declared with"):
            Lineage(tmp_path, **other)
    for bad in ({"alpha": 0.0}, {"alpha": 1.0}, {"alpha": float("nan")}, {"proposals": 0}, {"exams": 51}):
        with pytest.raises(UserError, match="a lineage needs"):
            Lineage(tmp_path / "new", **bad)


# --- promotions that may not stand


def test_a_promotion_judged_too_leniently_does_not_stand(tmp_path):
    lineage = Lineage(tmp_path)
    for i, evidence in enumerate(({"alpha": 0.05}, {"alpha": 0.0011}, {})):
        new = proposal(f"c{i}")
        lineage.open(new)
        stands = lineage.enter(new, Decision("promote", new.candidate, "p = 0.02", evidence))
        assert (stands.action, stands.version) == ("undecided", "base") and "judged at alpha" in stands.why
    assert lineage.incumbent == "base"
    assert [e["decision"]["action"] for e in lineage.entries if e["kind"] == "verdict"] == ["undecided"] * 3


def test_of_two_judged_at_once_only_one_is_promoted(tmp_path):
    one, two = Lineage(tmp_path), Lineage(tmp_path)
    a, b = proposal("a"), proposal("b")
    level_a, level_b = one.open(a), two.open(b)
    assert two.enter(b, decision("promote", "b", level_b)).action == "promote"
    late = one.enter(a, decision("promote", "a", level_a))
    assert late.action == "undecided" and "moved on to b" in late.why
    assert one.incumbent == "b"


def test_a_decision_needs_an_opening(tmp_path):
    lineage = Lineage(tmp_path)
    with pytest.raises(UserError, match="was not opened"):
        lineage.enter(proposal(), decision())
    judge(lineage, proposal())
    with pytest.raises(UserError, match="was not opened"):
        lineage.enter(proposal(), decision("promote"))


def test_every_decision_is_recorded(tmp_path):
    lineage = Lineage(tmp_path)
    for i, action in enumerate(("undecided", "reject", "promote")):
        judge(lineage, proposal(f"c{i}"), action)
    kinds = [e["kind"] for e in lineage.entries]
    assert kinds == ["lineage", "exam", "opened", "verdict", "opened", "verdict", "opened", "verdict"]
    assert [e["decision"]["action"] for e in lineage.entries[3::2]] == ["undecided", "reject", "promote"]
    assert lineage.entries[3]["decision"]["evidence"]["p_gain"] == 0.5


# --- kills, clocks, damage


def test_killed_at_any_byte_of_a_line_loses_that_line_alone(tmp_path):
    lineage = Lineage(tmp_path)
    judge(lineage, proposal("c0"))
    whole = lineage.path.read_bytes()
    lineage.open(proposal("c1"))
    longer = lineage.path.read_bytes()
    for cut in {*range(len(whole), len(longer), 17), len(longer) - 1}:
        lineage.path.write_bytes(longer[:cut])
        assert lineage.allowance == pytest.approx(0.001) and len(lineage.entries) == 4
        level = lineage.open(proposal("c1"))
        assert level == pytest.approx(0.001) and len(lineage.entries) == 5
        assert json.loads(lineage.path.read_text().splitlines()[-1])["candidate"] == "c1"


def test_killed_while_judging_spends_the_proposal_but_may_be_tried_again(tmp_path):
    Lineage(tmp_path, proposals=3).open(proposal())
    lineage = Lineage(tmp_path, proposals=3)
    assert lineage.refusal(proposal()) is None
    judge(lineage, proposal())
    judge(lineage, proposal("c2"))
    assert "spent" in lineage.refusal(proposal("c3"))


def _open_for_ever(folder):
    lineage = Lineage(folder, proposals=10_000)
    for i in range(10_000):
        lineage.open(proposal(f"c{os.getpid()}-{i}"))


def test_processes_take_turns_and_survive_kill_9(tmp_path):
    """Two processes write as fast as they can and are killed: the ledger stays whole and numbered without gaps."""

    def written(rival):
        entries = ledger.read(tmp_path / "ledger.jsonl")
        return sum(e["kind"] == "opened" and e["candidate"].startswith(f"c{rival.pid}-") for e in entries)

    context = multiprocessing.get_context("fork")
    rivals = [context.Process(target=_open_for_ever, args=(tmp_path,)) for _ in range(2)]
    for rival in rivals:
        rival.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all(written(rival) > 15 for rival in rivals):
        time.sleep(0.01)
    for rival in rivals:
        os.kill(rival.pid, signal.SIGKILL)
        rival.join()
    lineage = Lineage(tmp_path, proposals=10_000)
    lineage.open(proposal("after"))
    opened = [e for e in lineage.entries if e["kind"] == "opened"]
    assert [e["number"] for e in opened] == list(range(1, len(opened) + 1)) and len(opened) > 30
    assert len({e["candidate"].split("-")[0] for e in opened}) == 3


def test_clocks_free_nothing(tmp_path, monkeypatch):
    """Entries dated in the future or the past count all the same."""

    class Clock:
        year = 2020

        @classmethod
        def now(cls, zone):
            cls.year += 40 if cls.year < 2100 else -120
            return datetime(cls.year, 1, 1, tzinfo=zone)

    monkeypatch.setattr(ledger, "datetime", Clock)
    lineage = Lineage(tmp_path, proposals=4)
    for i in range(4):
        judge(lineage, proposal(f"c{i}"))
    assert len({e["time"][:4] for e in lineage.entries}) > 2
    assert "spent" in lineage.refusal(proposal("c9"))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_damaged_ledger_refuses_and_says_how_to_mend(tmp_path_factory, data):
    lineage = Lineage(tmp_path_factory.mktemp("l"))
    for i in range(3):
        judge(lineage, proposal(f"c{i}"))
    rows = lineage.path.read_bytes().splitlines(keepends=True)
    i = data.draw(st.integers(0, len(rows) - 2))
    what = data.draw(st.sampled_from(["drop", "swap", "edit", "junk"]))
    if what == "drop":
        del rows[i]
    elif what == "swap":
        rows[i], rows[i + 1] = rows[i + 1], rows[i]
    elif what == "edit":
        rows[i] = rows[i].replace(b"20", b"19", 1)
    else:
        rows[i] = data.draw(st.sampled_from([b"\n", b"null\n", b"[1]\n", b"{}\n", b"\xff\xfe\n", b"{\n"]))
    lineage.path.write_bytes(b"".join(rows))
    assert "damaged" in lineage.refusal(proposal("c9")) and "restore the file" in lineage.refusal(proposal("c9"))
    for act in (lambda: lineage.open(proposal("c9")), lambda: lineage.allowance, lambda: Lineage(lineage.path.parent)):
        with pytest.raises(UserError, match="damaged"):
            act()


def test_a_ledger_that_cannot_be_written_opens_no_exam(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be"):
        Lineage(tmp_path / "file").open(proposal())


def test_runs_go_on_with_a_fresh_exam_where_one_more_was_declared(tmp_path):
    small = {
        "model": "tiny",
        "tasks": "add2",
        "rounds": 1,
        "prompts": 4,
        "samples": 4,
        "n_anchor": 8,
        "agreement": 0.0,
        "lr": 1e-2,
    }
    budget = {"lineage": str(tmp_path / "lineage"), "proposals": 2, "exams": 2}
    for exam, name in ((12, "first"), (16, "second")):
        api.run("ttrl", run_dir=tmp_path / name, n_exam=exam, seed=exam, **small, **budget)
    opened = [e["kind"] for e in ledger.read(tmp_path / "lineage/ledger.jsonl")]
    assert opened == ["lineage", "exam", "opened", "verdict", "exam", "opened", "verdict"]
    with pytest.raises(UserError, match="changed since the exam was opened: exam; .*begin a new lineage"):
        api.run("ttrl", run_dir=tmp_path / "third", n_exam=20, **small, **budget)
