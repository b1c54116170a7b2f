"""A trainer's own model, read as our engine reads its own, and left as it was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from antaeus.engine import models
from antaeus.engine.attention import install
from antaeus.engine.forward import Net
from antaeus.engine.local import LocalEngine
from antaeus.engine.models import end_tokens
from antaeus.errors import UserError


class TrainersModel(LocalEngine):
    """The sampling half of `LocalEngine` over a model that somebody else trains, plain or with a PEFT adapter.

    Use it inside `visit` only. Snapshots hold the adapter's weights where there is an adapter, else all of them.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        peft = hasattr(model, "peft_config") and hasattr(model, "get_base_model")
        if peft and model.active_peft_config.is_prompt_learning:
            raise UserError(
                "the guard reads LoRA and other adapters inside the model's layers, no soft prompts: use another adapter"
            )
        self.whole, self.model, self.tokenizer = model, model.get_base_model() if peft else model, tokenizer
        self.context, self.chat = models.context_length(self.model), bool(tokenizer.chat_template)
        self.learner, self._eos, self._stops = None, end_tokens(self.model, tokenizer), {}
        self._trainable = {n: p for n, p in self.model.named_parameters() if p.requires_grad or not peft}
        with self._as_found():
            self.whole.eval()
            self.net = Net(self.model)

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Inside, the model answers: no dropout, our attention. Afterwards modes, attention and random numbers are the trainer's."""
        with self._as_found():
            self.whole.eval()
            install(self.model)
            yield

    def store(self, file: Path) -> None:
        """Write the weights that training changes, in their own type."""
        save_file({n: p.detach().cpu().contiguous() for n, p in self._trainable.items()}, file)

    @torch.no_grad()
    def restore(self, file: Path) -> None:
        """Take the weights of `store`, to the bit."""
        for name, values in load_file(file).items():
            self._trainable[name].copy_(values)

    @contextmanager
    def _as_found(self) -> Iterator[None]:
        training = [module for module in self.whole.modules() if module.training]
        attention = self.model.config.get_text_config()._attn_implementation
        with torch.random.fork_rng([self.model.device] if self.model.device.type == "cuda" else []):
            try:
                yield
            finally:
                for module in training:
                    module.training = True
                if self.model.config.get_text_config()._attn_implementation != attention:
                    self.model.set_attn_implementation(attention)
