"""Statistics, gate, meters, votes, controls and lessons: the formulas, each with a case worked by hand."""

import math
from itertools import combinations

import pytest
from helpers import attempt, group, verdicts
from hypothesis import given
from hypothesis import strategies as st

from antaeus import stats
from antaeus.engine.base import Scores
from antaeus.guard import meters
from antaeus.learn import advantages
from antaeus.learn.policy_gradient import k3, lessons
from antaeus.types import Anchor, Exam, Group, Practice, SealBroken, Source, Vault, Verdict
from antaeus.verify import controls
from antaeus.verify.ground import ground
from antaeus.verify.vote import majority

# --- statistics


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 1), (12, 12), (40, 3)])
def test_the_test_of_single_tries_is_the_exact_binomial_sum(wins, losses):
    n, k = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert stats.sign_flip([1.0] * wins + [-1.0] * losses, "two-sided") == pytest.approx(min(1.0, 2 * tail) if n else 1.0)


def test_wilson_interval_by_hand():
    low, high = stats.proportion_interval(8, 10)
    z, p, n = 1.959964, 0.8, 10
    middle, spread = (p + z * z / 20) / (1 + z * z / 10), z * math.sqrt(p * (1 - p) / n + z * z / 400) / (1 + z * z / 10)
    assert (low, high) == pytest.approx((middle - spread, middle + spread), abs=1e-6)
    assert stats.proportion_interval(0, 0) == (0.0, 1.0)


def test_the_interval_of_single_tries_covers():
    """About 95 % of intervals hold the true difference, by exact enumeration of a multinomial with few changes."""
    n, p_win, p_loss, covered = 40, 0.10, 0.04, 0.0
    for w in range(n + 1):
        for lo in range(n + 1 - w):
            same = n - w - lo
            chance = math.factorial(n) / math.factorial(w) / math.factorial(lo) / math.factorial(same)
            chance *= p_win**w * p_loss**lo * (1 - p_win - p_loss) ** same
            low, high = stats.difference_interval([1.0] * w + [-1.0] * lo + [0.0] * same)
            covered += chance * (low <= p_win - p_loss <= high)
    assert 0.93 < covered < 0.985


@given(st.integers(1, 12), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(n, data):
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(combinations(range(n), k))
    share = sum(any(i < correct for i in s) for s in subsets) / len(subsets)
    assert stats.pass_at_k(n, correct, k) == pytest.approx(share)
    with pytest.raises(ValueError, match="pass@k"):
        stats.pass_at_k(n, correct, n + 1)


# --- votes and ground truth


def test_votes_and_rewards_share_their_classes():
    assert [v.score for v in majority(group("1/2", "0.5", "\\frac12", "3", "4"))] == [1, 1, 1, 0, 0]
    assert [v.score for v in majority(group("142.0", "142", "7"))] == [1, 1, 0]


def test_no_answer_never_votes_and_never_wins():
    assert [v.score for v in majority(group(None, None, None, "3"))] == [0, 0, 0, 1]
    assert [v.score for v in majority(group(None, None))] == [0, 0]


def test_ties_go_to_the_first_seen():
    assert [v.score for v in majority(group("2", "1", "1", "2"))] == [1, 0, 0, 1]
    assert majority(group("1", "1", None, "2"))[0].parts == {"majority": 0.5}
    assert {v.source for v in majority(group("1", None))} == {Source.SELF}


def test_a_majority_too_small_to_be_believed_abstains():
    assert [v.score for v in majority(group("1", "1", "2", "3"), agreement=0.5)] == [1, 1, 0, 0]
    assert [v.score for v in majority(group("1", "1", "2", None), agreement=0.51)] == [None] * 4
    assert lessons([group("1", "1", "2", "3")], [majority(group("1", "1", "2", "3"), 0.9)], advantages.grpo) == []


def test_lucky_hits():
    """If the pseudo-label is wrong, reward accuracy is 1 - f_majority - f_correct (TTRL §4)."""
    g = group("9", "9", "9", "7", "5", "5", "4", "3")  # truth is 7
    right_reward = [v.score == float(a.answer == "7") for v, a in zip(majority(g), g.attempts, strict=True)]
    assert sum(right_reward) / 8 == pytest.approx(1 - 3 / 8 - 1 / 8)


def test_ground_opens_its_own_vault_only():
    task, vault = Practice("p", "1 + 1 ="), Vault(Practice, {"p": "2"})
    assert [v.score for v in ground(group("2", "3", None, task=task), vault)] == [1, 0, 0]
    for foreign in (Anchor("p", "1 + 1 ="), Exam("p", "1 + 1 =")):
        with pytest.raises(SealBroken):
            ground(group("2", task=foreign), vault)
    assert "2" not in repr(Vault(Exam, {"p": "2"})).replace("1 sealed", "")


def test_the_same_answer_is_graded_once(monkeypatch):
    asked = []
    monkeypatch.setattr("antaeus.verify.ground.judge", lambda *, gold, answer: (asked.append(answer), answer == gold)[1])
    found = ground(group("2", "3", "2", None, "3"), Vault(Practice, {"t": "2"}))
    assert [v.score for v in found] == [1, 0, 1, 0, 0] and asked == ["2", "3"]


def test_a_grader_that_fails_abstains(monkeypatch):
    monkeypatch.setattr("antaeus.verify.ground.judge", lambda *, gold, answer: None)
    verdict = ground(group("2"), Vault(Practice, {"t": "2"}))[0]
    assert verdict.score is None and verdict.source is Source.GROUND


# --- advantages and lessons


@given(st.integers(1, 15))
def test_binary_grpo_closed_form(right):
    n, p = 16, right / 16
    got = advantages.grpo([1.0] * right + [0.0] * (n - right), eps=0.0)
    shrink = math.sqrt((n - 1) / n)
    assert got[0] == pytest.approx(math.sqrt((1 - p) / p) * shrink)
    assert got[-1] == pytest.approx(-math.sqrt(p / (1 - p)) * shrink)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12))
def test_rloo_is_reward_minus_the_mean_of_the_others(rewards):
    for i, a in enumerate(advantages.rloo(rewards)):
        others = rewards[:i] + rewards[i + 1 :]
        assert a == pytest.approx(rewards[i] - sum(others) / len(others), abs=1e-9)


@pytest.mark.parametrize("name", list(advantages.ADVANTAGES))
@pytest.mark.parametrize("rewards", [[], [1.0], [0.0, 0.0, 0.0], [1.0, 1.0]])
def test_nothing_to_compare_gives_nothing_to_learn(name, rewards):
    assert advantages.ADVANTAGES[name](rewards) == [0.0] * len(rewards)


def test_an_abstaining_verdict_neither_teaches_nor_counts():
    out = lessons([group("1", "2", "3")], [verdicts(1.0, None, 0.0)], advantages.dr_grpo)
    assert [lesson.advantage for lesson in out] == [0.5, -0.5]


def test_learning_refuses_sealed_tasks():
    for task in (Anchor("a", "1 + 1 ="), Exam("e", "1 + 1 =")):
        with pytest.raises(SealBroken, match="reached learning"):
            lessons([group("1", "2", task=task)], [verdicts(1.0, 0.0)], advantages.grpo)


def test_kl_in_the_reward_lowers_what_strayed():
    g = Group(Practice("t", "x"), (attempt("1", logprobs=(-0.1, -0.1)), attempt("1", 1, logprobs=(-3.0, -0.1))))
    refs = [[Scores((-0.1, -0.1), (0, 0)), Scores((-0.1, -0.1), (0, 0))]]
    a, b = lessons([g], [verdicts(1.0, 1.0)], advantages.dr_grpo, reference=refs, kl_in_reward=0.5)
    penalty = 0.5 * (math.exp(2.9) - 2.9 - 1)
    assert (a.advantage, b.advantage) == pytest.approx((penalty / 2, -penalty / 2))
    assert a.ref_logprobs == (-0.1, -0.1) and a.logprobs is None
    assert k3((-1.0,), (-1.0,)) == 0.0


# --- controls and meters


def test_controls_do_what_they_say():
    g = group("1", None, "2", "2")
    assert [v.score for v in controls.format(g)] == [1, 0, 1, 1]
    coins = [v.score for i in range(200) for v in controls.random(group("1", "2", task=Practice(str(i), "x")), "s")]
    assert coins == [v.score for i in range(200) for v in controls.random(group("1", "2", task=Practice(str(i), "x")), "s")]
    assert 0.4 < sum(coins) / len(coins) < 0.6


def test_meters_by_hand():
    groups = [group("1", "1", "2", None), group("5", "5", "5", "5", task=Practice("u", "y"))]
    graded = [majority(g) for g in groups]
    same = [[Scores(g.attempts[0].logprobs, (0, 0))] for g in groups]
    seen = meters.measure(groups, graded, same)
    assert seen["agreement"] == pytest.approx((0.5 + 1.0) / 2)
    assert seen["answer_entropy"] == pytest.approx((math.log(3) - 2 / 3 * math.log(2)) / 2)
    assert seen["unanimous"] == 0.5 and seen["no_answer"] == 1 / 8 and seen["same_answer"] == 0.5
    assert seen["kl_to_base"] == 0.0 and seen["length"] == 2 and seen["proxy_reward"] == 6 / 8
    assert seen.keys() == {name for name in meters.DEFINITIONS if not name.startswith("judge") and name != "retention"}


def test_prompt_independence():
    groups = [group("1", "1", task=Practice(str(i), "x")) for i in range(6)]
    seen = meters.measure(groups, [majority(g) for g in groups], [[Scores((-0.5, -0.5), (0, 0))]] * 6)
    assert seen["same_answer"] == 1.0


def test_verdict_without_score_is_no_vote_for_unanimity():
    assert meters.unanimous([Verdict(1.0, Source.SELF), Verdict(None, Source.SELF)])
    assert not meters.unanimous(verdicts(1.0, 0.0))
