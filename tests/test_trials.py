"""What recipes need of the engine beyond a policy gradient: demonstrations, entropies as a loss, moving references, trials."""

import math

import pytest
import torch

from antaeus.engine.base import Sampling, Update
from antaeus.engine.draw import statistics
from antaeus.engine.local import LocalEngine
from antaeus.errors import UserError
from antaeus.types import Lesson, Practice

PROMPTS = [("a", "12 + 34 ="), ("b", "7 + 8 =")]
HOW = Update(lr=1e-2)


def attempts(engine: LocalEngine, seed: str = "s"):
    return [a for group in engine.sample(PROMPTS, Sampling(3, 8), seed=seed) for a in group]


def lessons(found, advantage=1.0):
    return [Lesson(Practice(a.task_id, ""), a.prompt_ids, a.ids, advantage) for a in found]


def entropy(engine, found):
    rows = engine.score(found)
    return sum(h for row in rows for h in row.entropies) / sum(len(row.entropies) for row in rows)


def test_an_advantage_a_token_is_that_of_the_token(tiny):
    """Token advantages that are all alike are the advantage; those of a half teach that half."""
    found = attempts(tiny())
    whole, tokens, half = tiny(), tiny(), tiny()
    whole.train(lessons(found), HOW)
    tokens.train([Lesson(x.task, x.prompt_ids, x.ids, (1.0,) * len(x.ids)) for x in lessons(found)], HOW)
    assert whole.score(found) == tokens.score(found)
    half.train([Lesson(x.task, x.prompt_ids, x.ids, (1.0,) + (0.0,) * (len(x.ids) - 1)) for x in lessons(found)], HOW)
    first = [(b.logprobs[0], a.logprobs[0]) for a, b in zip(found, half.score(found), strict=True)]
    assert sum(after - before for after, before in first) > 0 and half.score(found) != whole.score(found)


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_entropy_as_a_loss_moves_it_one_way(tiny, weight):
    engine = tiny()
    found = attempts(engine)
    before = entropy(engine, found)
    trained = engine.train(lessons(found, 0.0), Update(lr=1e-3, entropy=weight))
    assert trained.grad_norm > 0 and trained.loss == pytest.approx(weight * before, rel=1e-4)
    assert (entropy(engine, found) - before) * weight < 0


def test_the_gradient_of_the_entropy_is_that_of_autograd(tiny):
    engine = tiny()
    found = attempts(engine)
    learner = engine._learner()
    learner.backward(lessons(found, 0.0), Update(lr=0, entropy=1.0, temperature=0.7), 10**6)
    ours = [m.grad.clone() for m in learner.masters]
    learner.close()
    engine.model.zero_grad()
    total, tokens = torch.zeros(()), sum(len(a.ids) for a in found)
    for a in found:
        logits = engine.model(torch.tensor([[*a.prompt_ids, *a.ids]])).logits[0, len(a.prompt_ids) - 1 : -1] / 0.7
        total = total + torch.distributions.Categorical(logits=logits).entropy().sum() / tokens
    total.backward()
    for mine, p in zip(ours, learner.params, strict=True):
        torch.testing.assert_close(mine, p.grad, atol=1e-6, rtol=1e-4)


def test_certainty_is_the_divergence_from_uniform(tiny):
    """KL(U || p) = -log V - mean log p, 0 for a uniform p; also as log-sum-exp minus mean logit minus log V."""
    engine = tiny()
    found = attempts(engine)
    a, scores = found[0], engine.score(found)[0]
    logits = engine.model(torch.tensor([[*a.prompt_ids, *a.ids]])).logits[0, len(a.prompt_ids) - 1 : -1]
    size = logits.shape[-1]
    by_hand = -math.log(size) - logits.log_softmax(-1).mean(-1)
    assert scores.certainties == pytest.approx(by_hand.tolist(), abs=1e-4)
    _, lse, h = statistics(torch.zeros(1, size))
    assert lse.item() - math.log(size) == pytest.approx(0.0, abs=1e-6) and h.item() == pytest.approx(math.log(size))


@pytest.mark.parametrize("how", [{}, {"lora": 4}, {"part": "norms"}])
def test_a_trial_leaves_nothing_behind(tiny, how):
    """Weights, optimiser and what is learned next are as if it had not been, to the bit."""
    engine, other = tiny(**how), tiny(**how)
    found = attempts(engine)
    for each in (engine, other):
        each.train(lessons(found), HOW)
    before = engine.score(found)
    with engine.trial():
        engine.train(lessons(found, -1.0), HOW)
        engine.train(lessons(found, -1.0), HOW)
        assert engine.score(found) != before
    assert engine.score(found) == before
    for each in (engine, other):
        each.train(lessons(found), HOW)
    assert engine.score(found) == other.score(found)


def test_a_trial_that_fails_leaves_nothing_behind_either(tiny):
    engine = tiny()
    found = attempts(engine)
    before = engine.score(found)
    with pytest.raises(KeyError), engine.trial():
        engine.train(lessons(found), HOW)
        raise KeyError
    assert engine.score(found) == before


def test_only_the_norms_learn_where_only_they_are_to(tiny):
    engine = tiny(part="norms")
    start = {n: p.detach().clone() for n, p in engine.model.named_parameters()}
    engine.train(lessons(attempts(engine)), HOW)
    moved = {n for n, p in engine.model.named_parameters() if not torch.equal(p, start[n])}
    assert moved and all("norm" in name for name in moved)


def test_a_model_without_norms_says_so():
    from antaeus.engine import models

    with pytest.raises(UserError, match="no normalisation layers"):
        models.freeze_all_but_norms(torch.nn.Linear(2, 2))


def test_the_average_follows_the_policy_and_survives_a_checkpoint(tiny, tmp_path):
    engine = tiny()
    found = attempts(engine)
    assert engine.score(found, weights="average") == engine.score(found, weights="reference")
    engine.train(lessons(found), HOW)
    engine.follow(0.5)
    start, now = engine._reference, dict(engine._trainable)
    for name, value in engine._average.items():
        torch.testing.assert_close(value, (start[name] + now[name]) / 2)
    between = engine.score(found, weights="average")
    engine.save(tmp_path / "c", resumable=True)
    other = tiny()
    other.load(tmp_path / "c", resumable=True)
    assert other.score(found, weights="average") == between
    engine.follow(1.0)
    assert engine.score(found, weights="average") == engine.score(found)


def test_a_demonstration_is_encoded_as_the_model_would_have_written_it(tiny):
    engine = tiny()
    prompt, ids = engine.encode("12 + 34 =", " 46")
    sampled = attempts(engine)[0]
    assert prompt == sampled.prompt_ids and ids[-1] in engine._eos
    assert engine.tokenizer.decode(ids, skip_special_tokens=True) == " 46"
    before = sum(engine.score([sampled.__class__("t", 0, prompt, ids, "", "eos", (), ())])[0].logprobs)
    for _ in range(3):
        engine.train([Lesson(Practice("t", ""), prompt, ids, 1.0)], HOW)
    assert sum(engine.score([sampled.__class__("t", 0, prompt, ids, "", "eos", (), ())])[0].logprobs) > before
