"""How fast sampling and learning are: against other libraries on the same machine, and against what its arithmetic allows."""

from antaeus.bench.measure import KINDS, compare
from antaeus.bench.text import describe

__all__ = ["KINDS", "compare", "describe"]
