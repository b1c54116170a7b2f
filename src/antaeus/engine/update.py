"""Updates: one packed forward and backward over a batch of completions, and the optimiser behind it.

Prompts are computed once for all their completions, logits only where there is loss, chunk by chunk: as the loss is a sum over tokens,
each chunk is differentiated as soon as it is computed, so that no more than chunk x vocabulary ever exists and nothing is recomputed.
Weights compute in the model's data type (bfloat16 where that is fast); the optimiser works on float32 masters, without which steps of
1e-6 would round to nothing. Float32 weights are their own masters.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from antaeus.engine.base import Scores, Trained, Update
from antaeus.engine.confusion import Table, blank, counted, share
from antaeus.engine.draw import statistics
from antaeus.engine.forward import Net, pad
from antaeus.engine.losses import clipped_surrogate, k3, logprobs_of, token_weights
from antaeus.engine.memory import halving
from antaeus.types import Attempt, Lesson

CHUNK, LOGITS = 512, 512 * 49_152  # tokens whose logits exist at once, and how many logits that may be: 100 MB in float32
SMALLEST = 64  # tokens a micro-batch below which halving it again frees nothing worth having
ADVICE = "train an adapter (lora=16) or take a smaller model"

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""Prompt ids and completion ids."""


def chunk(net: Net) -> int:
    """How many tokens' logits are computed at once: fewer where the vocabulary is large, so that memory for them is bounded."""
    return max(1, min(CHUNK, LOGITS // net.model.config.get_text_config().vocab_size))


@torch.inference_mode()
def token_statistics(net: Net, rows: Sequence[Row], temperature: float) -> Tensor:
    """Log-probabilities, entropies and certainties of all completion tokens, [3, N] float32, row after row."""
    parts = []
    for h, y in zip(*(t.split(chunk(net)) for t in _states(net, rows)), strict=True):
        logits = net.logits(h).float() / temperature
        _, lse, entropy = statistics(logits)
        certainty = lse - logits.mean(-1) - math.log(logits.shape[-1])
        parts.append(torch.stack([logits.gather(-1, y[:, None]).squeeze(-1) - lse, entropy, certainty]))
    return torch.cat(parts, 1)


def scores_of(net: Net, rows: Sequence[Row], temperature: float) -> list[Scores]:
    """The same, row by row."""
    found = token_statistics(net, rows, temperature).split([len(ids) for _, ids in rows], 1)
    return [Scores(*(tuple(statistic.tolist()) for statistic in row)) for row in found]


def _states(net: Net, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """The hidden state before each completion token [N, D], and these tokens [N]."""
    distinct = list(dict.fromkeys(prompt for prompt, _ in rows))
    at = {prompt: i for i, prompt in enumerate(distinct)}
    context = net.prefill(distinct)
    owner = torch.tensor([at[prompt] for prompt, _ in rows], device=net.device)
    context.branch(owner) if len(distinct) < len(rows) else context.select(owner)
    ids, real = pad([completion for _, completion in rows], net.device)
    states, index = context.hidden, torch.zeros_like(ids)
    index[:, 0] = torch.arange(len(rows), device=net.device)
    inner = real[:, 1:]
    if inner.any():  # the state behind a completion's last token is asked for by nobody
        states = torch.cat([states, net.extend(context, ids[:, :-1], inner)])
        index[:, 1:][inner] = torch.arange(len(rows), len(states), device=net.device)
    return states[index[real]], ids[real]


def _entropy(logits: Tensor) -> Tensor:
    """Of each row of logits [N, V], in nats, differentiable; [N]."""
    logp = logits.log_softmax(-1)
    return -(logp.exp() * logp).sum(-1)


class Learner:
    """The trainable parameters of a net, their float32 masters, and AdamW on these (no weight decay, betas .9 and .999)."""

    def __init__(self, net: Net, params: list[torch.nn.Parameter]) -> None:
        self.net = net
        self.params = params
        self.masters = [p.detach().float() for p in self.params]  # of float32 weights no copy
        self.adam = torch.optim.AdamW(self.masters, lr=0.0, weight_decay=0.0, fused=True)
        self.listen()

    def step(self, lessons: Sequence[Lesson], how: Update, max_tokens: int) -> Trained:
        """Accumulate the gradient over micro-batches of at most `max_tokens` tokens, clip it, and take one step."""

        def attempt(size: int) -> tuple[float, float, float]:
            for p in (*self.params, *self.masters):  # what a pass that ran out of memory had got to
                p.grad = None
            return self.backward(lessons, how, size)

        loss, clipped, kl = halving(attempt, max_tokens, SMALLEST, "in an update of a few tokens: " + ADVICE)
        norm = torch.nn.utils.clip_grad_norm_(self.masters, how.max_grad_norm)
        if torch.isfinite(norm) and norm > 0:
            self.adam.param_groups[0]["lr"] = how.lr
            self.adam.step()
            self.publish()
        self.adam.zero_grad()
        tokens = sum(len(lesson.ids) for lesson in lessons)
        return Trained(loss, norm.item(), clipped, kl, tokens)

    def backward(self, lessons: Sequence[Lesson], how: Update, max_tokens: int) -> tuple[float, float, float]:
        """Add the gradient of the batch's loss to the masters. Returns the loss, the share of clipped tokens, the mean k3."""
        lengths = torch.tensor([len(lesson.ids) for lesson in lessons])
        weights = token_weights(lengths, how).split(lengths.tolist())
        active = [i for i, lesson in enumerate(lessons) if lesson.advantage or how.kl or how.entropy or how.confusion]
        totals, table = torch.zeros(3), self._confusion([lessons[i] for i in active], how, max_tokens) if how.confusion else None
        for rows in micro_batches([lessons[i] for i in active], max_tokens):
            batch = [lessons[active[i]] for i in rows]
            totals += self._micro(batch, torch.cat([weights[active[i]] for i in rows]), how, table)
        tokens = max(1, int(lengths.sum()))
        return totals[0].item(), totals[1].item() / tokens, totals[2].item() / tokens

    @torch.no_grad()
    def _confusion(self, lessons: Sequence[Lesson], how: Update, max_tokens: int) -> Table:
        """What has to be known of the whole batch before the confusion of a part of it can be differentiated."""
        table = blank(torch.tensor([i for lesson in lessons for i in lesson.ids], device=self.net.device))
        for rows in micro_batches(lessons, max_tokens):
            hidden, _ = _states(self.net, [(lessons[i].prompt_ids, lessons[i].ids) for i in rows])
            for part in hidden.split(chunk(self.net)):
                table = counted(table, self.net.logits(part).float() / how.temperature)
        return table

    def _micro(self, batch: Sequence[Lesson], weight: Tensor, how: Update, table: Table | None = None) -> Tensor:
        """Head and loss chunk by chunk, then the body. Returns the sums of loss, clipped tokens and k3, [3]."""
        hidden, ids = _states(self.net, [(b.prompt_ids, b.ids) for b in batch])
        columns, size = torch.stack([weight, *_columns(batch)]).to(hidden.device), chunk(self.net)
        totals, slopes = torch.zeros(3), []
        for part, y, c in zip(hidden.split(size), ids.split(size), columns.split(size, 1), strict=True):
            leaf = part.detach().requires_grad_()
            totals += self._chunk(leaf, y, c, how, table)
            slopes.append(leaf.grad)
        hidden.backward(torch.cat(slopes))
        return totals

    def _chunk(self, hidden: Tensor, ids: Tensor, columns: Tensor, how: Update, table: Table | None) -> Tensor:
        """Backpropagate the loss of these tokens to their hidden states [N, D] and to the head."""
        weight, advantage, old, has_old, ref, has_ref = columns
        logits = self.net.logits(hidden).float()
        logits = logits if how.temperature == 1 else logits / how.temperature
        logp = logprobs_of(logits, ids)
        loss, clipped = clipped_surrogate(logp, _given(old, has_old, logp), advantage, how)
        kl = k3(logp, _given(ref, has_ref, logp))
        direct = how.entropy * _entropy(logits) if how.entropy else 0.0
        total = (weight * (loss + how.kl * kl + direct)).sum() + (how.confusion * share(logits, table) if table else 0.0)
        del logits  # a tenth of a gigabyte that the backward pass does not need
        total.backward()
        return torch.stack([total.detach(), clipped.sum(), kl.detach().sum()]).cpu()

    def state(self) -> dict[str, Tensor]:
        """Masters, moments and step count by name: all that `restore` needs for the next step to be the same to the bit.

        These are the learner's own tensors, which its next step changes: write them to a file, or clone them.
        """
        tensors = {f"{i}.master": m for i, m in enumerate(self.masters)}
        for i, m in enumerate(self.masters):
            tensors |= {f"{i}.{k}": v for k, v in self.adam.state.get(m, {}).items()}
        return tensors

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to where `state` was taken."""
        for i, m in enumerate(self.masters):
            m.copy_(tensors[f"{i}.master"])
            own = {k: tensors[f"{i}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq") if f"{i}.{k}" in tensors}
            self.adam.state[m] = {k: v.to(m.device, copy=True) for k, v in own.items()}
        self.publish()

    def listen(self) -> None:
        """Gather the parameters' gradients from now on."""
        pairs = zip(self.params, self.masters, strict=True)
        self._hooks = [p.register_post_accumulate_grad_hook(_into(master)) for p, master in pairs]

    def close(self) -> None:
        """Stop listening to the parameters' gradients."""
        for hook in self._hooks:
            hook.remove()

    def publish(self) -> None:
        """Cast the masters into the weights that compute."""
        with torch.no_grad():
            torch._foreach_copy_(self.params, self.masters)  # type: ignore[arg-type]


def micro_batches(lessons: Sequence[Lesson | Attempt], max_tokens: int) -> Iterator[list[int]]:
    """Indices of lessons, a prompt's together and alike lengths together, in batches that cost at most `max_tokens`.

    A batch costs the tokens it computes (prompts once, completions padded to the longest) and an eighth of the cached columns
    it attends to, which are keys and values only.
    """
    by_prompt: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, lesson in enumerate(lessons):
        by_prompt[lesson.prompt_ids].append(i)
    batch: list[int] = []
    prompts: set[tuple[int, ...]] = set()
    longest = 0
    for i in (i for rows in by_prompt.values() for i in sorted(rows, key=lambda i: len(lessons[i].ids))):
        prompts.add(lessons[i].prompt_ids)
        longest = max(longest, len(lessons[i].ids))
        columns = max(map(len, prompts)) + longest
        if batch and sum(map(len, prompts)) + (len(batch) + 1) * (longest + columns / 8) > max_tokens:
            yield batch
            batch, prompts, longest = [], {lessons[i].prompt_ids}, len(lessons[i].ids)
        batch.append(i)
    if batch:
        yield batch


def _columns(lessons: Sequence[Lesson]) -> Iterator[Tensor]:
    """Per token, [N] float32: advantage; the sampler's log-probability, and 1 where the lesson has it; the reference's likewise."""
    lengths = [len(lesson.ids) for lesson in lessons]
    told = zip((lesson.advantage for lesson in lessons), lengths, strict=True)
    yield torch.tensor([x for a, n in told for x in (a if isinstance(a, tuple) else (a,) * n)])
    for rows in ([lesson.logprobs for lesson in lessons], [lesson.ref_logprobs for lesson in lessons]):
        yield torch.tensor([x for row, n in zip(rows, lengths, strict=True) for x in row or (0.0,) * n])
        yield torch.tensor([float(row is not None) for row, n in zip(rows, lengths, strict=True) for _ in range(n)])


def _given(values: Tensor, there: Tensor, logp: Tensor) -> Tensor:
    """`values` where they are `there`, else the current ones as constants: a ratio of 1, a divergence of 0."""
    return torch.where(there > 0, values, logp.detach())


def _into(master: Tensor):
    """A hook that moves a parameter's fresh gradient into its master's, in float32, so that micro-batches add up exactly."""

    def move(p: Tensor) -> None:
        assert p.grad is not None
        if master.grad is None:
            master.grad = p.grad.float()
        else:
            master.grad.add_(p.grad)
        p.grad = None

    return move
