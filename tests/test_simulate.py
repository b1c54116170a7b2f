"""Error rates by simulation: ours stays below alpha, others' published rules do what was computed of them."""

import numpy as np
import pytest
from helpers import verdicts

from antaeus.guard import gate, rules, simulate
from antaeus.guard.lineage import Budget


def within(found, low, high):
    return low <= found["share"] <= high


@pytest.fixture(scope="module", params=["resampled", "retrained"])
def no_effect(request):
    return simulate.false_promotions(request.param, lineages=1000)


def test_lineages_of_no_effect_promote_falsely_no_more_than_alpha(no_effect):
    found = no_effect["rules"]
    assert found["ours"]["ever"]["n"] == 1000 and found["ours"]["ever"]["share"] <= 0.05
    assert found["ours"]["ever"]["share"] > 0  # a gate that promotes nothing would pass the line above
    assert found["p < 0.05 each"]["ever"]["share"] > 0.15
    assert within(found["new > old on 200"]["each"], 0.42, 0.49)
    assert found["new > old on 200"]["in ten"]["share"] > 0.8 and no_effect["best of ten"]["share"] > 0.8


def test_the_proposals_really_have_no_effect():
    """Neither kind gains on average, and tasks change as often as is said."""
    for kind in ("resampled", "retrained"):
        gains, moved = [], []
        for before, after in simulate.no_effect(kind, 400, 4, 400, seed=3):
            wins, losses = rules.changes(before, after)
            gains += [(wins - losses).mean(-1) / 400]
            moved += [(wins + losses).mean() / 400]
        gain = np.concatenate(gains)
        assert abs(gain.mean()) < 3 * gain.std() / len(gain) ** 0.5
        assert abs(np.mean(moved) - np.mean(simulate.DISCORDANCE)) < 0.02


def test_the_simulated_gate_is_the_gate():
    """The same promotions as `gate.decide` at the levels of the lineage's budget, verdict by verdict."""
    rng = np.random.default_rng(4)
    before, after = rng.random((1, 1, 120)) < 0.4, rng.random((1, 12, 120)) < np.linspace(0.4, 0.75, 12)[:, None]
    budget, expected = Budget(0.2, 12), []
    for row in after[0]:
        evidence = gate.compare(verdicts(*before[0, 0].astype(float)), verdicts(*row.astype(float)))
        expected.append(gate.decide(evidence, "v", "b", alpha=budget.level).action == "promote")
        budget = budget.spent(expected[-1])
    found = rules.ours(rules.p_gain(*rules.changes(before, after)), alpha=0.2)
    assert found[0].tolist() == expected and 0 < sum(expected) < 12


def test_others_rules_err_as_computed():
    """Figures computed from the published rules, independently of this code (20,000 runs for the sequential test)."""
    found = rules.published()
    expected = {
        "new > old on 50": (0.46, 0.01), "new > old on 200": (0.48, 0.01),
        "new > old on 50, in ten": (0.998, 0.004), "new > old on 200, in ten": (0.999, 0.003),
        "SPRT, effect 0.1, from 2": (0.011, 0.005), "SPRT, effect 0.5, from 2": (0.095, 0.012),
        "SPRT, effect 1.0, from 2": (0.111, 0.012),
        "SPRT, effect 0.1, from 30": (0.002, 0.002), "SPRT, effect 0.5, from 30": (0.042, 0.008),
        "SPRT, effect 1.0, from 30": (0.009, 0.004),
        "canary rolled back, 0.5": (0.58, 0.035), "canary rolled back, 0.8": (0.49, 0.035), "canary rolled back, 0.95": (0.21, 0.03),
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, (value, slack) in expected.items():
        assert within(found[name], value - slack, value + slack), (name, found[name])


def test_the_power_curve():
    rows = {(r["gain"], r["discordance"]): r for r in simulate.power((0.0, 0.05, 0.1), (0.06, 0.2), lineages=400)}
    assert rows[0.0, 0.2]["all"]["ci"][1] < 0.07 and rows[0.0, 0.06]["one"]["share"] < 0.01
    assert rows[0.05, 0.06]["one"]["share"] > 0.8 and rows[0.05, 0.2]["all"]["share"] > 0.95
    assert 0.6 < rows[0.05, 0.2]["alone"]["share"] < 0.8 and rows[0.05, 0.2]["one"]["share"] < 0.3
    assert rows[0.1, 0.2]["promotions"] > 2
    assert (0.1, 0.06) not in rows


def test_looking_after_every_task():
    none, some = simulate.peeking(streams=1500), simulate.peeking(gain=0.1, streams=500)
    assert none["e-process"]["ci"][1] < 0.05 and none["test at the end"]["ci"][1] < 0.06
    assert none["repeated test"]["share"] > 0.12
    assert some["e-process"]["share"] > 0.9 and some["median tasks"] < 200


def test_rules_on_real_runs_of_one_model():
    rng = np.random.default_rng(9)
    chance = rng.beta(1, 1, 300)
    runs = [(rng.random(300) < chance).astype(float).tolist() for _ in range(6)]
    found = rules.on_real(runs)
    assert (found["runs"], found["tasks"], found["ours"]["n"]) == (6, 300, 30)
    assert found["ours"]["share"] == 0 and 0.3 < found["new > old on 200"]["share"] <= 0.5
    same = rules.on_real([[1.0, 0.0] * 20] * 3)
    assert all(same[name]["share"] == (name == "canary, 5 points") for name in ("ours", *rules.RULES))
    with pytest.raises(ValueError, match="at least two runs"):
        rules.on_real(runs[:1])
