"""The most memory a process held: its resident set, or what its tensors took of a GPU. In MB of 10**6 bytes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path
from typing import Any

import psutil


def forget() -> int:
    """Give back what is free and let both peaks begin anew. Returns what is held now, MB.

    The resident set's peak is forgotten on Linux only (proc(5), `clear_refs`); elsewhere it goes on from the process's start.
    """
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library, or a sandbox that does not let us
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
    if gpu := _gpu():
        gpu.empty_cache()
        gpu.reset_peak_memory_stats()
        return gpu.memory_allocated() // 10**6
    return psutil.Process().memory_info().rss // 10**6


def peak_mb() -> int:
    """The most memory held since the peak was forgotten, where the tensors are: on the GPU if there is one, else the resident set."""
    gpu = _gpu()
    return gpu.max_memory_allocated() // 10**6 if gpu else peak_rss_mb()


def _gpu() -> Any:
    """`torch.cuda`, in a process that has loaded torch, on a machine that has one."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() else None


def peak_rss_mb() -> int:
    """The largest resident set. `ru_maxrss` may be the parent's, hence only where there is no /proc."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024 // 10**6
    except (OSError, KeyError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) // 10**6
