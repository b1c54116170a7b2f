"""Losses, gradients and advantages are those of TRL (huggingface/trl, `GRPOTrainer` and `RLOOTrainer`), on TRL's own code paths.

Rewards, prompts and completions go through `_generate_and_score_completions` and `compute_loss` of a real trainer on one side, and
through `learn.lessons` and `Learner.backward` on the other; the gradient of every parameter is compared.

Where definitions differ, and how they are made to meet here:
* TRL divides by std + 1e-4, our `grpo` by std + 1e-6 (verl): compared with 1e-4.
* Our dual clip (1912.09729) is TRL's `delta` (two-sided clipping, INTELLECT-2) wherever delta >= 1 + epsilon_high. TRL has it off
  by default, ours is 3. A smaller delta also bounds positive advantages; the dual clip never does.
* TRL multiplies k3 by the importance ratio (`use_bias_correction_kl`, on by default, DeepSeek-V3.2), which changes its gradient
  even on-policy; ours, like verl and GRPO as published, does not: compared with that switch off.
* TRL clamps neither k3 nor log-ratios; ours are clamped to [-10, 10] and [-20, 20], as in verl. Equal while d = ref - logp is in
  [-10.9, 2.6].
* TRL's `RLOOTrainer` clips the ratio of whole sequences and sums their tokens; ours clips token by token. On-policy, its gradient
  is that of our "constant" aggregate with max_tokens 1; the loss values differ there (-mean A against -sum A over tokens / rows).
  Off-policy, RLOO's advantages are compared under the token ratio, where TRL's `GRPOTrainer` computes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import logprobs
from hypothesis import given
from hypothesis import strategies as st

from antaeus.engine import models
from antaeus.engine.base import Scores, Update
from antaeus.engine.forward import Net
from antaeus.engine.losses import clipped_surrogate, k3
from antaeus.engine.update import Learner
from antaeus.learn.advantages import dr_grpo, grpo, rloo
from antaeus.learn.policy_gradient import Advantage, lessons
from antaeus.types import Attempt, Group, Practice, Source, Verdict

PROMPTS = ("1 + 2 =", "a much longer prompt: 30 + 12 =", "7 * 8 is", "?")
LENGTHS = ((5, 1, 9, 3), (7, 7, 2, 4), (6, 12, 1, 8), (3, 5, 4, 2))
REWARDS = ((1.0, 0.0, 0.0, 0.25), (1.0, 1.0, 1.0, 0.0), (0.1, 0.9, -2.0, 0.3), (1.0, 1.0, 1.0, 1.0))
GROUP = len(LENGTHS[0])
MICRO = 60  # tokens a micro-batch: ours splits the batch several times, TRL's takes it whole


@pytest.fixture(scope="module")
def folder(tiny_folder: Path) -> str:
    return str(tiny_folder)


@pytest.fixture(scope="module")
def learner(folder: str) -> Learner:
    model, _ = models.load(folder, dtype=torch.float32, device="cpu")
    model.eval()
    return Learner(Net(model), list(model.parameters()))


@pytest.fixture(scope="module")
def groups(folder: str, learner: Learner) -> list[Group]:
    """Attempts of random tokens, sampled by a policy that is far enough from the learner for both clip bounds to be active."""
    _, tokenizer = models.load(folder, dtype=torch.float32, device="cpu")
    dice = torch.Generator().manual_seed(7)
    out = []
    for p, (prompt, lengths) in enumerate(zip(PROMPTS, LENGTHS, strict=True)):
        ids = tuple(tokenizer.encode(prompt))
        tries = [tuple(torch.randint(4, len(tokenizer), (n,), generator=dice).tolist()) for n in lengths]
        attempts = [_attempt(learner, f"p{p}", i, ids, own, dice) for i, own in enumerate(tries)]
        out.append(Group(Practice(f"p{p}", prompt), tuple(attempts)))
    return out


def _attempt(
    learner: Learner, task: str, index: int, prompt: tuple[int, ...], ids: tuple[int, ...], dice: torch.Generator
) -> Attempt:
    return Attempt(
        task, index, prompt, ids, text="", stop="length", entropies=(0.0,) * len(ids),
        logprobs=_off(learner, prompt, ids, 0.6, dice),
    )  # fmt: skip


def _off(learner: Learner, prompt: tuple[int, ...], ids: tuple[int, ...], by: float, dice: torch.Generator) -> tuple[float, ...]:
    """Log-probabilities of a policy `by` nats (standard deviation) a token away from the learner's."""
    with torch.no_grad():
        own = logprobs(learner.net, [(prompt, ids)], 1.0)
    return tuple((own + by * torch.randn(len(ids), generator=dice)).tolist())


def verdicts() -> list[list[Verdict]]:
    return [[Verdict(score, Source.SELF) for score in row] for row in REWARDS]


@pytest.fixture(scope="module")
def reference(learner: Learner, groups: list[Group]) -> list[list[Scores]]:
    dice = torch.Generator().manual_seed(11)
    return [[Scores(_off(learner, a.prompt_ids, a.ids, 0.4, dice), a.entropies) for a in g.attempts] for g in groups]


# --- TRL's side ---------------------------------------------------------------------------------------------------------


def trainer(kind: str, folder: str, out: Path, groups: list[Group], **settings: Any) -> Any:
    """A `GRPOTrainer` or `RLOOTrainer` whose rollouts are `groups` and whose rewards are `REWARDS`."""
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    rows = len(groups) * GROUP
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(out), report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
        model_init_kwargs={"dtype": "float32"}, per_device_train_batch_size=rows, num_generations=GROUP,
        max_completion_length=max(map(max, LENGTHS)), **settings,
    )  # fmt: skip
    built = getattr(trl, f"{kind}Trainer")(
        folder, lambda completions, **_: [r for row in REWARDS for r in row], config,
        datasets.Dataset.from_dict({"prompt": [g.task.prompt for g in groups]}),
    )  # fmt: skip
    flat = [a for g in groups for a in g.attempts]
    ids = [list(a.prompt_ids) for a in flat], [list(a.ids) for a in flat]
    texts = [""] * rows
    made = (*ids, texts) if kind == "RLOO" else (*ids, None, texts, None, {}, None, [])
    built._generate = lambda prompts: made
    built.model.train()
    built.current_gradient_accumulation_steps = 1
    return built


def scored(built: Any, groups: list[Group]) -> dict[str, Any]:
    """The trainer's own batch: padded ids, masks, advantages."""
    return built._generate_and_score_completions([{"prompt": g.task.prompt} for g in groups for _ in g.attempts])


def padded(rows: list[tuple[float, ...]]) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True)


def theirs(built: Any, batch: Mapping[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    loss = built.compute_loss(built.model, batch)
    loss.backward()
    return loss.item(), {n: p.grad for n, p in built.model.named_parameters()}


# --- ours ---------------------------------------------------------------------------------------------------------------


def ours(learner: Learner, taught: list[Any], how: Update) -> tuple[float, float, dict[str, torch.Tensor]]:
    learner.adam.zero_grad()
    loss, clipped, _ = learner.backward(taught, how, MICRO)
    names = [n for n, _ in learner.net.model.named_parameters()]
    return loss, clipped, {n: m.grad for n, m in zip(names, learner.masters, strict=True) if m.grad is not None}


def assert_same_gradients(mine: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert mine.keys() == other.keys() and len(mine) > 10
    for name, gradient in other.items():
        assert gradient.norm() > 0, name
        torch.testing.assert_close(mine[name], gradient, rtol=1e-3, atol=2e-6 * gradient.abs().max().item() + 1e-9, msg=name)


GRPO_EPS = partial(grpo, eps=1e-4)


@pytest.mark.parametrize(
    ("advantage", "scale", "loss_type", "aggregate"),
    [
        (GRPO_EPS, "group", "grpo", "sequence"),
        (GRPO_EPS, "group", "dapo", "token"),
        (GRPO_EPS, "group", "bnpo", "token"),
        (dr_grpo, "none", "dr_grpo", "constant"),
    ],
    ids=["grpo", "dapo", "bnpo", "dr_grpo"],
)
@pytest.mark.parametrize("beta", [0.0, 0.3], ids=["", "kl"])
@pytest.mark.parametrize("delta", [None, 1.5], ids=["", "dual"])
def test_loss_and_gradient_are_those_of_trl(
    folder: str, tmp_path: Path, learner: Learner, groups: list[Group], reference: list[list[Scores]],
    advantage: Advantage, scale: str, loss_type: str, aggregate: Any, beta: float, delta: float | None,
) -> None:  # fmt: skip
    built = trainer(
        "GRPO", folder, tmp_path, groups,
        loss_type=loss_type, scale_rewards=scale, beta=beta, use_bias_correction_kl=False,
        epsilon=0.2, epsilon_high=0.28, delta=delta,
    )  # fmt: skip
    batch = scored(built, groups)
    batch["old_per_token_logps"] = padded([a.logprobs for g in groups for a in g.attempts])
    batch["ref_per_token_logps"] = padded([s.logprobs for row in reference for s in row])
    expected, gradients = theirs(built, batch)

    taught = lessons(groups, verdicts(), advantage, reference=reference if beta else None, off_policy=True)
    how = Update(
        lr=0.0,
        clip_low=0.2,
        clip_high=0.28,
        dual_clip=delta or 0.0,
        kl=beta,
        aggregate=aggregate,
        max_tokens=max(map(max, LENGTHS)),
    )
    loss, clipped, mine = ours(learner, taught, how)
    assert clipped > 0.1
    assert [x.advantage for x in taught] == pytest.approx(batch["advantages"].tolist(), abs=1e-5)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_same_gradients(mine, gradients)


def test_the_batch_makes_every_bound_active(learner: Learner, groups: list[Group]) -> None:
    """What the parity tests stand on: low, high and dual bounds all bind somewhere in the batch, and not everywhere."""
    taught = lessons(groups, verdicts(), GRPO_EPS, off_policy=True)
    with torch.no_grad():
        logp = logprobs(learner.net, [(x.prompt_ids, x.ids) for x in taught], 1.0)
    ratio = torch.exp(logp - torch.tensor([p for x in taught for p in x.logprobs or ()]))
    advantage = torch.tensor([x.advantage for x in taught for _ in x.ids])
    low, high, dual = (advantage < 0) & (ratio < 0.8), (advantage > 0) & (ratio > 1.28), (advantage < 0) & (ratio > 1.5)
    for bound in (low, high, dual, ~(low | high | dual) & (advantage != 0)):
        assert bound.sum() >= 3


def test_temperature_divides_the_logits_of_both(folder: str, tmp_path: Path, learner: Learner, groups: list[Group]) -> None:
    built = trainer("GRPO", folder, tmp_path, groups, loss_type="dapo", beta=0.0, temperature=0.6)
    batch = scored(built, groups)
    batch["old_per_token_logps"] = padded([a.logprobs for g in groups for a in g.attempts])
    expected, gradients = theirs(built, batch)
    taught = lessons(groups, verdicts(), GRPO_EPS, off_policy=True)
    loss, _, mine = ours(learner, taught, Update(lr=0.0, dual_clip=0.0, temperature=0.6))
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_same_gradients(mine, gradients)


def test_rloo_advantages_and_on_policy_gradient_are_those_of_trl(
    folder: str, tmp_path: Path, learner: Learner, groups: list[Group]
) -> None:
    built = trainer("RLOO", folder, tmp_path, groups, beta=0.0, normalize_advantages=False)
    batch = scored(built, groups)
    expected, gradients = theirs(built, batch)
    taught = lessons(groups, verdicts(), rloo)
    assert [x.advantage for x in taught] == pytest.approx(batch["advantages"].tolist(), abs=1e-6)
    loss, _, mine = ours(learner, taught, Update(lr=0.0, aggregate="constant", max_tokens=1))
    assert_same_gradients(mine, gradients)
    rows = len(taught)
    assert expected == pytest.approx(-sum(x.advantage for x in taught) / rows, abs=1e-6)
    assert loss == pytest.approx(-sum(x.advantage * len(x.ids) for x in taught) / rows, rel=1e-5)


@pytest.mark.parametrize(("loss_type", "aggregate"), [("dapo", "token"), ("grpo", "sequence"), ("dr_grpo", "constant")])
def test_off_policy_rloo_under_the_token_ratio_is_that_of_trl(
    folder: str, tmp_path: Path, learner: Learner, groups: list[Group], loss_type: str, aggregate: Any
) -> None:
    leave_one_out = scored(trainer("RLOO", folder, tmp_path / "a", groups, beta=0.0, normalize_advantages=False), groups)[
        "advantages"
    ]
    built = trainer("GRPO", folder, tmp_path / "b", groups, loss_type=loss_type, beta=0.0, delta=1.5)
    old = padded([a.logprobs for g in groups for a in g.attempts])
    expected, gradients = theirs(built, {**scored(built, groups), "advantages": leave_one_out, "old_per_token_logps": old})
    taught = lessons(groups, verdicts(), rloo, off_policy=True)
    how = Update(lr=0.0, dual_clip=1.5, aggregate=aggregate, max_tokens=max(map(max, LENGTHS)))
    loss, _, mine = ours(learner, taught, how)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert_same_gradients(mine, gradients)


# --- closed forms -------------------------------------------------------------------------------------------------------

score_groups = st.lists(st.floats(-5, 5), min_size=2, max_size=20)


@given(score_groups)
def test_rloo_is_the_difference_to_the_mean_of_the_others(rewards: list[float]) -> None:
    others = [(sum(rewards) - r) / (len(rewards) - 1) for r in rewards]
    assert rloo(rewards) == pytest.approx([r - o for r, o in zip(rewards, others, strict=True)], abs=1e-9)


@given(st.integers(2, 64).flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n))))
def test_grpo_of_binary_rewards_is_a_function_of_the_share_of_ones(ones_of: tuple[int, int]) -> None:
    ones, n = ones_of
    p, unbiased = ones / n, math.sqrt((n - 1) / n)
    got = grpo([1.0] * ones + [0.0] * (n - ones), eps=0.0)
    assert got[0] == pytest.approx(math.sqrt((1 - p) / p) * unbiased)
    assert got[-1] == pytest.approx(-math.sqrt(p / (1 - p)) * unbiased)


@pytest.mark.parametrize("advantage", [grpo, rloo, dr_grpo])
@pytest.mark.parametrize("rewards", [[0.0] * 8, [1.0] * 8, [0.3] * 3, [1.0], []])
def test_a_unanimous_group_teaches_nothing(advantage: Advantage, rewards: list[float]) -> None:
    assert advantage(rewards) == pytest.approx([0.0] * len(rewards), abs=1e-9)


@given(score_groups)
def test_advantages_have_mean_zero(rewards: list[float]) -> None:
    for advantage in (grpo, rloo, dr_grpo):
        assert sum(advantage(rewards)) == pytest.approx(0.0, abs=1e-6)


@given(st.floats(-3, 3), st.floats(-4, 4), st.floats(0, 0.9), st.floats(0, 2), st.one_of(st.just(0.0), st.floats(3, 5)))
def test_the_clipped_surrogate_is_its_formula(log_ratio: float, a: float, low: float, high: float, dual: float) -> None:
    how = SimpleNamespace(clip_low=low, clip_high=high, dual_clip=dual)
    as_tensor = partial(torch.tensor, dtype=torch.float64)
    loss, clipped = clipped_surrogate(as_tensor([log_ratio]), as_tensor([0.0]), as_tensor([a]), how)  # type: ignore[arg-type]
    r = math.exp(log_ratio)
    plain = -min(r * a, min(max(r, 1 - low), 1 + high) * a)
    expected = min(plain, -dual * a) if dual and a < 0 else plain
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    if abs(expected + r * a) > 1e-9:
        assert clipped.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [(1.5, 2.0, -2.4, 0.0), (0.5, 2.0, -1.0, -2.0), (0.5, -2.0, 1.6, 0.0), (2.0, -2.0, 4.0, 2.0), (9.0, -2.0, 6.0, 0.0)],
    ids=["above, good", "below, good", "below, bad", "above, bad", "dual clip"],
)
def test_where_a_bound_is_active_the_gradient_is_zero(ratio: float, advantage: float, loss: float, slope: float) -> None:
    logp = torch.tensor([math.log(ratio)], requires_grad=True)
    got, clipped = clipped_surrogate(logp, torch.zeros(1), torch.tensor([advantage]), Update(lr=0.0))
    got.backward()
    assert logp.grad is not None
    assert got.item() == pytest.approx(loss)
    assert logp.grad.item() == pytest.approx(slope * ratio)  # d loss / d logp = slope x ratio
    assert clipped.item() == (slope == 0.0)


@given(st.floats(-8, 0), st.floats(-8, 0))
def test_k3_is_never_negative_and_zero_for_equal_policies(logp: float, ref: float) -> None:
    as_tensor = partial(torch.tensor, dtype=torch.float64)
    assert k3(as_tensor([logp]), as_tensor([logp])).item() == 0.0
    got = k3(as_tensor([logp]), as_tensor([ref])).item()
    assert 0.0 <= got <= 10.0
    assert got == pytest.approx(min(10.0, math.exp(ref - logp) - (ref - logp) - 1), abs=1e-9)


def test_k3_is_an_unbiased_estimate_of_the_kl_divergence() -> None:
    policy, ref = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.2, 0.3, 0.5]).log()
    exact = (policy.exp() * (policy - ref)).sum()
    assert torch.allclose((policy.exp() * k3(policy, ref)).sum(), exact)
