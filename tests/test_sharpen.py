"""Entropy lowered while decoding: EM-INF, an adaptive temperature, and the recipe that answers so."""

import json

import pytest
import torch
from helpers import run_cli
from hypothesis import given, settings
from hypothesis import strategies as st

from antaeus.engine.base import Sampling, Sharpen
from antaeus.engine.sharpen import sharpened
from antaeus.errors import UserError
from antaeus.recipes.em_inf import EMInf
from antaeus.types import Exam


@pytest.fixture
def cli(capsys, monkeypatch):
    return lambda *args: run_cli(capsys, monkeypatch, *args)


EM, COOL = Sharpen("em"), Sharpen("temperature")


def entropy(logits):
    return torch.distributions.Categorical(logits=logits).entropy()


def random_logits(rows=16, size=50, spread=3.0, seed=0):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * spread


@pytest.mark.parametrize("how", [EM, COOL])
def test_a_row_of_low_entropy_is_left_as_it_is(how):
    """It stops at once where H0 < delta: the row comes back bit for bit, and beside others too."""
    sure = torch.tensor([[9.0, 0.0, 1.0, 0.5]])
    assert entropy(sure) < how.delta
    assert sharpened(sure, how) is sure
    both = torch.cat([sure, torch.zeros(1, 4)])
    assert torch.equal(sharpened(both, how)[:1], sure)


@pytest.mark.parametrize("how", [EM, COOL])
def test_each_row_is_its_own(how):
    """In one batch as alone, to the bit; the official code sums entropies over the batch."""
    logits = random_logits()
    alone = torch.cat([sharpened(row[None], how) for row in logits])
    assert torch.equal(sharpened(logits, how), alone)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.floats(0.1, 6.0))
def test_entropy_falls_and_the_likeliest_token_stays(seed, spread):
    logits = random_logits(seed=seed, spread=spread)
    clear = logits.topk(2).values.diff().abs().squeeze(1) > 1e-2
    for how in (EM, COOL):
        found, high = sharpened(logits, how), entropy(logits) > how.delta
        assert (entropy(found)[high] < entropy(logits)[high]).all()
        assert torch.equal(found.argmax(-1)[clear], logits.argmax(-1)[clear])


def test_the_temperature_is_the_one_that_was_asked_for():
    logits = random_logits(spread=1.0)
    assert entropy(sharpened(logits, COOL)).tolist() == pytest.approx((0.85 * entropy(logits)).tolist(), abs=1e-3)
    floored = Sharpen("temperature", delta=1.0, share=0.1)
    assert entropy(sharpened(logits, floored)).tolist() == pytest.approx([1.0] * len(logits), abs=1e-3)


def test_the_steps_are_those_of_adam_on_the_loss():
    logits, how = random_logits(1), Sharpen("em", delta=0.0, steps=4, kl=0.3)
    z = torch.nn.Parameter(logits.clone())
    adam, p0 = torch.optim.Adam([z], lr=how.lr), logits.log_softmax(-1)
    for _ in range(how.steps):
        p = z.log_softmax(-1)
        loss = entropy(z).sum() + how.kl * (p0.exp() * (p0 - p)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.testing.assert_close(sharpened(logits, how), z.detach(), atol=1e-3, rtol=1e-3)


def test_it_stops_once_the_entropy_is_low_enough():
    """A hundred steps lead no further below delta than the one that crossed it."""
    many = sharpened(random_logits(spread=1.0), Sharpen("em", delta=1.0, steps=100))
    assert ((entropy(many) < 1.0) & (entropy(many) > 0.7)).all()


@pytest.mark.parametrize("how", [EM, COOL])
def test_a_token_that_is_ruled_out_stays_so(how):
    logits = torch.tensor([[1.0, 0.5, float("-inf"), 0.2]])
    found = sharpened(logits, how)
    assert found[0, 2] == float("-inf") and not found.isnan().any() and entropy_of_finite(found) < entropy_of_finite(logits)


def entropy_of_finite(logits):
    return entropy(logits[logits.isfinite()])


def test_decoding_is_sharpened_where_it_is_asked_for_and_only_there(tiny):
    engine, prompts = tiny(), [("a", "12 + 34 ="), ("b", "7 + 8 =")]
    plain, soft, greedy = (Sampling(4, 8), Sampling(4, 8, sharpen=EM), Sampling(1, 8, temperature=0.0, sharpen=COOL))

    def mean(how):
        found = [h for group in engine.sample(prompts, how, seed="s") for a in group for h in a.entropies]
        return sum(found) / len(found)

    def texts(how):
        return [a.ids for group in engine.sample(prompts, how, seed="s") for a in group]

    assert mean(soft) < mean(plain)
    assert texts(greedy) == texts(Sampling(1, 8, temperature=0.0))


def test_the_recipe_samples_where_a_sitting_is_greedy(tiny):
    engine, tasks = tiny(), [Exam("a", "12 + 34 =", completion=True)]
    recipe = EMInf()
    how = recipe.lowered(Sampling(1, 8, temperature=0.0))
    assert how.temperature == recipe.temperature and how.sharpen == Sharpen()
    (group,) = recipe.answer(engine, tasks, Sampling(3, 8, temperature=0.7), seed="s", read="number")
    expected = engine.sample([("a", "12 + 34 =")], recipe.lowered(Sampling(3, 8, temperature=0.7)), seed="s")[0]
    assert [a.ids for a in group.attempts] == [a.ids for a in expected]


@pytest.mark.parametrize("how", ["em", "temperature"])
def test_through_the_command_line(cli, tmp_path, how):
    code, out, err = cli(
        "run", "em_inf", f"how={how}", "prompts=4", "samples=2", "n_exam=20", "n_anchor=10", "tries=2",
        "--model", "tiny", "--run-dir", tmp_path / "r", "--json",
    )  # fmt: skip
    assert code == 0, err
    summary = json.loads(out)
    assert summary["tokens_trained"] == 0 and summary["rounds"] == 1 and summary["exam"]["tries"] == 2


def test_a_control_makes_no_sense_and_says_so():
    with pytest.raises(UserError, match="ttrl"):
        EMInf(control="random")
