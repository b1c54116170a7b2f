"""The engine on this machine: a `transformers` model on the CPU or one GPU, full fine-tuning or LoRA."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from antaeus.engine import memory, models, stored
from antaeus.engine.adapter_plans import plans_of
from antaeus.engine.base import Adapted, Sampling, Scores, Trained, Trial, Tuning, Update, Weights
from antaeus.engine.checks import reason
from antaeus.engine.decode import Stops, decode
from antaeus.engine.forward import Net
from antaeus.engine.lora import settle, with_lora
from antaeus.engine.quiet import quiet
from antaeus.engine.shelf import Shelf
from antaeus.engine.sparing import directions
from antaeus.engine.update import Learner, micro_batches, scores_of
from antaeus.errors import UserError
from antaeus.types import Attempt, Lesson, Prompt

# Sums are rounded by the way a batch is cut. These bounds do not move with what other programs leave free, so that where they
# are the ones that bind, a replay cuts as the first time did and gives the same bytes.
MAX_ROWS, MAX_TOKENS = 512, 4096


class LocalEngine:
    """`Engine` over one model in this process. `lora` is the adapter's rank, 0 = the model's own weights are trained: all, or with
    `part` "norms" those of its normalisation layers alone."""

    def __init__(
        self, model: str, *, device: str | None = None, dtype: str | None = None, lora: int = 0, part: str = "all", seed: int = 0
    ) -> None:
        where, kind = models.device_and_dtype(device, dtype)
        causal, self.tokenizer = models.load(model, dtype=kind, device=where)
        causal.eval()  # no dropout anywhere: the policy that learns is the policy that was sampled
        self.peft = with_lora(causal, models.resolve(model), lora, seed) if lora else None
        if part == "norms" and not lora:
            models.freeze_all_but_norms(causal)
        self.model = causal
        self.net = Net(causal)
        if self.net.device.type == "cpu":
            memory.keep_freed(causal.num_parameters() * causal.dtype.itemsize)
        self.context = models.context_length(causal)
        self.chat = bool(self.tokenizer.chat_template)
        self.kind: Literal["weights", "adapter"] = "adapter" if lora else "weights"
        self.learner: Learner | None = None
        self._trainable = {n: p for n, p in causal.named_parameters() if p.requires_grad}
        self._reference = {n: stored.thrifty(p.detach()) for n, p in self._trainable.items()}
        self._average: dict[str, torch.Tensor] | None = None  # float32; None = the reference
        self._eos = models.end_tokens(causal, self.tokenizer)
        self._stops: dict[tuple[str, ...], Stops] = {}
        self._others: dict[str, LocalEngine] = {}
        self._home = models.resolve(model)  # whose shelf the reference has
        self._shelf = Shelf(self)
        self._shelf.load(self._home)
        if lora and self._shelf.keys:
            raise UserError(f"{model}: it has adapters on a shelf, beside which no other can be trained; leave lora out")

    # --- the verbs ------------------------------------------------------------------------------------------------------

    def sample(self, prompts: Sequence[tuple[str, Prompt]], how: Sampling, *, seed: str) -> list[list[Attempt]]:
        ids = [(task, self._ids(task, prompt, how.max_tokens)) for task, prompt in prompts]
        rows = self._rows_that_fit(self._columns(ids, how))
        return decode(self.net, self._stops_at(how.stop), ids, how, seed=seed, max_rows=rows)

    @torch.inference_mode()
    def score(self, attempts: Sequence[Attempt], *, weights: Weights = "policy", temperature: float = 1.0) -> list[Scores]:
        scores: dict[int, Scores] = {}
        with self._weights(weights):
            for batch in micro_batches(attempts, self._tokens_that_fit()):
                rows = [(attempts[i].prompt_ids, attempts[i].ids) for i in batch]
                scores.update(zip(batch, scores_of(self.net, rows, temperature), strict=True))
        return [scores[i] for i in range(len(attempts))]

    def train(self, lessons: Sequence[Lesson], how: Update) -> Trained:
        return self._learner().step(lessons, how, self._tokens_that_fit())

    @torch.no_grad()
    def follow(self, share: float) -> None:
        start = self._average or self._reference
        self._average = {n: start[n].float().lerp(p.float(), share) for n, p in self._trainable.items()}

    @contextmanager
    def trial(self) -> Iterator[Trial]:
        kept, learner, shelf = {n: p.detach().clone() for n, p in self._trainable.items()}, self.learner, self._shelf
        self._use(None)
        self._shelf, trial = shelf.copy(), Trial()
        try:
            yield trial
        finally:
            if not trial.kept:
                self._put(kept)
                self._use(learner)
                self._shelf = shelf

    def adapters(
        self,
        courses: Sequence[Sequence[Lesson]],
        how: Tuning | Sequence[Tuning],
        *,
        sparing: Sequence[Lesson] = (),
        share: float = 0.0,
    ) -> Adapted:
        from antaeus.engine.adapters import Adapters  # which stands on this file

        like, plans = plans_of(courses, how)
        many = Adapters(self, len(courses), rank=like.rank, alpha=like.alpha, targets=like.targets)
        if sparing and share:
            many.spared = directions(self.net, many.layers, sparing, share, self._tokens_that_fit())
        many.train(plans)
        return many

    @property
    def shelf(self) -> Sequence[str]:
        return self._shelf.keys

    def shelved(self) -> Adapted:
        if self._shelf.adapters is None:
            raise UserError("no adapter is kept beside this policy")
        return self._shelf.adapters

    def save(self, folder: Path, *, resumable: bool = False) -> None:
        try:
            self._write(folder, resumable)
        except SafetensorError as err:  # an error of the disk comes as text
            raise OSError(errno.ENOSPC if "os error 28" in str(err) else errno.EIO, str(err), str(folder)) from err

    def _write(self, folder: Path, resumable: bool) -> None:
        self._shelf.save(folder)
        if resumable:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self._learner().state(), folder / "learner.safetensors")
            if self._average:
                save_file(self._average, folder / "average.safetensors")
            return
        with quiet():
            (self.peft or self.model).save_pretrained(str(folder), safe_serialization=True)
            self.tokenizer.save_pretrained(folder)
        if self.peft is not None:
            settle(folder)

    @torch.no_grad()
    def load(self, folder: Path | None, *, resumable: bool = False) -> None:
        self._shelf.load(folder or self._home)
        if resumable and folder is not None:
            file, learner = folder / "learner.safetensors", self._learner()
            learner.restore(
                stored.expect(file, stored.read(file), {k: v for k, v in learner.state().items() if k.endswith("master")})
            )
            average = folder / "average.safetensors"
            self._average = stored.expect(average, stored.read(average), self._trainable) if average.exists() else None
            return
        self._put(self._reference if folder is None else stored.weights(folder, self._trainable, self.kind))
        self._use(None)  # masters and moments belong to other weights

    # --- what they stand on ---------------------------------------------------------------------------------------------

    def render(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        if not self.chat:
            raise UserError("the prompts are chat messages and the model has no chat template: use text prompts or a chat model")
        turns = [{"role": m.role, "content": m.content} for m in prompt]
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as err:  # a template is a program of somebody else and refuses what it likes, system turns above all
            roles = ", ".join(turn["role"] for turn in turns)
            raise UserError(f"the model's chat template refuses turns of {roles} ({reason(err)}); change the prompts") from err

    def encode(self, prompt: Prompt, text: str, *, end: bool = True) -> tuple[tuple[int, ...], tuple[int, ...]]:
        ids = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        read = self._ids("to learn from", prompt, len(ids) + 1) if prompt else self._begins(len(ids) + 1)
        return read, (*ids, *sorted(self._eos)[:end])

    def beside(self, model: str) -> LocalEngine:
        if model not in self._others:
            self._others[model] = LocalEngine(
                model, device=str(self.model.device), dtype=str(self.model.dtype).rpartition(".")[2]
            )
        return self._others[model]

    def _begins(self, tokens: int) -> tuple[int, ...]:
        """What the tokenizer puts before a text: of a document of so many tokens, all that is read without being learned."""
        bos: Any = self.tokenizer.bos_token_id
        ids = (int(bos),) if self.tokenizer.encode("a")[:1] == [bos] else ()
        if len(ids) + tokens > self.context:
            raise UserError(
                f"a document of {tokens} tokens exceeds the model's context of {self.context}; cut it into shorter ones"
            )
        return ids

    def _ids(self, task: str, prompt: Prompt, max_tokens: int) -> tuple[int, ...]:
        ids = tuple(self.tokenizer.encode(self.render(prompt), add_special_tokens=isinstance(prompt, str)))
        if not ids:
            raise UserError(f"task {task!r}: the prompt is empty once it is tokenised")
        if len(ids) + max_tokens > self.context:
            raise UserError(
                f"task {task!r}: {len(ids)} prompt tokens + max_tokens={max_tokens} exceed the model's context of "
                f"{self.context}; shorten the prompt or lower max_tokens"
            )
        return ids

    def _stops_at(self, strings: tuple[str, ...]) -> Stops:
        if strings not in self._stops:
            self._stops[strings] = Stops(self.tokenizer, self._eos, strings)
        return self._stops[strings]

    @torch.no_grad()
    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        """Take these as the policy's weights."""
        for name, p in self._trainable.items():
            p.copy_(values[name])

    def _use(self, learner: Learner | None) -> None:
        """Let `learner` be the one that gathers gradients; None: a new one, once there is something to learn."""
        if self.learner is not None:
            self.learner.close()
        if learner is not None:
            learner.listen()
        self.learner = learner

    def _learner(self) -> Learner:
        if self.learner is None:
            self.learner = Learner(self.net, list(self._trainable.values()))
        return self.learner

    @contextmanager
    def _weights(self, which: Weights) -> Iterator[None]:
        """Compute with the weights asked for inside the block."""
        mine = {n: p.data for n, p in self._trainable.items()}
        other = self._average or self._reference if which == "average" else self._reference
        try:
            if which != "policy":
                for n, p in self._trainable.items():
                    p.data = other[n].to(p.dtype)  # a copy only where the types differ
            yield
        finally:
            for n, p in self._trainable.items():
                p.data = mine[n]

    def _free_bytes(self) -> int:
        return memory.free_bytes(self.model.device)

    def _columns(self, prompts: Sequence[tuple[str, tuple[int, ...]]], how: Sampling) -> int:
        """How much of the cache a row takes: what it writes, and of the longest prompt its share, where a group keeps that once."""
        longest = max((len(ids) for _, ids in prompts), default=0)
        return how.max_tokens + (-(-longest // how.n) if self.net.packs else longest)

    def _rows_that_fit(self, width: int) -> int:
        """Rows whose caches (twice, while rows leave) and logits take at most half of the free memory; `MAX_ROWS` at most."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        cache = 2 * 2 * config.num_hidden_layers * heads * size * width * self.model.dtype.itemsize
        return min(MAX_ROWS, max(1, self._free_bytes() // 2 // (cache + 24 * config.vocab_size)))

    def _tokens_that_fit(self) -> int:
        """Tokens whose activations, about 40 hidden-sized tensors a layer, take at most half of the free memory; `MAX_TOKENS` at
        most."""
        config = self.model.config.get_text_config()
        each = 40 * config.hidden_size * config.num_hidden_layers * self.model.dtype.itemsize
        return min(MAX_TOKENS, max(256, self._free_bytes() // 2 // each))
