"""Updates: the gradient of the formula, however the batch is packed, shared, chunked and cut; the step on the masters."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers import logprobs
from torch import Tensor
from transformers import AutoModelForCausalLM

from antaeus.engine import attention
from antaeus.engine import update as updating
from antaeus.engine.base import Update
from antaeus.engine.forward import Net
from antaeus.engine.losses import clipped_surrogate, k3, logprobs_of, token_weights
from antaeus.engine.update import Learner, micro_batches
from antaeus.errors import UserError
from antaeus.types import Lesson, Practice

ALL = 10**9  # micro-batch of everything
HOW = Update(lr=1e-3, max_tokens=16, temperature=0.8)
SHARED = tuple(range(30, 50))
LONG = tuple(3 + (7 * i) % 90 for i in range(90))


def lesson(prompt: Sequence[int], ids: Sequence[int], advantage: float, **more: Any) -> Lesson:
    return Lesson(Practice("task", ""), tuple(prompt), tuple(ids), advantage, **more)


def completion(seed: int, length: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, 99, (length,), generator=torch.Generator().manual_seed(seed)).tolist())


def group(prompt: Sequence[int], seed: int, lengths: Sequence[int], advantages: Sequence[float]) -> list[Lesson]:
    return [lesson(prompt, completion(seed + i, n), a) for i, (n, a) in enumerate(zip(lengths, advantages, strict=True))]


SHORT_BATCH = [
    *group((*SHARED, 5), 0, (1, 2, 12, 7), (1.5, -0.5, -0.5, 0.7)),
    *group((*SHARED, 6, 7, 8), 10, (3, 3), (0.4, -1.0)),
    *group((9,), 20, (5, 1), (1.0, -1.0)),
]
SHARING_BATCH = [row for row in SHORT_BATCH if row.prompt_ids[:5] == SHARED[:5]]
LONG_BATCH = [*group(LONG, 30, (70, 4), (1.0, -1.0)), *group(LONG[:80], 40, (1, 66), (0.3, -0.3)), *SHORT_BATCH[:3]]
ONE_TOKEN_BATCH = [*group((*SHARED, 5), 50, (1, 1), (1.0, -1.0)), *group((*SHARED, 6), 60, (1, 2), (1.0, -1.0))]
BATCHES = {
    "short": SHORT_BATCH,
    "sharing": SHARING_BATCH,
    "long": LONG_BATCH,
    "one token": ONE_TOKEN_BATCH,
    "one": SHORT_BATCH[2:3],
}


@pytest.fixture(scope="module")
def plain(tiny_folder: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_folder, attn_implementation="eager").eval()


@pytest.fixture
def learner(tiny: Callable[..., Any]) -> Learner:
    return tiny()._learner()


def naive(model: Any, row: Lesson, temperature: float) -> Tensor:
    """Log-probabilities of one completion by an ordinary pass, differentiable."""
    ids, start = torch.tensor([[*row.prompt_ids, *row.ids]]), len(row.prompt_ids)
    logp = (model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1] / temperature).log_softmax(-1)
    return logp.gather(-1, ids[0, start:, None])[:, 0]


def off_policy(model: Any, rows: Sequence[Lesson], temperature: float) -> list[Lesson]:
    """The same lessons, sampled by a policy whose ratios reach both bounds and the dual clip, with a reference."""
    out = []
    for i, row in enumerate(rows):
        logp = naive(model, row, temperature).detach()
        shift = torch.linspace(-1.6, 1.0, len(logp) + i) if len(logp) + i > 1 else torch.tensor([0.1])
        ref = logp + 0.3 * torch.cos(torch.arange(len(logp)))
        out.append(replace(row, logprobs=tuple((logp + shift[: len(logp)]).tolist()), ref_logprobs=tuple(ref.tolist())))
    return out


def naive_loss(model: Any, rows: Sequence[Lesson], how: Update) -> Tensor:
    """The published formulas, token after token, as one reads them."""
    total = torch.zeros(())
    for row in rows:
        logp = naive(model, row, how.temperature)
        old = logp.detach() if row.logprobs is None else torch.tensor(row.logprobs)
        losses = []
        for t in range(len(row.ids)):
            ratio, a = torch.exp(logp[t] - old[t]), row.advantage
            gain = torch.minimum(ratio * a, torch.clamp(ratio, 1 - how.clip_low, 1 + how.clip_high) * a)
            if a < 0 and how.dual_clip:
                gain = torch.maximum(gain, torch.tensor(how.dual_clip * a))
            loss = -gain
            if row.ref_logprobs is not None:
                d = row.ref_logprobs[t] - logp[t]
                loss = loss + how.kl * (torch.exp(d) - d - 1)
            losses.append(loss)
        row_sum = torch.stack(losses).sum()
        by = {
            "token": sum(len(r.ids) for r in rows),
            "sequence": len(row.ids) * len(rows),
            "constant": len(rows) * how.max_tokens,
        }
        total = total + row_sum / by[how.aggregate]
    return total


def gradients(learner: Learner) -> list[Tensor]:
    out = [torch.zeros_like(m) if m.grad is None else m.grad.clone() for m in learner.masters]
    learner.adam.zero_grad()
    return out


def naive_gradients(model: Any, learner: Learner, loss: Tensor) -> list[Tensor]:
    names = {p: n for n, p in learner.net.model.named_parameters()}
    own = dict(model.named_parameters())
    return list(torch.autograd.grad(loss, [own[names[p]] for p in learner.params]))


def close(a: Sequence[Tensor], b: Sequence[Tensor]) -> None:
    size = max(float(t.abs().max()) for t in b)
    assert size > 1e-6
    for mine, theirs in zip(a, b, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=2e-5 * size)


# the gradient


@pytest.mark.parametrize("aggregate", ["token", "sequence", "constant"])
@pytest.mark.parametrize(("batch", "few"), [*((name, 256) for name in BATCHES), ("long", 64)])
def test_the_gradient_is_that_of_the_formula(
    learner: Learner, plain: Any, batch: str, few: int, aggregate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updating, "CHUNK", 7)
    monkeypatch.setattr(attention, "FEW_TAUGHT", few)  # queries beyond which PyTorch's own attention is used
    how = replace(HOW, aggregate=aggregate, kl=0.1, clip_high=0.28)
    for rows in (BATCHES[batch], off_policy(plain, BATCHES[batch], how.temperature)):
        loss, _, _ = learner.backward(rows, how, ALL)
        expected = naive_loss(plain, rows, how)
        assert loss == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
        close(gradients(learner), naive_gradients(plain, learner, expected))


@pytest.mark.parametrize(("bound", "most"), [("CHUNK", 7), ("LOGITS", 7 * 99)])  # tokens; logits of 99 characters
def test_no_more_than_a_chunk_of_logits_exists(learner: Learner, bound: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk's loss is differentiated, and its logits gone, before the next is computed."""
    alive: list[weakref.ref[Tensor]] = []
    real = Net.logits

    def watched(net: Net, hidden: Tensor) -> Tensor:
        assert len(hidden) <= 7 and not any(old() is not None for old in alive)
        logits = real(net, hidden)
        alive.append(weakref.ref(logits))
        return logits

    monkeypatch.setattr(updating, bound, most)
    monkeypatch.setattr(Net, "logits", watched)
    learner.backward(BATCHES["long"], HOW, ALL)
    assert len(alive) > 3


def test_lessons_with_and_without_log_probabilities_mix(learner: Learner, plain: Any) -> None:
    """Those without are on policy; a KL term holds for those that carry the reference's."""
    how = replace(HOW, kl=0.1)
    rows = off_policy(plain, SHORT_BATCH, how.temperature)
    mixed = [row if i % 2 else replace(row, logprobs=None, ref_logprobs=None) for i, row in enumerate(rows)]
    learner.backward(mixed, how, ALL)
    expected = naive_loss(plain, mixed, how)
    close(gradients(learner), naive_gradients(plain, learner, expected))


def test_a_broken_log_probability_is_not_taken_for_none(tiny: Any) -> None:
    learner = tiny()._learner()
    before = [m.clone() for m in learner.masters]
    broken = [replace(row, logprobs=(math.nan,) * len(row.ids)) for row in SHORT_BATCH]
    assert math.isnan(learner.step(broken, HOW, ALL).loss)  # which the loop logs with an alarm
    assert all(map(torch.equal, before, learner.masters))


def test_the_batches_above_reach_every_bound(plain: Any) -> None:
    """Lower and upper clip, dual clip, and ratios inside: else the test above could not see them."""
    rows = off_policy(plain, SHORT_BATCH, 1.0)
    ratio = torch.cat([torch.exp(naive(plain, row, 1.0).detach() - torch.tensor(row.logprobs)) for row in rows])
    sign = torch.cat([torch.full((len(row.ids),), row.advantage) for row in rows])
    assert ((ratio > 1.28) & (sign > 0)).any() and ((ratio < 0.8) & (sign < 0)).any() and ((ratio > 3) & (sign < 0)).any()
    assert ((ratio > 0.8) & (ratio < 1.2)).any()


@pytest.mark.parametrize("max_tokens", [1, 60, 200])
@pytest.mark.parametrize("aggregate", ["token", "sequence", "constant"])
def test_micro_batches_do_not_matter(learner: Learner, plain: Any, max_tokens: int, aggregate: Any) -> None:
    how, rows = replace(HOW, aggregate=aggregate, kl=0.1), off_policy(plain, [*LONG_BATCH, *SHORT_BATCH], 0.8)
    whole = learner.backward(rows, how, ALL)
    one = gradients(learner)
    parts = learner.backward(rows, how, max_tokens)
    close(gradients(learner), one)
    assert parts == pytest.approx(whole, rel=1e-4)
    assert len(list(micro_batches(rows, max_tokens))) > (5 if max_tokens == 60 else 1)


def test_memory_that_runs_out_halves_the_micro_batches(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of the backward pass: what was accumulated by then does not count twice."""
    rows, real, sizes = [*LONG_BATCH, *SHORT_BATCH], updating._states, []
    whole, short = tiny()._learner(), tiny()._learner()
    whole.step(rows, HOW, ALL)

    def scarce(net: Any, batch: Any) -> tuple[Tensor, Tensor]:
        hidden, ids = real(net, batch)
        sizes.append(len(batch))
        if len(batch) > 4:
            weight = net.body.layers[0].self_attn.q_proj.weight
            weight.grad = torch.ones_like(weight)  # as if it happened half-way
            raise torch.OutOfMemoryError("CUDA out of memory")
        return hidden, ids

    monkeypatch.setattr(updating, "_states", scarce)
    short.step(rows, HOW, 400)
    assert max(sizes) > 4 >= sizes[-1]
    close(short.masters, whole.masters)
    monkeypatch.setattr(updating, "_states", lambda *args: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(UserError, match="out of memory in an update"):
        short.step(rows, HOW, 400)


def test_the_order_of_lessons_does_not_matter(learner: Learner) -> None:
    learner.backward(SHORT_BATCH, HOW, ALL)
    one = gradients(learner)
    learner.backward([SHORT_BATCH[i] for i in (5, 0, 7, 2, 4, 1, 6, 3)], HOW, ALL)
    close(gradients(learner), one)


@pytest.mark.parametrize("aggregate", ["token", "sequence", "constant"])
def test_lessons_without_advantage_only_count(learner: Learner, aggregate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    compute = updating._states

    def watched(net: Any, rows: Any) -> tuple[Tensor, Tensor]:
        seen.extend(rows)
        return compute(net, rows)

    monkeypatch.setattr(updating, "_states", watched)
    how, idle = replace(HOW, aggregate=aggregate), group((80, 81), 70, (4, 6, 9), (0.0, 0.0, 0.0))
    learner.backward(SHORT_BATCH, how, ALL)
    alone = gradients(learner)
    assert len(seen) == len(SHORT_BATCH)
    learner.backward([*idle, *SHORT_BATCH], how, ALL)
    assert len(seen) == 2 * len(SHORT_BATCH)
    n = {"token": [len(r.ids) for r in SHORT_BATCH], "sequence": [1] * 8, "constant": [1] * 8}[aggregate]
    more = {"token": 19, "sequence": 3, "constant": 3}[aggregate]
    close(gradients(learner), [g * sum(n) / (sum(n) + more) for g in alone])
    learner.backward([replace(row, ref_logprobs=(-1.0,) * len(row.ids)) for row in idle], replace(how, kl=0.1), ALL)
    assert len(seen) == 2 * len(SHORT_BATCH) + 3  # with a KL term they do teach


def test_no_token_is_read_twice_and_none_for_nothing(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    read, extend = [0], Net.extend

    def watched(net: Net, context: Any, ids: Tensor, real: Tensor) -> Tensor:
        read[0] += int(real.sum())
        return extend(net, context, ids, real)

    monkeypatch.setattr(Net, "extend", watched)
    logprobs(learner.net, [(row.prompt_ids, row.ids) for row in SHARING_BATCH], 1.0)
    own = len((5,)) + len((6, 7, 8))  # behind the common beginning; the state after a last token is asked for by nobody
    assert read[0] == len(SHARED) + own + sum(len(row.ids) - 1 for row in SHARING_BATCH)


def test_without_any_advantage_nothing_happens(learner: Learner) -> None:
    before = [p.clone() for p in learner.params]
    for rows in (group((80, 81), 70, (4, 6), (0.0, 0.0)), []):
        trained = learner.step(rows, HOW, ALL)
        assert (trained.loss, trained.grad_norm, trained.clip_fraction, trained.tokens) == (0.0, 0.0, 0.0, 10 if rows else 0)
    assert all(map(torch.equal, before, learner.params)) and not learner.adam.state


def test_on_policy_the_ratio_is_one(learner: Learner, plain: Any) -> None:
    fresh = learner.backward(SHORT_BATCH, HOW, ALL)
    one = gradients(learner)
    same = [replace(row, logprobs=tuple(naive(plain, row, HOW.temperature).tolist())) for row in SHORT_BATCH]
    told = learner.backward(same, HOW, ALL)
    close(gradients(learner), one)
    assert fresh[1] == told[1] == 0.0 and fresh[0] == pytest.approx(told[0], abs=1e-5)
    expected = -sum(row.advantage * len(row.ids) for row in SHORT_BATCH) / sum(len(row.ids) for row in SHORT_BATCH)
    assert fresh[0] == pytest.approx(expected, abs=1e-6)


def test_the_samplers_logprobs_are_the_ratios_denominator(learner: Learner, plain: Any) -> None:
    def shifted(by: float, advantage: float) -> list[Lesson]:
        logp = [naive(plain, row, HOW.temperature).detach() + by for row in SHORT_BATCH]
        return [replace(r, advantage=advantage, logprobs=tuple(x.tolist())) for r, x in zip(SHORT_BATCH, logp, strict=True)]

    loss, clipped, _ = learner.backward(shifted(-math.log(1.5), 1.0), HOW, ALL)  # ratio 1.5 everywhere
    assert clipped == 1.0 and loss == pytest.approx(-1.2, abs=1e-4)
    assert all(not g.any() for g in gradients(learner))
    loss, clipped, _ = learner.backward(shifted(-math.log(1.5), -1.0), HOW, ALL)
    assert clipped == 0.0 and loss == pytest.approx(1.5, abs=1e-4)
    loss, clipped, _ = learner.backward(shifted(-math.log(4.0), -1.0), HOW, ALL)  # the dual clip
    assert clipped == 1.0 and loss == pytest.approx(3.0, abs=1e-4)
    loss, clipped, _ = learner.backward(shifted(-math.log(4.0), -1.0), replace(HOW, dual_clip=0.0), ALL)
    assert clipped == 0.0 and loss == pytest.approx(4.0, abs=1e-3)


def test_the_reported_kl_is_the_mean_over_all_tokens(learner: Learner, plain: Any) -> None:
    rows = off_policy(plain, SHORT_BATCH, HOW.temperature)
    _, _, kl = learner.backward(rows, HOW, ALL)
    d = torch.cat([torch.tensor(r.ref_logprobs) - naive(plain, r, HOW.temperature).detach() for r in rows])
    assert kl == pytest.approx((d.exp() - d - 1).mean().item(), rel=1e-3)


def test_log_probabilities_and_their_gradient_are_cross_entropys() -> None:
    torch.manual_seed(0)
    logits, ids = torch.randn(7, 300, dtype=torch.float32) * 5, torch.randint(0, 300, (7,))
    logits[2, :290] = float("-inf")  # tokens that are ruled out
    ids[2], slope = 295, torch.randn(7)
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    logp, expected = logprobs_of(mine, ids), -torch.nn.functional.cross_entropy(theirs, ids, reduction="none")
    torch.testing.assert_close(logp, expected)
    logp.backward(slope, retain_graph=True)
    expected.backward(slope)
    torch.testing.assert_close(mine.grad, theirs.grad)
    with pytest.raises(AttributeError):
        logp.backward(slope)  # rather than a wrong gradient


def test_extreme_ratios_keep_loss_and_gradient_finite() -> None:
    logp = torch.tensor([-1.0, -1.0, -200.0, -200.0], requires_grad=True)
    old, advantage = torch.tensor([-150.0, -150.0, -1.0, -1.0]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    for dual in (0.0, 3.0):
        loss, _ = clipped_surrogate(logp, old, advantage, replace(HOW, dual_clip=dual))
        kl = k3(logp, torch.tensor([0.0, -150.0, 0.0, -0.5]))
        (gradient,) = torch.autograd.grad((loss + kl).sum(), logp)
        assert loss.isfinite().all() and kl.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("aggregate", ["token", "sequence", "constant"])
def test_token_weights(aggregate: Any) -> None:
    weights = token_weights(torch.tensor([1, 4, 3]), replace(HOW, aggregate=aggregate, max_tokens=10))
    expected = {"token": [1 / 8] * 8, "sequence": [1 / 3, *[1 / 12] * 4, *[1 / 9] * 3], "constant": [1 / 30] * 8}[aggregate]
    assert weights.tolist() == pytest.approx(expected)


# micro-batches


@pytest.mark.parametrize("max_tokens", [1, 40, 100, 300, ALL])
def test_micro_batches_hold_everything_once_and_stay_small(max_tokens: int) -> None:
    rows = [*LONG_BATCH, *SHORT_BATCH, *ONE_TOKEN_BATCH]
    cut = list(micro_batches(rows, max_tokens))
    assert sorted(i for batch in cut for i in batch) == list(range(len(rows)))
    for batch in cut:
        prompts = {rows[i].prompt_ids for i in batch}
        longest = max(len(rows[i].ids) for i in batch)
        cost = sum(map(len, prompts)) + len(batch) * (longest + (max(map(len, prompts)) + longest) / 8)
        assert len(batch) == 1 or cost <= max_tokens
    assert (len(cut) == 1) == (max_tokens == ALL)
    order = [rows[i].prompt_ids for batch in cut for i in batch]
    assert sum(a != b for a, b in pairwise(order)) == len(set(order)) - 1  # a prompt's rows stay together
    assert list(micro_batches([], 100)) == []


# the step


def test_the_gradient_is_clipped_and_its_norm_reported(learner: Learner) -> None:
    learner.backward(SHORT_BATCH, HOW, ALL)
    norm = torch.cat([g.flatten() for g in gradients(learner)]).norm().item()
    trained = learner.step(SHORT_BATCH, replace(HOW, max_grad_norm=norm / 10), ALL)
    assert trained.grad_norm == pytest.approx(norm, rel=1e-4)
    first_moment = torch.cat([learner.adam.state[m]["exp_avg"].flatten() for m in learner.masters]).norm().item()
    assert first_moment == pytest.approx(0.1 * norm / 10, rel=1e-3)  # 1 - beta1 times the clipped gradient


def test_a_step_is_adam_without_decay(learner: Learner) -> None:
    before = [m.clone() for m in learner.masters]
    learner.backward(SHORT_BATCH, HOW, ALL)
    moved = gradients(learner)
    learner.step(SHORT_BATCH, replace(HOW, max_grad_norm=math.inf), ALL)
    for old, new, g in zip(before, learner.masters, moved, strict=True):
        torch.testing.assert_close(new, old - 1e-3 * g / (g.abs() + 1e-8), rtol=1e-4, atol=2e-5)  # Adam's first step


def test_the_step_raises_what_is_rewarded(learner: Learner, plain: Any) -> None:
    rows = group((*SHARED, 5), 0, (8, 8), (1.0, -1.0))
    before = [naive(plain, row, 1.0).sum().item() for row in rows]
    for _ in range(5):
        learner.step(rows, HOW, ALL)
    after = [naive(learner.net.model, row, 1.0).sum().item() for row in rows]
    assert after[0] > before[0] + 1 and after[1] < before[1] - 1


def test_gradients_that_are_not_finite_are_not_taken(learner: Learner) -> None:
    learner.step(SHORT_BATCH, HOW, ALL)
    before = [t.clone() for t in learner.state().values()]
    for bad in (math.inf, math.nan):
        assert not math.isfinite(learner.step([*SHORT_BATCH, lesson((9,), (5, 6), bad)], HOW, ALL).grad_norm)
        assert all(map(torch.equal, before, learner.state().values())) and all(m.grad is None for m in learner.masters)
    assert learner.step(SHORT_BATCH, HOW, ALL).grad_norm > 0  # and it goes on
    assert not any(map(torch.equal, before, learner.state().values()))


def test_no_learning_rate_no_change(learner: Learner) -> None:
    before = [p.clone() for p in learner.params]
    trained = learner.step(SHORT_BATCH, replace(HOW, lr=0.0), ALL)
    assert trained.grad_norm > 0 and all(map(torch.equal, before, learner.params))


def test_small_steps_add_up_in_the_masters(tiny: Callable[..., Any]) -> None:
    """Steps too small for bfloat16 weights, one by one, reach them in the end; without masters all of them would be lost."""
    learner = tiny(dtype="bfloat16")._learner()
    rows, how = group((*SHARED, 5), 0, (8, 8), (1.0, -1.0)), replace(HOW, lr=2e-6, aggregate="constant")
    before, start = [p.clone() for p in learner.params], [m.clone() for m in learner.masters]
    learner.step(rows, how, ALL)
    moved = [m - s for m, s in zip(learner.masters, start, strict=True)]
    big = [s.abs() > 2**-9 for s in start]  # smaller weights have a finer grid
    assert all(step[at].abs().max() > 1e-6 for step, at in zip(moved, big, strict=True))
    lost = torch.cat([((b + m.bfloat16()) == b)[at] for b, m, at in zip(before, moved, big, strict=True)])
    assert lost.all()
    for _ in range(99):
        learner.step(rows, how, ALL)
    changed = torch.cat([(p != b)[at] for p, b, at in zip(learner.params, before, big, strict=True)])
    drift = torch.cat([(m - s).abs()[at] for m, s, at in zip(learner.masters, start, big, strict=True)])
    assert drift.median() > 5e-5 and changed.float().mean() > 0.02
    assert all(torch.equal(p, m.bfloat16()) for p, m in zip(learner.params, learner.masters, strict=True))


def test_a_restored_learner_takes_the_same_next_step(tiny: Callable[..., Any]) -> None:
    one, other = tiny()._learner(), tiny()._learner()
    for _ in range(2):
        one.step(SHORT_BATCH, HOW, ALL)
    saved = {k: v.clone() for k, v in one.state().items()}
    other.step(SHARING_BATCH, replace(HOW, lr=0.1), ALL)  # it has been elsewhere
    other.restore(saved)
    for learner in (one, other):
        learner.step(SHORT_BATCH[:4], HOW, ALL)
    assert all(torch.equal(a, b) for a, b in zip(one.params, other.params, strict=True))
    assert one.state().keys() == other.state().keys()
    assert all(torch.equal(v, other.state()[k]) for k, v in one.state().items())
    assert not any(torch.equal(v, saved[k]) for k, v in one.state().items())
    one.restore(saved)
    assert all(torch.equal(v, saved[k]) for k, v in one.state().items())


def test_a_learner_restored_to_before_its_first_step_is_new(tiny: Callable[..., Any]) -> None:
    one, other = tiny()._learner(), tiny()._learner()
    saved = {k: v.clone() for k, v in one.state().items()}
    one.step(SHARING_BATCH, HOW, ALL)
    one.restore(saved)
    results = [learner.step(SHORT_BATCH, HOW, ALL) for learner in (one, other)]
    assert results[0] == results[1] and all(map(torch.equal, one.params, other.params))


def test_an_adapters_learner_moves_nothing_else(tiny: Callable[..., Any]) -> None:
    engine = tiny(lora=4)
    learner = engine._learner()
    before = {n: p.clone() for n, p in engine.model.named_parameters()}
    assert len(learner.masters) == sum("lora_" in n for n in before) == 2 * 2 * 7  # A and B, two layers of seven matrices
    for _ in range(2):  # B starts at zero, so A moves from the second step on
        learner.step(SHORT_BATCH, HOW, ALL)
    moved = {n for n, p in engine.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if "lora_" in n}
    assert all(p.grad is None for p in engine.model.parameters())


def test_a_closed_learner_hears_nothing(learner: Learner) -> None:
    learner.close()
    learner.backward(SHORT_BATCH, HOW, ALL)
    assert all(m.grad is None for m in learner.masters) and any(p.grad is not None for p in learner.params)
