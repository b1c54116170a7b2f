"""Alarms over the meters, mitigations after them, fingerprints of weights, and the newer controls: each worked by hand."""

import math

import pytest
from helpers import attempt, group, verdicts

from antaeus.engine.base import Scores
from antaeus.guard import alarms, meters, mitigation, trends
from antaeus.guard.fingerprint import Registry, WrongWeights, short
from antaeus.types import Group, Practice, Source, Verdict
from antaeus.verify import controls
from antaeus.verify.vote import fixed, leading, majority


def quiet(**changed):
    """The meters of an unremarkable round."""
    usual = dict.fromkeys(meters.DEFINITIONS, 0.0) | {"agreement": 0.5, "length": 4.0, "proxy_reward": 0.5, "retention": 1.0}
    return usual | changed


# --- meters


def measured(groups, rows):
    return meters.measure(groups, rows, [[Scores(g.attempts[0].logprobs, ())] for g in groups])


def test_shared_answers_count_every_prompt_that_is_not_alone():
    groups = [group(*a, task=Practice(str(i), "p")) for i, a in enumerate(["551", "552", "661", "771", [None, None, "8"]])]
    found = measured(groups, [majority(g) for g in groups])
    assert found["shared_answer"] == pytest.approx(2 / 5) and found["same_answer"] == pytest.approx(2 / 5)


def test_reward_variance_is_within_prompts():
    rows = [verdicts(0.0, 1.0), verdicts(1.0, 1.0), verdicts(None, 0.5)]
    assert measured([group("1", "2")] * 3, rows)["reward_variance"] == pytest.approx(0.25 / 3)


def test_repetition_by_hand():
    task = Practice("t", "p")
    rows = [(1, 2, 3, 1, 2, 3, 1), (1, 2, 3, 4), (1, 2)]  # 5 runs of which 3 differ; 2 of 2; none
    groups = [Group(task, tuple(attempt("1", i, ids) for i, ids in enumerate(rows)))]
    assert measured(groups, [verdicts(1.0, 1.0, 0.0)])["repetition"] == pytest.approx(0.4 / 3)


def test_a_judge_is_measured_where_there_is_one():
    rows = [
        [Verdict(1.0, Source.PEER, "", {"judge": 3.0, "first": 1.0}), Verdict(0.0, Source.PEER, "", {"judge": 5.0, "first": 1.0})]
    ]
    found = measured([group("1", "2")], rows)
    assert (found["judge_mean"], found["judge_variance"], found["judge_first"]) == (4.0, 1.0, 1.0)
    assert "judge_mean" not in measured([group("1", "2")], [verdicts(1.0, 0.0)])


def test_every_meter_has_a_definition():
    assert set(measured([group("1", "2")], [verdicts(1.0, 0.0)])) <= set(meters.DEFINITIONS)


# --- alarms


def test_signals_compare_the_last_rounds_with_the_first():
    assert alarms.rise("no_answer")([quiet(no_answer=k / 10) for k in range(6)]) == pytest.approx(0.3)
    history = [quiet(retention=r) for r in (1.2, 1.2, 0.95, 0.9)]
    assert alarms.falling(history) == pytest.approx(alarms.SURER - 0.9) and alarms.lost(history) == pytest.approx(0.1)
    assert alarms.falling(history + history[-1:] * 3) == 0.0  # what fell longer ago does not ring for ever
    assert alarms.falling([quiet(retention=r) for r in (1.5, alarms.SURER)]) == 0.0  # what was gained may be lost
    assert alarms.falling([quiet(retention=0.5)]) == 0.5  # before the first round stands the base


def test_a_reward_that_jumps_alone_is_no_surge():
    flat = [quiet(proxy_reward=0.2)] * 3 + [quiet(proxy_reward=0.9)] * 3
    both = [quiet(proxy_reward=0.2)] * 3 + [quiet(proxy_reward=0.9, kl_to_base=1.0)] * 3
    assert trends.surge(flat) == 0.0 and trends.surge(both) == pytest.approx(0.7)
    assert trends.surge(both[:1]) == 0.0


def test_slopes_are_those_of_a_line_through_the_last_six_rounds():
    history = [quiet(length=length, token_entropy=1.0) for length in (90.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0)]
    found = trends.trends(history)
    assert found["length_slope"] == pytest.approx(2.0) and found["entropy_slope"] == 0.0
    assert trends.slope([quiet(length=n) for n in (1.0, 2.0, 6.0)], "length") == pytest.approx(2.5)
    assert trends.slope(history[:1], "length") == 0.0 and found.keys() == trends.DEFINITIONS.keys()


@pytest.mark.parametrize("name", alarms.RULES)
def test_alarms_ring_for_what_they_say_and_not_before(name):
    rule = alarms.RULES[name]
    worse = {"retention": 0.5, "kl_to_base": 2.0}.get(rule.meter, 0.9)
    assert alarms.ringing([quiet()] * 10, 8) == {}
    late = [quiet(**{rule.meter: worse, "proxy_reward": 0.9})] * alarms.WINDOW
    assert any(name in alarms.ringing([quiet()] * 5 + late[:n], 8) for n in range(1, len(late) + 1))
    assert name not in alarms.ringing([quiet()] * 5 + [{k: v for k, v in m.items() if k != rule.meter} for m in late], 8)


def test_few_prompts_may_share_their_answer():
    assert alarms.ringing([quiet(same_answer=1.0)] * 5, 3) == {}


def test_a_single_attempt_a_round_that_is_cut_says_nothing():
    late = [quiet()] * 3 + [quiet(truncated=1.0, no_answer=1.0)] * 3
    assert alarms.ringing(late, 1, attempts=1) == {} and set(alarms.ringing(late, 1, attempts=4)) == {"truncated", "no answer"}


# --- mitigation


def test_the_easiest_third():
    practice = [Practice(str(i), "p") for i in range(6)]
    survey = {str(i): ("1", share) for i, share in enumerate((0.1, 0.9, 0.3, 0.2, 0.8, 0.7))}
    assert [t.id for t in mitigation.easiest(practice, survey)] == ["1", "4"]


def test_labels_of_a_fixed_version():
    assert leading(group("3", "1/2", "0.5", None)) == ("1/2", 0.5)
    assert leading(group(None, None)) == (None, 0.0)
    assert [v.score for v in fixed(group("3", "1/2", "0.5", None), "\\frac12")] == [0.0, 1.0, 1.0, 0.0]
    assert [v.score for v in fixed(group("3", "4"), None)] == [None, None]


# --- controls


def test_shuffled_labels_keep_the_scores_and_lose_their_owners():
    own = verdicts(*[1.0] * 8, *[0.0] * 8)
    dealt = [controls.shuffled(own, group(*["1"] * 16, task=Practice(str(i), "p")), "s") for i in range(40)]
    assert all(sum(v.score for v in row) == 8 and {v.source for v in row} == {Source.SELF} for row in dealt)
    first = sum(row[0].score for row in dealt)
    assert 8 < first < 32  # 20 expected, 4 standard deviations either way
    assert dealt[0] == controls.shuffled(own, group(*["1"] * 16, task=Practice("0", "p")), "s")


# --- fingerprints


class Scorer:
    """An engine that can only score: every token gets `level`."""

    def __init__(self, level):
        self.level = level

    def score(self, attempts):
        return [Scores(tuple(self.level for _ in a.ids), ()) for a in attempts]


def test_fingerprints_tell_versions_apart():
    known = Registry()
    known.choose([attempt("1", i) for i in range(40)])
    known.choose([attempt("2", ids=(9, 9, 9))])  # the probe is chosen once
    assert len(known.probe) == 40
    known.enter(Scorer(-1.0), "base")
    known.enter(Scorer(-1.04), "r001")
    known.check(Scorer(-1.0), "base")
    known.check(Scorer(-1.01), "base")  # rounding
    for level, claimed in ((-1.04, "base"), (-1.0, "r001"), (-2.0, "base"), (-1.0, "r002")):
        with pytest.raises(WrongWeights, match=claimed):
            known.check(Scorer(level), claimed)
    assert len(short(known.versions["base"])) == 12 and short(known.versions["base"]) != short(known.versions["r001"])


def test_retention_is_the_share_of_the_bases_sureness_that_is_left():
    known = Registry()
    known.choose([attempt("1", i) for i in range(4)])  # two tokens each
    known.enter(Scorer(-1.0), "base")
    assert known.retention(Scorer(-1.0)) == 1.0
    assert known.retention(Scorer(-1.5)) == pytest.approx(math.exp(-1.0))
    long = Registry()
    long.choose([attempt("1", ids=tuple(range(80)))])  # of a long completion it is that of eight tokens
    long.enter(Scorer(-1.0), "base")
    assert long.retention(Scorer(-1.5)) == pytest.approx(math.exp(-4.0))
