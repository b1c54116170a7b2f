"""MM-UPT: unsupervised post-training by majority, GRPO with an asymmetric clip (rung 4).

Paper: Unsupervised Post-Training for Multi-Modal LLM Reasoning via GRPO, Wei et al. 2025, arXiv 2505.22453. Ten attempts at
temperature .7 with a nucleus of .99, the majority is the label, the clip is .2 below and .3 above.

What differs, and why:
* Text alone: the engine reads no images, and prompts with an image's place in them are refused. So this is the paper's text side,
  and no figure of the paper, which are all about vision, applies.
* Questions that the model writes itself (the paper's synthetic data) are left out: a recipe that proposes tasks is of rung 5.
* Votes and rewards use one and the same classes of equivalent answers, and no answer never wins; in the official code the text
  "None" could.
* Four updates a round, since with one the ratio is 1 and the clip never acts. No KL term (0.01 there: `kl=0.01`).
* Statistics (entropy, log-probability) are those of temperature .7 over the whole distribution; the nucleus only restricts what is
  drawn, as in the paper's trainer.

Command: `antaeus run mm_upt --model lab lr=1e-4 prompts=32 rounds=20`.
Expect: on the laboratory model 50.5 -> 70.5 % of 200 unseen sums (seed 0, half a minute), the last version 68.0; 63.5 with lr=3e-5.
On SmolLM2 (`rounds=10`, seed 0): 28.5 -> 49.0 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from antaeus.engine.base import Engine
from antaeus.errors import UserError
from antaeus.overlap import text_of
from antaeus.recipes.base import knob, preset
from antaeus.recipes.ttrl import TTRL
from antaeus.types import TaskSet

IMAGES = ("<image>", "<|image_pad|>", "<|vision_start|>", "<img")  # how trainers and chat templates mark an image's place


@dataclass(frozen=True)
class MMUPT(TTRL):
    """MM-UPT (Wei et al. 2025, arXiv 2505.22453), its text side."""

    name: ClassVar[str] = "mm_upt"
    title: ClassVar[str] = "majority labels at temperature .7 with a wide upper clip; text alone (arXiv 2505.22453)"

    samples: int = preset("samples", 10)
    temperature: float = preset("temperature", 0.7)
    top_p: float = preset("top_p", 0.99)
    updates: int = preset("updates", 4)
    clip_high: float = preset("clip_high", 0.3)
    agreement: float = knob(0.0, "learn only from prompts whose majority has at least this share of the votes", low=0.0, high=1.0)

    def refuse(self, tasks: TaskSet, engine: Engine) -> None:
        for task in (*tasks.practice, *tasks.anchor, *tasks.exam):
            if any(mark in text_of(task.prompt) for mark in IMAGES):
                raise UserError(
                    f"mm_upt: the prompt of task {task.id!r} has an image in it, and images are not read here; give tasks in text, or "
                    "describe the image in words (ttrl would not see it either)"
                )
