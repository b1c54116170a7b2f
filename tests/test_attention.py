"""Attention over what rows have in common and what is their own, beside attention over copies of it all."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from antaeus.engine import attention
from antaeus.engine.attention import Packing, Trunk, attend
from antaeus.engine.base import Sampling
from antaeus.engine.context import Room
from antaeus.engine.forward import pad

HEADS, KEPT, SIZE = 6, 2, 8
MODULE: Any = SimpleNamespace(is_causal=False, num_key_value_groups=HEADS // KEPT, training=False)
OWNERS = {
    "even": [0, 0, 1, 1, 2, 2],
    "mixed": [2, 0, 1, 0, 2, 2, 2, 1],
    "one left": [0, 2, 2, 2, 2],
    "lopsided": [0] * 9 + [1, 2],
}


def copied(query: Any, keys: Any, values: Any, mask: Any) -> Any:
    """Softmax attention in full, every head with its own copy of keys and values. [R, H, S, D] -> [R, S, H, D]"""
    keys, values = (t.repeat_interleave(HEADS // KEPT, 1) for t in (keys, values))
    scores = (query @ keys.transpose(2, 3) * SIZE**-0.5).masked_fill(~mask, float("-inf"))
    return (scores.softmax(-1) @ values).transpose(1, 2)


@pytest.mark.parametrize("few", [0, 64], ids=["by PyTorch's kernel", "by products"])
@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize("owners", OWNERS.values(), ids=OWNERS)
def test_what_rows_began_with_counts_as_if_each_had_a_copy(
    owners: list[int], unequal: bool, queries: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "FEW_TAUGHT", few)
    torch.manual_seed(0)
    owner, rows, begun, own = torch.tensor(owners), len(owners), 5, 4
    query = torch.randn(rows, HEADS, queries, SIZE, requires_grad=True)
    first, behind = ([torch.randn(n, KEPT, t, SIZE, requires_grad=True) for _ in range(2)] for n, t in ((3, begun), (rows, own)))
    seen = torch.ones(3, begun, dtype=torch.bool)
    if unequal:
        seen[0, 2:] = seen[2, 4:] = False
    mask = torch.rand(rows, 1, queries, own) < 0.5
    mask[..., 0] = True
    packing = Packing(able=True, trunk=Trunk(seen, owner), beginnings=(first[0], first[1]))
    mine = attend(packing, MODULE, query, behind[0], behind[1], mask)[0]
    whole = [torch.cat([a[owner], b], 2) for a, b in zip(first, behind, strict=True)]
    visible = torch.cat([seen[owner][:, None, None].expand(-1, 1, queries, -1), mask], -1)
    theirs = copied(query, *whole, visible)
    read = (query, *first, *behind)
    for one, other in zip(*((out, *torch.autograd.grad(out.square().sum(), read)) for out in (mine, theirs)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)  # as some models give their masks
    again = attend(packing, MODULE, query, behind[0], behind[1], added)[0]
    torch.testing.assert_close(again, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learn", [False, True])
def test_a_group_keeps_its_prompt_once(tiny: Callable[..., Any], learn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In sampling and in learning, and rows hold nothing but what they wrote."""
    engine, seen, update = tiny(), [], Room.update

    def watched(room: Room, *args: Any, **kwargs: Any) -> Any:
        keys, values = update(room, *args, **kwargs)
        if len(keys) == 10:  # the rows of both groups
            assert room.trunk is not None
            seen.append((room.trunk[0].shape[0], room.trunk[0].shape[2], keys.shape[2]))
        return keys, values

    monkeypatch.setattr(Room, "update", watched)
    prompts = [("short", "1+1=" * 30), ("long", "2+2=" * 40)]
    groups = engine.sample(prompts, Sampling(n=5, max_tokens=12), seed="s")
    if learn:
        seen.clear()
        engine.score([a for group in groups for a in group])
    assert seen and {s[:2] for s in seen} == {(2, 160)} and max(s[2] for s in seen) <= 12


def test_a_prompt_goes_with_the_last_of_its_rows(tiny: Callable[..., Any]) -> None:
    net = tiny().net
    prompts = [tuple(range(5, 5 + n)) for n in (12, 9, 30)]
    context = net.prefill(prompts)
    context.branch(torch.tensor([0, 0, 1, 2]))
    read = net.extend(context, *pad([(7,), (8,), (9,), (10,)], net.device))
    context.select(torch.tensor([1, 3]))
    assert context.trunk is not None and context.trunk.owner.tolist() == [0, 1]
    assert all(t.shape[0] == 2 for layer in context.cache.layers for t in layer.trunk)
    more = net.extend(context, *pad([(11,), (12,)], net.device))
    for prompt, tail, state in zip((prompts[0], prompts[2]), ((8, 11), (10, 12)), more, strict=True):
        whole = net.body(input_ids=torch.tensor([[*prompt, *tail]]), use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(state, whole[-1], rtol=1e-4, atol=1e-4)
    assert len(read) == 4


def test_rows_are_planned_with_their_share_of_the_prompt(tiny: Callable[..., Any]) -> None:
    engine, prompt = tiny(), ("task", tuple(range(40)))
    assert engine._columns([prompt], Sampling(n=1, max_tokens=12)) == 52
    assert engine._columns([prompt, ("task", (1, 2))], Sampling(n=16, max_tokens=12)) == 12 + 3
    engine.net.packs = False
    assert engine._columns([prompt], Sampling(n=16, max_tokens=12)) == 52
