"""How fast a learning step is: against another trainer on the same machine, and against what the machine's arithmetic allows."""

from antaeus.bench.measure import PEERS, describe, step

__all__ = ["PEERS", "describe", "step"]
