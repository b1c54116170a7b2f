"""The laboratory model: half a million parameters that have half learned to add, so that a whole run takes seconds.

It is trained on first use, on lines like those of the built-in tasks, by cases that can never be anchor or exam; some practice cases
of two-digit addition are held back too, and training stops once half of these are answered rightly. There most votes of 16 attempts
are better than the attempts, and a run has something to gain and much to lose. The other families it knows less, products and
three-digit sums not at all.

Same weights for the same versions, CPU and number of threads; elsewhere sums are rounded in another order, and what was learned
differs in its figures, not in kind: the stop is measured, not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from antaeus.arithmetic import FAMILIES, Case, pools
from antaeus.engine.cache import Say, cached
from antaeus.engine.embedded import ascii_tokenizer
from antaeus.engine.quiet import quiet
from antaeus.types import Anchor, Exam, Practice

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHARES = {"add2": 6.0, "sub2": 1.0, "sum3": 1.0, "times": 1.0, "add3": 0.3, "mul2": 0.3}  # of the documents
SIZES = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
LINES = 36  # a step; a document has 1 to 6 of them
RATE, WARM_UP = 5e-3, 30  # learning rate, and steps until it is reached
HELD_BACK, ENOUGH, EVERY, LIMIT = 256, 0.5, 20, 2000  # cases of add2, share of them right that ends training, steps


def lab(say: Say) -> Path:
    """Folder of the laboratory model (Llama, 0.54 million parameters, 512 positions). The first use takes about a minute."""
    return cached("lab-1", _build, say)


def _build(folder: Path, say: Say) -> None:
    import torch

    say("lab: training a small model on sums, once (about a minute)")
    tokenizer = ascii_tokenizer("×")
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, steps, right = train(_blank(tokenizer), tokenizer)
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    say(f"lab: {right:.0%} of the sums held back are right after {steps} steps")


def train(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[PreTrainedModel, int, float]:
    """Learn answers (the rest of a line is given) until half of what is held back is right, or `LIMIT` steps are over.

    Returns the mean of the weights over about the last 50 steps, the steps taken, and the share that is right.
    """
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    rng, (taught, held_back) = Random(0), teachable()
    exercise = [FAMILIES["add2"].lines(held_back[i : i + 4]) for i in range(0, len(held_back), 4)]
    mean: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98))
    optimisers = _optimisers(model)
    step, right = 0, 0.0
    while step < LIMIT and right < ENOUGH:
        loss(model, tokenizer, documents(rng, taught)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in optimisers:
            each.step()
        model.zero_grad()
        mean.update_parameters(model)
        step += 1
        if step % EVERY == 0:
            right = share_right(mean.module, tokenizer, exercise)
    return mean.module, step, right


def _optimisers(model: PreTrainedModel) -> list[Any]:
    """Muon (Jordan et al. 2024) for matrices, with updates of AdamW's size (arXiv 2502.16982), AdamW for the rest; and their warm-up.
    AdamW alone has not half learned the sums after four times as many steps."""
    import torch

    matrices = [p for p in model.base_model.layers.parameters() if p.dim() == 2]
    others = [p for name, p in model.named_parameters() if p.dim() == 1 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=RATE, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(others, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return [muon, adam, *(torch.optim.lr_scheduler.LinearLR(o, 1 / WARM_UP, total_iters=WARM_UP) for o in (muon, adam))]


def loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Tensor:
    """Mean cross-entropy (nats) of the answers' characters, the newline included."""
    import torch

    logits, ids, _ = _answers(model, tokenizer, texts)
    return torch.nn.functional.cross_entropy(logits, ids)


def share_right(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> float:
    """The share of lines whose answer greedy decoding would give."""
    import torch

    with torch.inference_mode():
        logits, ids, line = _answers(model, tokenizer, texts)
    wrong = torch.zeros(int(line[-1]) + 1).index_add(0, line, (logits.argmax(-1) != ids).float())
    return (wrong == 0).float().mean().item()


def _answers(model: Any, tokenizer: Any, texts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """Of each character behind a "=", the newline included: the logits before it [N, V], its id [N], the number of its line [N]."""
    ids = tokenizer(list(texts), padding=True, return_tensors="pt").input_ids
    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
    ids = ids.flatten()
    begun, ended = (mark.cumsum(0) - mark for mark in ((ids == tokenizer.convert_tokens_to_ids(c)).long() for c in "=\n"))
    behind = begun > ended
    return model.lm_head(states[behind.roll(-1)]), ids[behind], ended[behind]


def teachable() -> tuple[dict[str, list[Case]], list[Case]]:
    """The practice cases of every family that are held out by none, and of two-digit addition the last ones apart."""
    held_out = {_key(name, case) for name in FAMILIES for kind in (Anchor, Exam) for case in pools(name)[kind]}
    cases = {name: [case for case in pools(name)[Practice] if _key(name, case) not in held_out] for name in SHARES}
    return {**cases, "add2": cases["add2"][:-HELD_BACK]}, cases["add2"][-HELD_BACK:]


def documents(rng: Random, cases: Mapping[str, Sequence[Case]]) -> list[str]:
    """The texts of one step: lines of one family each, operands in any order where that does not matter."""
    lines = 1 + int(6 * rng.random())
    return [_document(rng, cases, lines) for _ in range(LINES // lines)]


def _document(rng: Random, cases: Mapping[str, Sequence[Case]], lines: int) -> str:
    name = rng.choices(list(SHARES), list(SHARES.values()))[0]
    drawn = (cases[name][int(len(cases[name]) * rng.random())] for _ in range(lines))
    family = FAMILIES[name]
    return family.lines(tuple(sorted(case, key=lambda _: rng.random())) if family.swaps else case for case in drawn)


def _key(name: str, case: Case) -> tuple[str, Case]:
    """The same for cases of two families that read the same, such as 10 × 12."""
    return FAMILIES[name].sign, tuple(sorted(case))


def _blank(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    ends: Any = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    more = {"max_position_embeddings": 512, "tie_word_embeddings": True, "initializer_range": 0.08}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **SIZES, **more, **ends))
