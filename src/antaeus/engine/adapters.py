"""Many LoRA adapters of one frozen model, trained and sampled in one batch, each as if it were alone.

What adapters have in common is the base, and nearly all of the work is the base's: its products run over the packed tokens of
all adapters, a grouped low-rank product beside them (`adapter_net.py`). Everything else is each adapter's own: data and their
order, initial weights, learning rate, clipping, number of steps. The result is that of training one after the other, but for
rounding. Adapters are float32 and compute in the model's data type.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from antaeus.engine.adapter_layers import sizes, stored_scale, stored_shape, targeted
from antaeus.engine.adapter_net import AdaptedNet, Pair, Row, adapted, backward, that_fit
from antaeus.engine.adapter_plans import Plan, check
from antaeus.engine.base import Course, Sampling, Scores
from antaeus.engine.decode import decode
from antaeus.engine.local import LocalEngine
from antaeus.engine.lora import settle
from antaeus.engine.memory import halving
from antaeus.engine.packed import packed
from antaeus.engine.sparing import spare
from antaeus.engine.stored import read
from antaeus.engine.update import SMALLEST, micro_batches, scores_of
from antaeus.errors import UserError
from antaeus.types import Attempt, Prompt

AT_ONCE = 64  # adapters trained together at most
TRAINING = 24  # bytes that a weight takes beside itself while it is trained: gradient, moments, a copy to compute with


class Adapters:
    """`n` adapters of rank `rank` on the linear layers (GPT-2's `Conv1D` too) of an engine's model whose names end in one of
    `targets` ("all-linear": all but the head), scaled by `alpha` / rank. Adapter i starts as PEFT would start it after
    `torch.manual_seed(i)`.

    Adapters are differences to the engine's present weights, and leave it as it is. `weights` [n, P] holds each one's A and B of
    every layer, in PEFT's order.
    """

    def __init__(
        self, engine: LocalEngine, n: int, *, rank: int = 32, alpha: int = 64, targets: str | Sequence[str] = "all-linear"
    ) -> None:
        if rank < 1 or n < 1:
            raise UserError(f"{n} adapters of rank {rank}: both must be at least 1")
        self.engine, self.rank, self.alpha = engine, rank, alpha
        self.layers, self.targets = targeted(engine, targets)
        self._sizes = [sizes(layer) for layer in self.layers.values()]
        self._shapes = [shape for read, written in self._sizes for shape in ((rank, read), (written, rank))]
        self._rows = torch.zeros(n + 1, sum(a * b for a, b in self._shapes), device=engine.net.device)  # the last stays: the base
        self.weights = self._rows[:n]
        self.courses = [Course() for _ in range(n)]  # of each one's last training
        self.spared: list[Tensor] | None = None  # [in, k] of each layer, which adapters are blind to
        self.reset(range(n))

    def __len__(self) -> int:
        return len(self.weights)

    def like(self, n: int) -> Adapters:
        """`n` fresh adapters of the same shape."""
        return Adapters(self.engine, n, rank=self.rank, alpha=self.alpha, targets=self.targets)

    @torch.no_grad()
    def reset(self, seeds: Sequence[int | None]) -> None:
        """Start adapter i afresh from seeds[i] (None: leave it). The seed alone decides, so that equal seeds are paired starts."""
        for row, seed in zip(self.weights, seeds, strict=True):
            if seed is not None:
                for (a, b), start in zip(self._split(row[None]), self._starts(seed), strict=True):
                    a[0], b[0] = start, 0.0

    def train(self, plans: Sequence[Plan | None]) -> list[Course]:
        """Train adapter i by plans[i] (None: leave it), together as many as memory holds, and `AT_ONCE` at most. One that is through
        costs nothing more, and one whose gradient is not finite takes no step and does no harm to the others."""
        check(plans, len(self), self.engine.context)
        self.reset([plan and plan.seed for plan in plans])
        at_once = max(1, min(AT_ONCE, self.engine._free_bytes() // 2 // (TRAINING * self.weights.shape[1])))
        parts = [range(i, min(i + at_once, len(plans))) for i in range(0, len(plans), at_once)]
        steps = max(len(plan.batches()) if plan else 0 for plan in plans)
        with packed(self.engine.model, steps, taught=True):
            self.courses = [
                c
                for part in parts
                for c in self._train([p if i in part else None for i, p in enumerate(plans)])[part.start : part.stop]
            ]
        self._blinded(self.weights)
        return self.courses

    def _train(self, plans: Sequence[Plan | None]) -> list[Course]:
        batches = [plan.batches() if plan else [] for plan in plans]
        adam = torch.optim.AdamW([_group(row, plan) for row, plan in zip(self.weights, plans, strict=True)], fused=True)
        log: list[list[tuple[float, float]]] = [[] for _ in plans]
        for step in range(max(map(len, batches))):
            now = {i: (plan, b[step]) for i, (plan, b) in enumerate(zip(plans, batches, strict=True)) if plan and step < len(b)}
            losses, grads = self._gradients(now)
            norms = torch.linalg.vector_norm(grads, dim=1).tolist()
            for i, loss, norm, grad in zip(now, losses, norms, grads, strict=True):
                log[i].append((loss, norm))
                _prepare(adam.param_groups[i], now[i][0], step, len(batches[i]), grad, norm)
            adam.step()
            adam.zero_grad()
        return [_course(plan, b, said) for plan, b, said in zip(plans, batches, log, strict=True)]

    def sample(self, prompts: Sequence[tuple[int | None, str, Prompt]], how: Sampling, *, seed: str) -> list[list[Attempt]]:
        """`how.n` attempts for each (adapter or None for the base, task id, prompt), in order.

        What is drawn depends on (`seed`, task id, attempt) and the adapter's distribution: the same task under two adapters
        gets the same random numbers.
        """
        engine, (who, seats) = self.engine, self._seats([owner for owner, _, _ in prompts])
        named = [(t, (seat, *engine._ids(t, p, how.max_tokens))) for seat, (_, t, p) in zip(seats, prompts, strict=True)]
        rows = engine._rows_that_fit(engine._columns(named, how))
        with self._at_work(who) as net:
            groups = decode(net, engine._stops_at(how.stop), named, how, seed=seed, max_rows=rows)
        return [[replace(a, prompt_ids=a.prompt_ids[1:]) for a in group] for group in groups]

    def score(self, attempts: Sequence[tuple[int | None, Attempt]], *, temperature: float = 1.0) -> list[Scores]:
        """Teacher-forced statistics of each attempt's tokens under its adapter, None being the base."""
        who, seats = self._seats([owner for owner, _ in attempts])
        seated = [replace(a, prompt_ids=(seat, *a.prompt_ids)) for seat, (_, a) in zip(seats, attempts, strict=True)]
        scores: dict[int, Scores] = {}
        with self._at_work(who) as net:
            for batch in micro_batches(seated, self.engine._tokens_that_fit()):
                rows = [(seated[i].prompt_ids, seated[i].ids) for i in batch]
                scores.update(zip(batch, scores_of(net, rows, temperature), strict=True))
        return [scores[i] for i in range(len(attempts))]

    def save(self, i: int, folder: Path) -> None:
        """Write adapter i, in float32, as a folder that `peft` loads."""
        from peft import LoraConfig

        if self.engine.peft is not None:
            raise UserError("the engine was opened with an adapter of its own (lora): PEFT could not load one that stands on it")
        base, turned = str(self.engine.model.name_or_path), any(isinstance(layer, Conv1D) for layer in self.layers.values())
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=0.0, target_modules=self.targets, task_type="CAUSAL_LM",
            base_model_name_or_path=base, inference_mode=True, fan_in_fan_out=turned,
        )  # fmt: skip
        config.save_pretrained(str(folder))
        settle(folder)
        save_file({k: v.contiguous() for k, v in self._named(i).items()}, folder / "adapter_model.safetensors")

    @torch.no_grad()
    def load(self, i: int, folder: Path) -> None:
        """Take adapter i from a folder that `save` or `peft` wrote. It must have this rank, alpha and these targets."""
        own, stored = self._named(i), read(folder / "adapter_model.safetensors")
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in stored.items()} or stored_scale(folder) != self._scale:
            mine = f"rank {self.rank}, alpha {self.alpha:g} on {', '.join(self.targets)}"
            raise UserError(f"{folder}: an adapter of another rank, alpha or other targets than these ({mine})")
        for name, tensor in own.items():
            tensor.copy_(stored[name])

    @torch.no_grad()
    def merge(self, i: int) -> None:
        """Add adapter i to the policy's weights, which then learn from zero moments. Adapters stay what they are: differences to the
        policy, whatever its weights."""
        own = self.engine._trainable
        if self.engine.peft is not None or any(f"{name}.weight" not in own for name in self.layers):
            raise UserError(
                "an adapter is merged into all weights of a policy, and here only a part is trained; leave lora and part out"
            )
        for name, (a, b) in zip(self.layers, self._split(self.weights[i : i + 1]), strict=True):
            weight, delta = own[f"{name}.weight"], self._scale * (b[0] @ a[0])
            weight.copy_(weight.float() + (delta.T if isinstance(self.layers[name], Conv1D) else delta))
        self.engine._use(None)

    def shelve(self, i: int, key: str) -> None:
        self.engine._shelf.add(self, i, key)

    # --- what they stand on ---------------------------------------------------------------------------------------------

    @property
    def _scale(self) -> float:
        return self.alpha / self.rank

    def _split(self, flat: Tensor) -> list[Pair]:
        """A [k, r, in] and B [k, out, r] of every layer as views of `flat` [k, P]."""
        parts = flat.split([a * b for a, b in self._shapes], dim=1)
        views = [part.unflatten(1, shape) for part, shape in zip(parts, self._shapes, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))

    def _blind(self, layer: int, a: Tensor) -> Tensor:
        """A [..., in] of a layer, or its gradient, without what is spared."""
        return a if self.spared is None else spare(a, self.spared[layer])

    @torch.no_grad()
    def _blinded(self, flat: Tensor) -> None:
        """The same for every layer of `flat` [k, P], in place."""
        for n, (a, _) in enumerate(self._split(flat) if self.spared else ()):
            a.copy_(self._blind(n, a))

    def _seats(self, owners: Sequence[int | None]) -> tuple[list[int], list[int]]:
        """The rows of `_rows` at work, and for each of `owners` its seat among them."""
        rows = [len(self) if owner is None else range(len(self))[owner] for owner in owners]
        who = sorted(set(rows))
        return who, [who.index(row) for row in rows]

    def _named(self, i: int) -> dict[str, Tensor]:
        """Views of adapter i's weights under the names PEFT stores them by."""
        pairs = zip(self.layers, self._split(self.weights[i : i + 1]), strict=True)
        return {f"base_model.model.{name}.lora_{x}.weight": t[0] for name, pair in pairs for x, t in zip("AB", pair, strict=True)}

    def _starts(self, seed: int) -> Iterator[Tensor]:
        """The initial A [r, in] of every layer. PEFT makes both matrices as layers, which draws numbers, and then draws A anew."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for read, written in self._sizes:
                a, _ = nn.Linear(read, self.rank, bias=False), nn.Linear(self.rank, written, bias=False)
                yield nn.init.kaiming_uniform_(a.weight, a=math.sqrt(5))

    @contextmanager
    def _at_work(self, who: Sequence[int], grads: Tensor | None = None) -> Iterator[AdaptedNet]:
        """The net with these adapters in its seats. Their gradients, if asked for, are added to `grads` [k, P]."""
        kind, net = self.engine.model.dtype, self.engine.net
        both = enumerate(self._split(self._rows))
        pairs = [(self._blind(n, a.detach()[who]).to(kind), b.detach()[who].to(kind)) for n, (a, b) in both]
        for pair, totals in zip(pairs, self._split(grads), strict=True) if grads is not None else ():
            for tensor, total in zip(pair, totals, strict=True):
                tensor.requires_grad_().register_post_accumulate_grad_hook(_into(total))
        with adapted(net, self.layers, pairs, self._scale) as view:
            yield view

    def _gradients(self, now: Mapping[int, tuple[Plan, list[int]]]) -> tuple[list[float], Tensor]:
        """Loss [k] and gradient [k, P] of one step of these adapters, in micro-batches of alike lengths that fit into memory."""
        rows: list[Row] = []
        for seat, (plan, batch) in enumerate(now.values()):
            examples = [plan.examples[j] for j in batch]
            rows += map(Row, [seat] * len(batch), examples, plan.weights(examples))

        def attempt(size: int) -> tuple[list[float], Tensor]:
            grads, losses = self.weights.new_zeros(len(now), self.weights.shape[1]), self.weights.new_zeros(len(now))
            with self._at_work(list(now), grads) as net:
                for batch in that_fit(rows, size):
                    losses += backward(net, batch)
            self._blinded(grads)
            return losses.tolist(), grads

        return halving(
            attempt, self.engine._tokens_that_fit(), SMALLEST, "in a step of a few tokens: train fewer adapters at once"
        )


def opened(engine: LocalEngine, folders: Sequence[Path]) -> Adapters:
    """The adapters in these folders, of one rank, alpha and the same targets."""
    many = Adapters(engine, len(folders), **stored_shape(folders[0]))
    for i, folder in enumerate(folders):
        many.load(i, folder)
    return many


def _into(total: Tensor):
    """A hook that adds a tensor's fresh gradient to `total` in float32, so that micro-batches add up exactly."""

    def move(tensor: Tensor) -> None:
        total.add_(tensor.grad)  # type: ignore[arg-type]
        tensor.grad = None

    return move


def _group(row: Tensor, plan: Plan | None) -> dict[str, Any]:
    """What the optimiser has to know of an adapter; it works on the row itself. Without gradient it leaves it alone."""
    own = {"betas": plan.betas, "weight_decay": plan.weight_decay} if plan else {}
    return {"params": [nn.Parameter(row)], **own}


def _prepare(group: dict[str, Any], plan: Plan, step: int, steps: int, grad: Tensor, norm: float) -> None:
    """Set an adapter's learning rate and its clipped gradient (as `clip_grad_norm_` clips), if that is finite."""
    group["lr"] = plan.rate(step, steps)
    if math.isfinite(norm):
        share = plan.max_grad_norm / (norm + 1e-6)
        group["params"][0].grad = grad.mul_(share) if share < 1 else grad


def _course(plan: Plan | None, batches: list[list[int]], log: list[tuple[float, float]]) -> Course:
    tokens = sum(len(plan.examples[j].ids) - 1 for batch in batches for j in batch) if plan else 0
    return Course(tuple(loss for loss, _ in log), tuple(norm for _, norm in log), tokens)
