"""How fast sampling and learning are: against other libraries on the same machine, and against what its arithmetic allows."""

from antaeus.bench.measure import KINDS, compare, describe

__all__ = ["KINDS", "compare", "describe"]
