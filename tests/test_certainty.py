"""Recipes that are paid for being sure, or sharpen themselves: formulas by hand, gradients against an enumerated policy."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from helpers import attempt, group, lines, run_cli, verdicts
from test_loop import digits

from antaeus.config import configure
from antaeus.engine.base import Sampling, Scores
from antaeus.errors import UserError
from antaeus.learn import advantages, entropy
from antaeus.preparing import refuse_mitigation
from antaeus.recipes.em_ft import EMFT
from antaeus.recipes.em_rl import EMRL
from antaeus.recipes.entropy import Entropy
from antaeus.recipes.intuitor import Intuitor
from antaeus.recipes.one_shot_em import OneShotEM
from antaeus.recipes.rent import RENT
from antaeus.recipes.round import Round
from antaeus.recipes.urlvr import URLVR
from antaeus.types import Anchor, Attempt, Group, Practice, SealBroken, Source, TaskSet, Vault
from antaeus.verify.certainty import MEASURES, certain, drawn, scored
from antaeus.verify.yes_no import judged, questions

TASK = Practice("t", "7 + 8 =")


def round_of(engine=None, practice=(TASK,), answers=None):
    vaults = [Vault(Practice, answers or {}) for _ in range(4)]
    return Round(1, 0, engine, TaskSet("t", tuple(practice), (), (), *vaults[:3]), vaults[3])


def tries(*rows):
    """A group whose attempts have the log-probabilities and entropies given."""
    made = [Attempt("t", i, (7,), (1,) * len(h), str(i), "eos", tuple(p), tuple(h), str(i)) for i, (p, h) in enumerate(rows)]
    return Group(TASK, tuple(made))


# --- measures


def test_measures_by_hand():
    s = Scores((-0.5, -1.5), (0.2, 0.6), (3.0, 5.0))
    seen = {name: of(s) for name, of in MEASURES.items()}
    assert seen == pytest.approx(
        {
            "self_certainty": 4.0, "token_entropy": -0.4, "summed_entropy": -0.8, "trajectory_entropy": -1.0, "log_probability": -2.0,
            "probability": math.exp(-2.0),
        }
    )  # fmt: skip


def test_what_sampling_knows_is_what_scoring_finds(tiny):
    """At the sampling temperature, over the whole distribution; so no pass is needed for these measures."""
    engine = tiny()
    sampled = engine.sample([("t", TASK.prompt)], Sampling(4, 6, temperature=0.7, top_p=0.9), seed="s")[0]
    g = Group(TASK, tuple(sampled))
    rows = scored(engine, [g, g], 0.7)
    assert len(rows) == 2 and rows[0] == rows[1]
    for name in ("token_entropy", "log_probability", "probability"):
        before, after = ([v.score for v in certain(r, name)] for r in (drawn(g), rows[0]))
        assert before == pytest.approx(after, rel=1e-3)
    assert all(v.source is Source.SELF for v in certain(rows[0], "self_certainty"))


# --- the gradient of entropy, on a policy small enough to be written out

V, T = 3, 3  # token 0 ends a text


def policy(theta, prefix):
    last, place = theta[: (V + 1) * V].reshape(V + 1, V), theta[(V + 1) * V :].reshape(T, V)
    z = last[prefix[-1] if prefix else V] + place[len(prefix)]
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def texts():
    """All texts: they end with token 0 or after T tokens."""
    whole = [y for n in range(1, T + 1) for y in itertools.product(range(V), repeat=n)]
    return [y for y in whole if 0 not in y[:-1] and (y[-1] == 0 or len(y) == T)]


def steps(theta, y):
    """p_t and the token drawn, place by place."""
    return [(policy(theta, y[:t]), token) for t, token in enumerate(y)]


def probability(theta, y):
    return math.prod(p[token] for p, token in steps(theta, y))


def entropies(theta, y):
    return [float(-(p * np.log(p)).sum()) for p, _ in steps(theta, y)]


def slope(f, theta, eps=1e-5):
    return np.array([(f(theta + d) - f(theta - d)) / (2 * eps) for d in eps * np.eye(len(theta))])


def log_slopes(theta, y):
    return [slope(lambda x, t=t: math.log(policy(x, y[:t])[y[t]]), theta) for t in range(len(y))]


def descent(theta, attempts, shares):
    """The gradient that the engine follows down: direct term with weight 1, and minus advantage times that of the log-probability."""
    total = np.zeros_like(theta)
    for a, share in shares:
        own = attempts(a)
        length = len(a) if own["mean"] else 1
        total += share * slope(lambda x, a=a: sum(entropies(x, a)), theta) / length
        for value, g in zip(own["advantage"], log_slopes(theta, a), strict=True):
            total -= share * value * g / length
    return total


@pytest.fixture(scope="module")
def theta():
    return np.random.default_rng(0).normal(size=(V + 1) * V + T * V)


def as_attempt(theta, y, index=0):
    logprobs = tuple(math.log(p[token]) for p, token in steps(theta, y))
    return Attempt("t", index, (), tuple(y), "", "eos", logprobs, tuple(entropies(theta, y)), "x")


def test_the_texts_are_all_there_are(theta):
    assert sum(probability(theta, y) for y in texts()) == pytest.approx(1.0)
    surprise = -sum(probability(theta, y) * math.log(probability(theta, y)) for y in texts())
    assert sum(probability(theta, y) * sum(entropies(theta, y)) for y in texts()) == pytest.approx(surprise)  # the chain rule


@pytest.mark.parametrize(("formula", "mean"), [(entropy.of_the_sum, False), (entropy.of_the_mean, True)])
def test_both_terms_are_the_gradient_of_the_objective(theta, formula, mean):
    """Of the entropy of a text, and of the mean entropy of its tokens, exactly, where every text counts by its probability; with the
    direct term alone it is another one."""

    def objective(x):
        return sum(probability(x, y) * sum(entropies(x, y)) / (len(y) if mean else 1) for y in texts())

    shares = [(y, probability(theta, y)) for y in texts()]
    exact = slope(objective, theta)
    ours = descent(theta, lambda y: {"advantage": formula([as_attempt(theta, y)])[0], "mean": mean}, shares)
    direct = descent(theta, lambda y: {"advantage": (0.0,) * len(y), "mean": mean}, shares)
    assert ours == pytest.approx(exact, abs=1e-7)
    assert np.abs(direct - exact).max() > 1e-2


@pytest.mark.parametrize("formula", [entropy.of_the_sum, entropy.of_the_mean])
def test_the_baseline_changes_no_expectation(theta, formula):
    """Over all pairs of texts, each pair a group: the first one's part is what it is alone."""
    y_of, p_of = texts(), [probability(theta, y) for y in texts()]
    slopes = [log_slopes(theta, y) for y in y_of]
    alone, paired = np.zeros_like(theta), np.zeros_like(theta)
    for y, p, g in zip(y_of, p_of, slopes, strict=True):
        scale = 1 / len(y) if formula is entropy.of_the_mean else 1.0
        alone += p * scale * sum(a * s for a, s in zip(formula([as_attempt(theta, y)])[0], g, strict=True))
        for other, q in zip(y_of, p_of, strict=True):
            first = formula([as_attempt(theta, y), as_attempt(theta, other, 1)])[0]
            paired += p * q * scale * sum(a * s for a, s in zip(first, g, strict=True))
    assert paired == pytest.approx(alone, abs=1e-9) and np.abs(alone).max() > 1e-2


def test_the_log_probability_as_reward_has_the_same_gradient(theta):
    """EM-RL-sequence: E[log pi(y) grad log pi(y)] is minus the gradient of the entropy, all of it; EM-RL-token lacks the direct term."""
    shares = [(y, probability(theta, y), sum(log_slopes(theta, y))) for y in texts()]
    exact = slope(lambda x: sum(probability(x, y) * sum(entropies(x, y)) for y in texts()), theta)

    def ascent(measure):
        of = MEASURES[measure]
        rewards = [of(Scores(a.logprobs, a.entropies)) for a in (as_attempt(theta, y) for y, _, _ in shares)]
        return sum(p * r * g for (_, p, g), r in zip(shares, rewards, strict=True))

    direct = sum(p * slope(lambda x, y=y: sum(entropies(x, y)), theta) for y, p, _ in shares)
    assert ascent("log_probability") == pytest.approx(-exact, abs=1e-7)
    assert ascent("summed_entropy") == pytest.approx(direct - exact, abs=1e-7)


def test_advantages_by_hand():
    g = tries(((-1,) * 3, (0.5, 0.2, 0.1)), ((-1,) * 2, (0.3, 0.4)), ((-1,), (0.7,)))
    assert [list(row) for row in entropy.of_the_sum(g.attempts)] == [
        pytest.approx([0.4 / 2 - 0.3, 0.0 - 0.1, 0.0]),
        pytest.approx([0.3 / 2 - 0.4, 0.1 / 2]),
        pytest.approx([0.7 / 2]),
    ]
    f = [0.8 / 3, 0.35, 0.7]
    assert [row[0] for row in entropy.of_the_mean(g.attempts)] == pytest.approx(
        [3 * ((f[1] + f[2]) / 2 - f[0]), 2 * ((f[0] + f[2]) / 2 - f[1]), (f[0] + f[1]) / 2 - f[2]]
    )
    assert entropy.of_the_sum([]) == [] == entropy.of_the_mean([])


# --- and in the engine


@pytest.mark.parametrize("aggregate", ["constant", "sequence"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_recipe_descends_the_gradient_of_the_exact_entropy(tiny, aggregate, temperature):
    """The tiny model's texts of two tokens, all of them counted by their probability: what the engine accumulates from the recipe's
    lessons is autograd's gradient of their entropy, and not so where a term is left out."""
    engine = tiny()
    exact = autograd(engine, aggregate, temperature)
    for terms, same in (("both", True), ("direct", False), ("score", False)):
        ours = accumulated(engine, Entropy(aggregate=aggregate, temperature=temperature, samples=1, terms=terms))
        distance = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(ours, exact, strict=True)))
        size = math.sqrt(sum(float(b.square().sum()) for b in exact))
        assert (distance < 1e-3 * size) == same and (same or distance > 1e-2 * size), (terms, distance / size)


def prompt_of(engine):
    return engine.encode(TASK.prompt, "")[0]


def autograd(engine, aggregate, temperature):
    """Gradient of E[H_1 + H_2], or of half of it, by parameter."""
    prompt, size = prompt_of(engine), engine.model.config.vocab_size
    ids = torch.tensor([[*prompt, v] for v in range(size)])
    logits = engine.model(ids).logits[:, -2:].float() / temperature
    first = torch.distributions.Categorical(logits=logits[0, 0])
    second = torch.distributions.Categorical(logits=logits[:, 1])
    total = (first.entropy() + (first.probs * second.entropy()).sum()) / (2 if aggregate == "sequence" else 1)
    params = list(engine._trainable.values())
    return torch.autograd.grad(total, params)


def accumulated(engine, recipe):
    """What the learner gathers from the recipe's lessons on all texts of two tokens. Only the first is written out: no entropy depends on
    the second, so that its score-function term is 0 in the mean, and left out. Weights are probabilities here, not shares of a sample."""
    prompt, size = prompt_of(engine), engine.model.config.vocab_size
    blank = [Attempt("t", 0, prompt, (v, 5), "", "length", (), ()) for v in range(size)]
    found = engine.score(blank, temperature=recipe.temperature)
    groups = [
        Group(TASK, (dataclasses.replace(a, logprobs=s.logprobs, entropies=s.entropies),))
        for a, s in zip(blank, found, strict=True)
    ]
    lessons = recipe.learn(round_of(), groups, recipe.verify(round_of(), groups))
    lessons = [dataclasses.replace(x, advantage=(x.advantage[0], 0.0)) if x.advantage else x for x in lessons]
    weight = torch.tensor(
        [math.exp(s.logprobs[0]) / (2 if recipe.aggregate == "sequence" else 1) for s in found for _ in range(2)]
    )
    learner = engine._learner()
    learner._micro(lessons, weight, recipe.update(round_of()))
    grads = [m.grad.clone() if m.grad is not None else torch.zeros_like(m) for m in learner.masters]
    for m in learner.masters:
        m.grad = None
    return grads


@pytest.mark.parametrize("recipe", [EMFT(lr=1e-3), OneShotEM(lr=1e-3), Entropy(lr=1e-3), Entropy(lr=1e-3, aggregate="sequence")])
def test_a_few_steps_lower_the_entropy(tiny, recipe):
    engine = tiny()
    round = round_of(engine)
    how = Sampling(32, 6, recipe.temperature)

    def mean():
        return np.mean([sum(a.entropies) / len(a.entropies) for a in engine.sample([("t", TASK.prompt)], how, seed="look")[0]])

    before = mean()
    for n in range(4):
        g = Group(TASK, tuple(engine.sample([("t", TASK.prompt)], how, seed=str(n))[0]))
        engine.train(recipe.learn(round, [g], recipe.verify(round, [g])), recipe.update(round))
    assert mean() < before - 0.01


# --- each recipe


@pytest.mark.parametrize("recipe", [EMFT(), OneShotEM(), Entropy()])
def test_rewards_teach_these_nothing_and_controls_are_refused(recipe):
    g = tries(((-1,), (0.5,)), ((-1,), (0.1,)), ((-1,), (0.3,)))
    low, high = (recipe.learn(round_of(), [g], [verdicts(*row)]) for row in ((0.0, 1.0, 0.5), (9.0, 0.0, 1.0)))
    assert low == high and len(low) == 3 and not recipe.contrast
    assert (
        len(recipe.learn(round_of(), [g], [verdicts(0.0, None, 1.0)])) == 2
    )  # an abstention is heeded: it may be a held-out task
    with pytest.raises(SealBroken):
        recipe.learn(round_of(), [Group(Anchor("t", "x"), g.attempts)], [verdicts(0.0, 1.0, 0.5)])
    with pytest.raises(UserError, match="control=random.*no-op"):
        dataclasses.replace(recipe, control="random")
    with pytest.raises(UserError, match="kl_in=reward"):
        dataclasses.replace(recipe, kl=0.1, kl_in="reward")
    assert dataclasses.replace(recipe, control="no-op").control == "no-op"
    for given in ({"labels": "fixed"}, {"on_alarm": "rollback", "mitigation": "labels"}):
        with pytest.raises(UserError, match="labels.*no reward"):
            refuse_mitigation(*configure(recipe.name, given))
        refuse_mitigation(*configure("em_rl", given))


def test_em_ft_has_entropy_as_its_loss_and_no_advantage():
    g = tries(((-1,) * 2, (0.5, 0.1)))
    refs = [[Scores((-2.0, -2.0), (0.0, 0.0))]]
    only = EMFT().learn(round_of(), [g], EMFT().verify(round_of(), [g]), refs)
    how = EMFT().update(round_of())
    assert (only[0].advantage, only[0].ref_logprobs, how.entropy, how.aggregate) == (0.0, (-2.0, -2.0), 1.0, "sequence")
    assert EMFT().samples == 1 and EMFT().verify(round_of(), [g])[0][0].score == pytest.approx(-0.3)


def test_terms_of_the_entropy_are_switched_apart():
    g = tries(((-1,) * 2, (0.5, 0.1)), ((-1,) * 2, (0.2, 0.4)))
    told = {}
    for terms in ("both", "direct", "score"):
        recipe = Entropy(terms=terms)
        out = recipe.learn(round_of(), [g], recipe.verify(round_of(), [g]))
        told[terms] = (recipe.update(round_of()).entropy, any(any(x.advantage) if x.advantage else False for x in out))
    assert told == {"both": (1.0, True), "direct": (1.0, False), "score": (0.0, True)}
    for aggregate, formula in (("constant", entropy.of_the_sum), ("sequence", entropy.of_the_mean)):
        recipe = Entropy(aggregate=aggregate)
        out = recipe.learn(round_of(), [g], recipe.verify(round_of(), [g]))
        assert [x.advantage for x in out] == formula(g.attempts) and recipe.update(round_of()).aggregate == aggregate
    for given in ({"updates": 2}, {"top_p": 0.9}):
        with pytest.raises(UserError, match="terms=direct"):
            Entropy(**given)
        Entropy(terms="direct", **given)
    with pytest.raises(UserError, match="aggregate='token'"):
        configure("entropy", {"aggregate": "token"})


def test_one_prompt_at_temperature_one_half():
    practice = [Practice(str(i), str(i)) for i in range(5)]
    recipe = OneShotEM()
    assert [t.id for n in (1, 2) for t in recipe.propose(dataclasses.replace(round_of(practice=practice), number=n))] == [
        "0",
        "0",
    ]
    named = OneShotEM(prompt_id="3")
    assert [t.id for t in named.propose(round_of(practice=practice))] == ["3"]
    with pytest.raises(UserError, match="prompt_id='9'"):
        OneShotEM(prompt_id="9").refuse(round_of(practice=practice).tasks, None)  # type: ignore[arg-type]
    how = recipe.update(round_of())
    assert (how.temperature, how.aggregate, how.entropy, recipe.rounds) == (0.5, "token", 1.0, 10)
    with pytest.raises(UserError, match="prompts=2"):
        configure("one_shot_em", {"prompts": 2})


def test_em_rl_rewards_and_baseline():
    g = tries(((-1.0, -2.0), (0.5, 0.1)), ((-0.5,), (0.9,)))
    sequence, token = EMRL(), EMRL(reward="token")
    assert [v.score for v in sequence.verify(round_of(), [g])[0]] == [-3.0, -0.5]
    rows = token.verify(round_of(), [g])
    assert [v.score for v in rows[0]] == pytest.approx([-0.6, -0.9])
    assert [x.advantage for x in token.learn(round_of(), [g], rows)] == pytest.approx(advantages.rloo([-0.6, -0.9]))
    assert sequence.update(round_of()).aggregate == "constant" and sequence.update(round_of()).entropy == 0.0


def test_rent_can_fine_what_has_no_answer():
    g = group("1", None)
    assert [v.score for v in RENT().verify(round_of(), [g])[0]] == pytest.approx([-0.1, -0.1])
    assert [v.score for v in RENT(penalty=7).verify(round_of(), [g])[0]] == pytest.approx([-0.1, -7])


class Judge:
    """An engine that scores with given certainties, and says what it is told to when it is asked."""

    chat = True

    def __init__(self, certainties=(), says=()):
        self.certainties, self.says, self.asked = certainties, iter(says), []

    def score(self, attempts, *, weights="policy", temperature=1.0):
        self.asked.append((weights, temperature))
        return [Scores((), (), c) for c in self.certainties]

    def sample(self, prompts, how, *, seed):
        self.asked.append((prompts, how.temperature, seed))
        return [[dataclasses.replace(attempt("x", task=name), text=next(self.says))] for name, _ in prompts]


def test_intuitor_asks_the_policy_as_it_is_now():
    engine = Judge([(1.0, 3.0), (4.0,)])
    g = group("1", "2")
    recipe = Intuitor(temperature=0.8)
    rows = recipe.verify(round_of(engine), [g])
    assert [v.score for v in rows[0]] == [2.0, 4.0] and engine.asked == [("policy", 0.8)]
    assert [x.advantage for x in recipe.learn(round_of(engine), [g], rows)] == pytest.approx(advantages.grpo([2.0, 4.0]))


def test_urlvr_has_a_choice_of_rewards():
    g = tries(((-1.0, -2.0), (0.5, 0.1)), ((-0.5,), (0.9,)))
    wanted = {"token_entropy": [-0.3, -0.9], "trajectory_entropy": [-1.5, -0.5], "probability": [math.exp(-3), math.exp(-0.5)]}
    for reward, scores in wanted.items():
        assert [v.score for v in URLVR(reward=reward).verify(round_of(), [g])[0]] == pytest.approx(scores)
    engine = Judge([(1.0, 3.0), (4.0,)])
    assert [v.score for v in URLVR().verify(round_of(engine), [g])[0]] == [2.0, 4.0]
    assert [v.score for v in URLVR(reward="majority").verify(round_of(), [group("1", "2", "2")])[0]] == [0, 1, 1]


def test_hybrid_votes_only_where_no_attempt_is_right():
    some, none = group("1", "1", "2"), group("1", "1", "3", task=Practice("u", "x"))
    recipe = URLVR(reward="hybrid")
    rows = recipe.verify(round_of(answers={"t": "2", "u": "2"}), [some, none])
    assert [[v.score for v in row] for row in rows] == [[0, 0, 1], [1, 1, 0]]
    assert [row[0].source for row in rows] == [Source.GROUND, Source.SELF]
    assert recipe.sources == {Source.GROUND, Source.SELF} and URLVR().sources == {Source.SELF}
    with pytest.raises(UserError, match="1 practice tasks have no answer.*reward=majority"):
        recipe.refuse(round_of().tasks, None)  # type: ignore[arg-type]
    URLVR().refuse(round_of().tasks, None)  # type: ignore[arg-type]


def test_a_model_judges_its_own_attempts():
    g = group("15", None, "16", "17")
    engine = Judge(says=["7 + 8 is 15. Yes", "it is not: No.", "perhaps"])
    row = URLVR(reward="self_verify").verify(round_of(engine), [g])[0]
    assert (
        [v.score for v in row] == [1, 0, 0, None] and row[0].parts == {"judge": 1.0} and {v.source for v in row} == {Source.SELF}
    )
    prompts, temperature, seed = engine.asked[0]
    assert temperature == 0.5 and seed == "0/1/judge" and [name for name, _ in prompts] == ["t#0", "t#2", "t#3"]
    assert "1 + 1 =" in prompts[0][1][0].content and "16" in prompts[1][1][0].content
    assert [v.score for v in judged(group("1"), ["No, wait: yes"])] == [1.0]
    assert [v.score for v in judged(group("1"), ["nobody knows yesterday"])] == [None]
    assert all(type(task) is Practice for task in questions(g))


# --- whole runs

SMALL = (
    "rounds=2", "prompts=8", "samples=4", "anchor_every=2", "n_anchor=5", "n_exam=10", "max_tokens=5", "extract=number", "on_alarm=note",
)  # fmt: skip


RECIPES = [
    ("em_ft", ()), ("em_rl", ()), ("em_rl", ("reward=token", "kl=0.001")), ("entropy", ("kl=0.001",)), ("rent", ("penalty=7",)),
    ("one_shot_em", ("prompts=1",)), ("intuitor", ("updates=2",)), ("urlvr", ("reward=probability",)), ("urlvr", ("reward=hybrid",)),
]  # fmt: skip


@pytest.mark.parametrize(("recipe", "more"), RECIPES)
def test_two_rounds_of_each(capsys, monkeypatch, tmp_path, recipe, more):
    given = {pair.split("=")[0]: pair for pair in (*SMALL, *more)}
    args = ("--model", "tiny", "--tasks", digits(tmp_path / "d.jsonl", 60), "--run-dir", tmp_path / "r", "--json")
    code, out, err = run_cli(capsys, monkeypatch, "run", recipe, *given.values(), *args)
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["recipe"], summary["rounds"], summary["source"]) == (recipe, 2, "self") and summary["tokens_trained"] > 0
    events = lines(tmp_path / "r/events.jsonl")[1:]
    assert all(math.isfinite(e["train"]["loss"]) and e["train"]["grad_norm"] > 0 for e in events)


def test_self_verification_runs_in_the_loop(monkeypatch, tmp_path):
    """The tiny model says neither yes nor no, so that everything abstains and nothing is learned: but it is asked."""
    from antaeus import api, loop

    monkeypatch.setattr(loop, "refuse_without_signal", lambda *_: None)
    given = dict(pair.split("=") for pair in SMALL)
    tasks = str(digits(tmp_path / "d.jsonl", 60))
    api.run("urlvr", reward="self_verify", model="tiny", tasks=tasks, run_dir=tmp_path / "r", **given)
    practice = [
        a["verdict"]["why"] for g in lines(tmp_path / "r/attempts.jsonl") if g["set"] == "practice" for a in g["attempts"]
    ]
    assert {"no answer", "the model said neither yes nor no"} >= set(practice) and len(set(practice)) == 2
