"""Paired tests, e-processes and the gate's three outcomes: each promise with a case that fails if it is broken."""

import itertools
import json
import math
import re
from typing import get_args, get_type_hints

import numpy as np
import pytest
from helpers import group, verdicts
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from antaeus import stats
from antaeus.guard import gate
from antaeus.guard.evidence import unfit
from antaeus.reporting import page, wording
from antaeus.types import Decision, Practice, SealBroken, Source, Verdict, to_json


def agresti_min(wins, losses, n):
    """The interval of a difference of paired shares by the formula of Agresti and Min (2005), half a count added to each cell."""
    middle = (wins - losses) / (n + 2)
    spread = 1.959964 * math.sqrt(((wins + losses + 1) - (wins - losses) ** 2 / (n + 2)) / (n + 2) ** 2)
    return max(-1.0, middle - spread), min(1.0, middle + spread)


# --- sign-flip test


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_the_sign_flip_test_of_single_tries_is_mcnemars(wins, losses, same):
    d = [1.0] * wins + [-1.0] * losses + [0.0] * same
    for side in ("greater", "less", "two-sided"):
        expected = binomtest(wins, wins + losses, alternative=side).pvalue if wins + losses else 1.0
        assert stats.sign_flip(d, side) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.sampled_from([3, 4, 6]))
def test_the_sign_flip_test_is_the_share_of_all_sign_changes(steps, k):
    sums = [sum(s * abs(x) for s, x in zip(signs, steps, strict=True)) for signs in itertools.product((1, -1), repeat=len(steps))]
    d = [x / k / 4 for x in steps]
    assert stats.sign_flip(d) == pytest.approx(sum(s >= sum(steps) for s in sums) / len(sums))
    assert stats.sign_flip(d, "less") == pytest.approx(sum(s <= sum(steps) for s in sums) / len(sums))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_differences_off_the_grid_never_get_too_small_a_p(d):
    sums = [math.fsum(s * abs(x) for s, x in zip(signs, d, strict=True)) for signs in itertools.product((1, -1), repeat=len(d))]
    exact = sum(s >= math.fsum(d) - 1e-12 for s in sums) / len(sums)
    p = stats.sign_flip(d)
    assert p >= exact - 1e-12
    assert p <= sum(s >= math.fsum(d) - len(d) / stats.FINEST - 1e-3 for s in sums) / len(sums) + 1e-12


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.75, 1.0]), max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_tasks_does_not_change_the_exact_test(d, random):
    shuffled = random.sample(d, len(d))
    assert stats.sign_flip(shuffled) == pytest.approx(stats.sign_flip(d), rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
def test_the_interval_of_differences_is_that_of_the_counts(wins, losses, same):
    d = [1.0] * wins + [-1.0] * losses + [0.0] * same
    assert stats.difference_interval(d) == pytest.approx(agresti_min(wins, losses, len(d)) if d else (-1, 1), abs=1e-6)


def test_the_interval_of_clusters_covers():
    rng = np.random.default_rng(0)
    chance = rng.beta(1, 1, (2000, 60))
    d = (rng.binomial(4, np.clip(chance + 0.05, 0, 1)) - rng.binomial(4, chance)) / 4
    gain = (np.clip(chance + 0.05, 0, 1) - chance).mean()
    covered = np.mean([low <= gain <= high for low, high in map(stats.difference_interval, d.tolist())])
    assert 0.93 < covered < 0.985


@pytest.mark.parametrize(("gain", "changed", "alpha"), [(0.05, 0.2, 0.025), (0.1, 0.15, 0.001), (0.03, 0.05, 0.025)])
def test_tasks_needed_gives_the_power_it_says(gain, changed, alpha):
    n = stats.tasks_needed(gain, changed, alpha, power=0.8)
    rng = np.random.default_rng(1)
    moved = rng.binomial(n, changed, 4000)
    wins = rng.binomial(moved, (1 + gain / changed) / 2)
    power = np.mean(
        [stats.sign_flip([1.0] * w + [-1.0] * (m - w)) <= alpha for w, m in zip(wins[:500], moved[:500], strict=True)]
    )
    assert 0.72 < power < 0.9
    assert stats.visible_gain(n, changed, alpha) == pytest.approx(gain, rel=0.02)


# --- e-process


def test_the_e_process_by_hand():
    d = [1.0, -1.0, 0.5]
    wealth = [np.mean([math.prod(1 + bet * x for x in d[: i + 1]) for bet in stats.BETS]) for i in range(3)]
    assert stats.e_process(d) == pytest.approx(wealth)
    assert stats.e_value(d) == pytest.approx(wealth[-1]) and stats.e_value([]) == 1.0
    assert ((stats.BETS > 0) & (stats.BETS < 1)).all()


def test_the_e_process_never_overflows_and_refuses_what_it_cannot_bet_on():
    assert 1e299 < stats.e_value([1.0] * 5000) < math.inf
    assert stats.e_value([-1.0] * 5000) >= 0
    for bad in (1.5, math.nan):
        with pytest.raises(ValueError, match="paired difference"):
            stats.e_process([0.0, bad])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_one_step_of_the_e_process_is_fair(weights):
    """Any distribution with mean zero: the expected wealth after one more task is the wealth before."""
    values = np.linspace(-1, 1, len(weights)) if len(weights) > 1 else np.zeros(1)
    p = np.array(weights) / sum(weights)
    values = (values - p @ values) / 2
    assert p @ [stats.e_value([0.3, v]) for v in values] == pytest.approx(stats.e_value([0.3]))


@settings(deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), max_size=7))
def test_the_e_process_is_a_fair_game(done):
    """Given any past, a coin's next step leaves the expected wealth as it is; losses first or last, the order is all the same."""
    now = stats.e_value(done)
    assert (stats.e_value([*done, 1.0]) + stats.e_value([*done, -1.0])) / 2 == pytest.approx(now)
    assert stats.e_value([*done, 0.0]) == pytest.approx(now) == stats.e_value(done[::-1])


@pytest.mark.parametrize("kind", ["even", "many small gains, few great losses"])
def test_looking_after_every_task_errs_no_more_than_alpha(kind):
    """Ville's inequality at alpha 0.1, 4,000 streams of 300 tasks. The plain test, repeated, errs far more on the same streams."""
    rng, alpha = np.random.default_rng(2), 0.1
    values, chances = ([1, -1, 0], [0.1, 0.1, 0.8]) if kind == "even" else ([0.25, -1, 0], [0.16, 0.04, 0.8])
    d = rng.choice(values, (4000, 300), p=chances)
    ever = (stats.log_wealth(d).max(-1) >= math.log(1 / alpha)).mean()
    assert 0.01 < ever <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 4000)
    z = d.cumsum(-1)[:, 20:] / np.sqrt(np.maximum((d * d).cumsum(-1)[:, 20:], 0.06))
    assert (z >= 1.2816).any(-1).mean() > 2 * alpha


# --- evidence


def pair(wins=0, losses=0, right=30, wrong=30, source=Source.GROUND):
    """Verdicts before and after."""
    before = [0.0] * wins + [1.0] * losses + [1.0] * right + [0.0] * wrong
    after = [1.0] * wins + [0.0] * losses + [1.0] * right + [0.0] * wrong
    return verdicts(*before, source=source), verdicts(*after, source=source)


def seen(*args, **kw):
    return gate.compare(*pair(*args, **kw))


def test_only_ground_truth_may_promote():
    for source in (Source.SELF, Source.PEER):
        with pytest.raises(SealBroken, match="only ground truth"):
            gate.compare(verdicts(0.0), verdicts(1.0, source=source))
        with pytest.raises(SealBroken, match="only ground truth"):
            gate.compare([verdicts(0.0, 0.0)], [[*verdicts(1.0), *verdicts(1.0, source=source)]])
        with pytest.raises(SealBroken, match="only ground truth"):
            gate.tally(verdicts(1.0, source=source))
        with pytest.raises(SealBroken, match="only ground truth"):
            gate.judge_stream(zip(*pair(30, source=source), strict=True), "v", "b")


def test_a_failed_grading_is_no_zero():
    found = gate.compare(verdicts(0.0, None, 1.0, 0.0), verdicts(1.0, 1.0, None, 0.0))
    assert (found["n"], found["infra"], found["wins"], found["losses"]) == (2, 2, 1, 0)
    assert (found["infra_before"], found["infra_after"]) == (1, 1)
    assert gate.tally(verdicts(1.0, None))["accuracy"] == 1.0


def test_single_tries_are_mcnemars_test():
    found = seen(12, 5)
    assert found["p_value"] == pytest.approx(binomtest(12, 17).pvalue) and found["tries"] == 1
    assert found["p_gain"] == pytest.approx(binomtest(12, 17, alternative="greater").pvalue)
    assert found["discordance"] == pytest.approx(17 / 77)
    assert found["ci"] == pytest.approx(agresti_min(12, 5, 77), abs=1e-6)
    assert json.loads(to_json(found))["e_value"] == pytest.approx(stats.e_value([1.0] * 12 + [-1.0] * 5 + [0.0] * 60))


def test_tries_of_one_task_count_as_one_task():
    """Four copies of each verdict are four times the data to a test that takes them for tasks of their own, and none more to ours."""
    before, after = pair(12, 2)
    once, fourfold = gate.compare(before, after), gate.compare([[v] * 4 for v in before], [[v] * 4 for v in after])
    for key in ("n", "before", "after", "ci", "wins", "losses", "e_value", "discordance"):
        assert fourfold[key] == pytest.approx(once[key])
    assert fourfold["tries"] == 4 and fourfold["p_gain"] >= once["p_gain"]
    mixed = gate.compare([verdicts(0.0, None, 1.0, 0.0)], [verdicts(1.0, 1.0, 1.0, 0.0)])
    assert mixed["after"] - mixed["before"] == pytest.approx(3 / 4 - 1 / 3) and mixed["infra_before"] == 1


def test_many_small_gains_do_not_hide_few_great_losses():
    """Mean zero, skewed: the sign-flip test alone passes this draw at 0.001, though nothing was gained on average."""
    few = [verdicts(1.0, 0.0, 0.0, 0.0)] * 98 + [verdicts(1.0, 1.0, 1.0, 1.0)] * 10 + [verdicts(0.0)] * 292
    more = [verdicts(1.0, 1.0, 0.0, 0.0)] * 98 + [verdicts(0.0, 0.0, 0.0, 0.0)] * 10 + [verdicts(0.0)] * 292
    found = gate.compare(few, more)
    d = [0.25] * 98 + [-1.0] * 10 + [0.0] * 292
    assert stats.sign_flip(d) < 0.001 < found["p_gain"] == pytest.approx(1 / found["e_value"])


# --- the three outcomes


def test_a_significant_gain_is_promoted_and_a_significant_loss_rejected():
    won, lost = gate.decide(seen(20, 2), "r009", "base"), gate.decide(seen(2, 20), "r009", "base")
    assert (won.action, won.version) == ("promote", "r009")
    assert (lost.action, lost.version) == ("reject", "base") and "worse" in lost.why
    assert won.evidence["alpha"] == gate.ALPHA


@pytest.mark.parametrize(("wins", "losses"), [(5, 3), (0, 0), (9, 2)])
def test_what_is_not_significant_is_undecided_and_says_what_it_takes(wins, losses):
    found = gate.decide(seen(wins, losses), "r009", "base")
    assert (found.action, found.version) == ("undecided", "base")
    assert f"{60 + wins + losses} tasks cannot be relied on to show a gain below" in found.why


def test_the_tasks_needed_are_named():
    found = gate.decide(seen(30, 22, right=150, wrong=198), "r009", "base")
    n = stats.tasks_needed(8 / 400, 52 / 400, gate.ALPHA)
    assert f"about {n:,} are needed for one of 2.0" in found.why and n > 2000


def test_alpha_is_the_callers():
    assert gate.decide(seen(15, 3), "v", "b", alpha=0.01).action == "promote"
    assert gate.decide(seen(15, 3), "v", "b", alpha=0.001).action == "undecided"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60), st.integers(1, 3))
def test_identical_verdicts_never_promote(scores, tries):
    same = [verdicts(*[s] * tries) for s in scores]
    assert gate.decide(gate.compare(same, same), "v", "b", alpha=0.5).action == "undecided"
    assert gate.judge_stream(zip(same, same, strict=True), "v", "b", alpha=0.5).action == "undecided"


BAD = {
    "no baseline": (lambda: gate.compare(None, verdicts(*[1.0] * 50)), "nothing to compare with"),
    "an empty baseline": (lambda: gate.compare([], verdicts(*[1.0] * 50)), "nothing to compare with"),
    "infra": (lambda: gate.compare(verdicts(*[0.0] * 100), verdicts(*[1.0] * 80, *[None] * 20)), "20 of 100"),
    "infra on either side": (
        lambda: gate.compare(verdicts(*[None] * 8, *[0.0] * 92), verdicts(*[1.0] * 92, *[None] * 8)),
        "16 of 100",
    ),
    "infra in tries": (
        lambda: gate.compare([verdicts(0.0, None)] * 50, [verdicts(1.0, None)] * 50),
        r"50 tries before, 50 after",
    ),
    "unequal failures": (
        lambda: gate.compare(verdicts(*[0.0] * 200), verdicts(*[1.0] * 190, *[None] * 10)),
        "failed 0 times before and 10 after",
    ),
    "NaN": (lambda: gate.compare(verdicts(*[0.0] * 50), verdicts(*[1.0] * 49, math.nan)), "1 scores are not numbers"),
    "a score of 2": (lambda: gate.compare(verdicts(*[0.0] * 50), verdicts(*[1.0] * 49, 2.0)), "1 scores are not numbers"),
    "flaky": (lambda: gate.compare(*pair(40), flaky=["t1", "t7"]), "different scores on 2 tasks"),
    "too few": (lambda: gate.compare(verdicts(*[0.0] * 5), verdicts(*[1.0] * 5)), "5 tasks can show no gain whatever"),
    "all right": (lambda: seen(right=50, wrong=0), "answers all 50 tasks"),
    "all wrong": (lambda: seen(right=0, wrong=50), "neither version answers any"),
}


@pytest.mark.parametrize("name", BAD)
def test_evidence_that_can_decide_nothing_decides_nothing(name):
    make, says = BAD[name]
    found = gate.decide(make(), "v", "b", alpha=0.01)
    assert found.action == "undecided" and found.version == "b"
    assert re.search(says, found.why), found.why
    assert json.loads(to_json(found))


def test_a_few_failures_alike_on_both_sides_are_no_hindrance():
    before, after = pair(20, 2, right=100, wrong=100)
    assert gate.decide(gate.compare([*before, *verdicts(None)], [*after, *verdicts(None)]), "v", "b").action == "promote"


def test_other_abilities_are_a_vector():
    """A great gain on the exam buys no fall elsewhere: demonstrated is rejected, possible is undecided, shown small is promoted."""
    won = seen(60, 0)
    steady, unsure, fallen = seen(5, 5, right=400), seen(1, 2, right=20, wrong=20), seen(0, 30, right=100)
    assert gate.decide(won, "v", "b", others={"code": steady}).action == "promote"
    assert gate.decide(won, "v", "b", others={"code": steady, "sql": unsure}).action == "undecided"
    rejected = gate.decide(won, "v", "b", others={"code": steady, "sql": unsure, "chess": fallen})
    assert rejected.action == "reject" and "chess" in rejected.why and rejected.version == "b"
    assert gate.decide(won, "v", "b", others={"sql": unsure}, margin=0.3).action == "promote"
    assert gate.decide(won, "v", "b", others={"sql": gate.compare(None, verdicts(1.0))}).action == "undecided"
    assert json.loads(to_json(rejected))["evidence"]["others"]["chess"]["losses"] == 30


def test_nothing_new_is_nothing_decided():
    assert gate.decide(seen(20, 2), "base", "base").action == "undecided"


def test_every_outcome_has_its_words():
    actions = set(get_args(get_type_hints(Decision)["action"]))
    assert actions == set(wording.LEAD) == set(page.OUTCOMES)


# --- graders and streams


def test_a_grader_that_contradicts_itself_is_found():
    groups = [group("1", "1", "2", task=Practice("a", "x")), group("3", "3", None, task=Practice("b", "y"))]
    steady = [verdicts(1.0, 1.0, 0.0), verdicts(0.0, 0.0, 0.0)]
    assert gate.flaky(groups, steady, steady) == []
    assert gate.flaky(groups, [verdicts(1.0, 0.0, 0.0), steady[1]]) == ["a"]
    assert gate.flaky(groups, steady, [steady[0], verdicts(0.0, 1.0, 0.0)]) == ["b"]
    assert gate.flaky(groups, steady, [verdicts(None, None, None), steady[1]]) == []


def test_a_stream_stops_as_soon_as_it_is_sure():
    def asked(before, after):
        for both in zip(before, after, strict=True):
            taken.append(both)
            yield both

    for wins, losses, action, version in ((60, 0, "promote", "v"), (0, 60, "reject", "b")):
        taken = []
        found = gate.judge_stream(asked(*pair(wins, losses)), "v", "b", alpha=0.01)
        assert (found.action, found.version) == (action, version)
        assert len(taken) == found.evidence["n"] < 30
        d = [(1 if wins else -1) * stats.log_wealth([1.0] * n)[-1] for n in (len(taken) - 1, len(taken))]
        assert abs(d[0]) < math.log(100) <= abs(d[1])
    assert gate.judge_stream(zip(*pair(9, 8), strict=True), "v", "b").action == "undecided"
    assert gate.judge_stream([], "v", "b").action == "undecided"


def test_a_stream_never_stops_on_unfit_evidence():
    before = verdicts(*[0.0] * 60)
    after = [Verdict(None if i % 3 == 0 else 1.0, Source.GROUND) for i in range(60)]
    found = gate.judge_stream(zip(before, after, strict=True), "v", "b")
    assert found.action == "undecided" and unfit(found.evidence) and found.evidence["n"] == 40


def test_a_stream_of_no_effect_promotes_no_more_than_alpha():
    rng, promoted = np.random.default_rng(5), 0
    for _ in range(200):
        d = rng.choice([1, -1], 40)
        b, a = verdicts(*(d < 0).astype(float)), verdicts(*(d > 0).astype(float))
        promoted += gate.judge_stream(zip(b, a, strict=True), "v", "b", alpha=0.2).action == "promote"
    assert promoted / 200 <= 0.2 + 3 * math.sqrt(0.16 / 200)
