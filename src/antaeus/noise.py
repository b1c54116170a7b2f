"""Random numbers that depend on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np


def uniforms(seed: str, task_id: str, index: int, n: int) -> np.ndarray:
    """The n uniform numbers of one row, float32 in [0, 1). They depend on the arguments alone, so neither the batch a row
    stands in nor its place there can change what is drawn, but through rounding of the logits."""
    key = hashlib.blake2b(f"{seed}|{task_id}|{index}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).random(n, dtype=np.float32)
