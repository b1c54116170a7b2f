"""How much memory there is to plan with, and keeping the C library from giving it back too eagerly."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from antaeus.errors import UserError

T = TypeVar("T")

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt(3)


def free_bytes(device: torch.device) -> int:
    """Memory to count on: what is free, but at most three quarters of all there is."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    else:
        memory = psutil.virtual_memory()
        free, total = memory.available, min(memory.total, _container_limit())
    return min(free, total * 3 // 4)


def exhausted(err: BaseException) -> bool:
    """Whether this error says that memory ran out: PyTorch has a class of its own for GPUs, and a sentence for the CPU."""
    return isinstance(err, torch.OutOfMemoryError) or (isinstance(err, RuntimeError) and "can't allocate memory" in str(err))


def halving(work: Callable[[int], T], size: int, least: int, advice: str) -> T:
    """`work(size)`, anew with half the size whenever memory runs out. Raises `UserError` with `advice` once `least` is too much."""
    while True:
        try:
            return work(size)
        except RuntimeError as err:
            if not exhausted(err):
                raise
        if size <= least:
            raise UserError(f"out of memory {advice}")
        size = max(least, size // 2)


def keep_freed(model_bytes: int) -> None:
    """Let glibc keep large blocks it has freed instead of returning them to the system and getting them back, zeroed page by page, a
    moment later: the system's share of a training step on the CPU fell from 13-21 % to nothing. Fragments may cost memory, hence
    only for models small beside what there is; elsewhere, and with other C libraries, nothing happens."""
    if sys.platform == "linux" and model_bytes * 20 < psutil.virtual_memory().total:
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _container_limit() -> int:
    """The memory a container may use, where this process is in one (cgroup v2)."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return sys.maxsize
