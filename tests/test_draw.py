"""Tokens are drawn from exactly the distribution the logits say, and depend on nothing but who they are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest
from torch import Tensor
from transformers import TopKLogitsWarper, TopPLogitsWarper

from antaeus.engine.draw import BLOCK, draw
from antaeus.noise import uniforms

LAST = float(np.nextafter(np.float32(1), np.float32(0)))  # the largest uniform number there is
PINNED = [1062112634, 1057950344, 1049476544, 1050225766]  # the first bits of uniforms("0/1", "task", 3, ...)


def logits_of(vocabulary: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


def many(logits: Tensor, n: int, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, seed: int = 1) -> Tensor:
    """n tokens drawn from one row of logits, in slices that keep memory small."""
    u = torch.from_numpy(uniforms(str(seed), "task", 0, n))
    parts = [draw(logits.expand(len(part), -1), part, temperature, top_k, top_p)[0] for part in u.split(5000)]
    return torch.cat(parts)


def p_value(drawn: Tensor, probability: Tensor) -> float:
    """Of Pearson's chi-square test; tokens expected fewer than 5 times are pooled."""
    n = len(drawn)
    seen, expected = torch.bincount(drawn, minlength=len(probability)).double(), probability.double() * n
    rare = expected < 5
    seen = torch.cat([seen[~rare], seen[rare].sum()[None]]).numpy()
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]]).numpy()
    kept = expected > 0
    assert not seen[~kept].any()
    return float(chi2.sf(((seen - expected)[kept] ** 2 / expected[kept]).sum(), kept.sum() - 1))


# the distribution


@pytest.mark.parametrize(("n", "vocabulary", "temperature"), [(200_000, 1000, 1.0), (50_000, 1024, 0.7), (50_000, 99, 1.3)])
def test_draws_have_the_distribution_of_the_logits(n: int, vocabulary: int, temperature: float) -> None:
    logits, ruled_out = logits_of(vocabulary), [3, vocabulary // 4 - 1, vocabulary // 4, vocabulary - 1]
    logits[ruled_out] = -torch.inf
    drawn = many(logits, n, temperature)
    probability = (logits / temperature).softmax(-1)
    assert p_value(drawn, probability) > 1e-3
    assert not set(drawn.tolist()) & set(ruled_out)
    assert p_value(drawn, probability.roll(1).clamp(min=1e-12)) < 1e-9  # the test does tell distributions apart


def test_restricted_draws_have_the_renormalised_distribution() -> None:
    logits = logits_of(700, scale=1.0)
    kept = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(50)(None, logits[None] / 0.9))[0]  # type: ignore[arg-type]
    assert p_value(many(logits, 30_000, 0.9, 50, 0.8), kept.softmax(-1)) > 1e-3


def test_the_inverse_of_the_cumulated_distribution_is_taken() -> None:
    """The token is the first whose cumulated probability exceeds u: nothing else decides, and u goes through them in order."""
    logits = logits_of(1000)
    u = torch.linspace(0, 1, 4001)[:-1]
    ids = draw(logits.expand(len(u), -1), u, 1.0, 0, 1.0)[0]
    cumulated = logits.double().softmax(-1).cumsum(-1)
    expected = torch.searchsorted(cumulated, u.double(), right=True)
    away = ids != expected
    assert away.float().mean() < 1e-3 and (ids.diff() >= 0).all()
    edge = torch.minimum((cumulated[expected] - u).abs(), (cumulated[expected - 1] - u).abs())
    assert (edge[away] < 1e-6).all()  # rounding only


@pytest.mark.parametrize("vocabulary", [2, 99, BLOCK - 1, BLOCK, BLOCK + 1, 1000, 5 * BLOCK])
def test_the_ends_of_the_unit_interval(vocabulary: int) -> None:
    u = torch.tensor([0.0, LAST])
    flat = torch.zeros(2, vocabulary)
    assert draw(flat, u, 1.0, 0, 1.0)[0].tolist() == [0, vocabulary - 1]
    for first, last in ((vocabulary // 2, vocabulary // 2), (0, vocabulary - 1), (vocabulary - 1, vocabulary - 1)):
        holed = torch.full((2, vocabulary), -torch.inf)
        holed[:, first] = holed[:, last] = 1.5
        assert draw(holed, u, 1.0, 0, 1.0)[0].tolist() == [first, last]


def test_one_block_beside_the_only_likely_token() -> None:
    """Tokens of probability zero before, inside and behind the blocks with weight are never drawn, whatever u."""
    logits = torch.full((4 * BLOCK + 7,), -torch.inf)
    alive = [BLOCK + 5, BLOCK + 200, 3 * BLOCK]
    logits[alive] = torch.tensor([0.0, -3.0, 1.0])
    assert sorted(set(many(logits, 20_000).tolist())) == alive


def test_rounding_of_a_blocks_sum_never_draws_what_is_behind_it() -> None:
    """A block's float32 sum may exceed the exact sum of its weights; the last token with weight is then the one that is meant."""
    logits = logits_of(3000 * BLOCK, scale=1.0).view(3000, BLOCK)
    logits[:, 200:] = -torch.inf
    ids = draw(logits, torch.full((3000,), LAST), 1.0, 0, 1.0)[0]
    weights = torch.exp(logits - logits.amax(-1, keepdim=True))
    assert (weights.sum(-1).double() * LAST >= weights.double().sum(-1)).any() and (ids <= 199).all()


@pytest.mark.parametrize("peak", [100.0, 1e4, 1e30])
def test_peaked_logits_give_the_peak(peak: float) -> None:
    logits = logits_of(1000)
    logits[777] = peak
    u = torch.tensor([0.0, 0.3, LAST])
    ids, logprobs, entropies = draw(logits.expand(3, -1), u, 1.0, 0, 1.0)
    assert ids.tolist() == [777] * 3
    assert logprobs.abs().max() < 1e-6 and entropies.abs().max() < 1e-6


@pytest.mark.parametrize("level", [-1e4, 0.0, 1e4])
def test_flat_logits_of_any_level(level: float) -> None:
    drawn = many(torch.full((1000,), level), 30_000)
    assert p_value(drawn, torch.full((1000,), 1e-3)) > 1e-3
    _, logprobs, entropies = draw(torch.full((1, 1000), level), torch.tensor([0.5]), 1.0, 0, 1.0)
    assert (-logprobs.item(), entropies.item()) == pytest.approx((math.log(1000),) * 2, abs=2e-3)


def test_rows_are_independent() -> None:
    logits, u = logits_of(6 * 300).view(6, 300), torch.tensor([0.1, 0.9, 0.5, 0.3, 0.7, 0.2])
    together = draw(logits, u, 0.8, 20, 0.9)
    for i in range(6):
        alone = draw(logits[i : i + 1], u[i : i + 1], 0.8, 20, 0.9)
        assert together[0][i] == alone[0][0]
        torch.testing.assert_close(torch.stack(together[1:])[:, i], torch.stack(alone[1:])[:, 0])


# what may be drawn


def support(logits: Tensor, temperature: float, top_k: int, top_p: float) -> set[int]:
    u = torch.linspace(0, 1, 30_001)[:-1]
    return set(torch.cat([draw(logits.expand(len(p), -1), p, temperature, top_k, top_p)[0] for p in u.split(5000)]).tolist())


@pytest.mark.parametrize("top_k", [1, 5, 40, 299, 300, 1000])
def test_top_k_is_that_of_transformers(top_k: int) -> None:
    logits = logits_of(300, scale=0.5)
    logits[[10, 20]] = logits.topk(5).values[-1]  # ties at the edge stay, all of them
    kept = TopKLogitsWarper(top_k)(None, logits[None])[0]  # type: ignore[arg-type]
    assert support(logits, 1.0, top_k, 1.0) == set(kept.isfinite().nonzero().flatten().tolist())


@pytest.mark.parametrize("temperature", [0.6, 1.0])
@pytest.mark.parametrize("top_p", [1e-3, 0.1, 0.5, 0.9, 0.99])
def test_top_p_is_that_of_transformers(top_p: float, temperature: float) -> None:
    logits = logits_of(300, scale=1.0)
    kept = TopPLogitsWarper(top_p)(None, logits[None] / temperature)[0]  # type: ignore[arg-type]
    assert support(logits, temperature, 0, top_p) == set(kept.isfinite().nonzero().flatten().tolist())


def test_top_k_comes_before_top_p() -> None:
    logits = logits_of(300, scale=1.0)
    kept = TopPLogitsWarper(0.7)(None, TopKLogitsWarper(10)(None, logits[None]))[0]  # type: ignore[arg-type]
    assert support(logits, 1.0, 10, 0.7) == set(kept.isfinite().nonzero().flatten().tolist())


# what is reported


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_statistics_are_those_of_the_whole_distribution(temperature: float, dtype: torch.dtype) -> None:
    logits = logits_of(8 * 1000).view(8, 1000).to(dtype)
    u = torch.from_numpy(uniforms("s", "t", 0, 8))
    for top_k, top_p in ((0, 1.0), (3, 0.5)):
        ids, logprobs, entropies = draw(logits, u, temperature, top_k, top_p)
        expected = (logits.double() / temperature).log_softmax(-1)
        assert logprobs.dtype == torch.float32
        torch.testing.assert_close(logprobs.double(), expected.gather(-1, ids[:, None])[:, 0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(entropies.double(), -(expected.exp() * expected).sum(-1), rtol=1e-5, atol=1e-5)


def test_ruled_out_tokens_have_no_part_in_the_entropy() -> None:
    logits = logits_of(2 * 500).view(2, 500)
    logits[0, ::2] = -torch.inf
    _, logprobs, entropies = draw(logits, torch.tensor([0.4, 0.4]), 1.0, 0, 1.0)
    rest = [logits[0, 1::2].log_softmax(-1), logits[1].log_softmax(-1)]
    torch.testing.assert_close(entropies, torch.stack([-(row.exp() * row).sum() for row in rest]), rtol=1e-5, atol=1e-5)
    assert logprobs.isfinite().all()


def test_temperature_zero_is_greedy_and_reports_temperature_one() -> None:
    logits = logits_of(8 * 1000).view(8, 1000)
    ids, logprobs, _ = draw(logits, torch.full((8,), 0.5), 0.0, 0, 1.0)
    assert torch.equal(ids, logits.argmax(-1))
    torch.testing.assert_close(logprobs, logits.log_softmax(-1).amax(-1))


def test_bfloat16_logits_are_drawn_from_as_they_are() -> None:
    logits = logits_of(1000).to(torch.bfloat16)
    assert torch.equal(many(logits, 3000, 0.9), many(logits.float(), 3000, 0.9))


# the random numbers


def test_uniforms_depend_on_seed_task_and_index_alone() -> None:
    first = uniforms("0/1", "task", 3, 50)
    assert np.array_equal(first, uniforms("0/1", "task", 3, 50))
    others = [uniforms("0/2", "task", 3, 50), uniforms("0/1", "tusk", 3, 50), uniforms("0/1", "task", 4, 50)]
    assert all(not np.array_equal(first, other) for other in others)
    assert np.array_equal(uniforms("0/1", "task", 3, 500)[:50], first)  # a longer row begins with the shorter one
    assert np.array_equal(first[:4].view(np.uint32), np.array(PINNED, dtype=np.uint32))  # on every machine, in every release


def test_uniforms_are_uniform() -> None:
    rows = np.stack([uniforms("seed", f"task-{i % 50}", i // 50, 40) for i in range(2000)])
    assert rows.dtype == np.float32 and rows.min() >= 0 and rows.max() < 1
    assert kstest(rows.ravel(), "uniform").pvalue > 1e-3
    between = np.corrcoef(rows)[~np.eye(len(rows), dtype=bool)]
    assert abs(between.mean()) < 1e-3 and len(np.unique(rows[:, 0])) > 1990
