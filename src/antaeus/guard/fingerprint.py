"""Which weights are at work? A version's fingerprint is how it scores a few fixed completions; it is taken when the version is made
and compared whenever it is loaded again, so that examining or handing out stale or foreign weights is found out.

A hash of files cannot see what a process computes with. Scores can, and need no verb but the engine's own `score`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from antaeus.engine.base import Engine
from antaeus.types import Attempt

PROBES = 64  # completions
STRETCH = 8  # tokens: the probability of a longer completion is taken to that of so many of its tokens, or it would be 0
BASE = "base"  # the version that a run starts from
NEAR = 0.05  # root mean square in nats; the same weights in bfloat16 differ by some thousandths with the number of threads,
SAME = 0.01  # so that what is nearer than this may be the same

Fingerprint = list[float]
"""The policy's log-probabilities of the probe's tokens, in nats, rounded to 1e-4."""


class WrongWeights(RuntimeError):
    """The weights at work are not those of the version they are taken for. A bug or a manipulated file, not bad input."""


@dataclass
class Registry:
    """The fingerprints of a run's versions, by version id, and the completions (prompt ids, ids) they are taken on. All JSON."""

    probe: list[tuple[list[int], list[int]]] = field(default_factory=list)
    versions: dict[str, Fingerprint] = field(default_factory=dict)

    def choose(self, attempts: Sequence[Attempt]) -> None:
        """Take the first of `attempts` as the probe, once."""
        self.probe = self.probe or [(list(a.prompt_ids), list(a.ids)) for a in attempts[:PROBES]]

    def take(self, engine: Engine) -> Fingerprint:
        """The fingerprint of the weights at work."""
        fixed = [Attempt("probe", i, tuple(p), tuple(c), "", "length", (), ()) for i, (p, c) in enumerate(self.probe)]
        return [round(p, 4) for scores in engine.score(fixed) for p in scores.logprobs]

    def retention(self, engine: Engine) -> float:
        """Mean probability that the policy gives the base's own greedy answers to the probe, as a share of what the base gave them.

        No label is looked at. Whoever learns something gives most of these answers more probability, not less: he becomes surer of
        what was right, and those he corrects were the doubtful ones. Whoever comes apart forgets them together.
        """
        return sum(self._sureness(self.take(engine))) / sum(self._sureness(self.versions[BASE]))

    def _sureness(self, logprobs: Fingerprint) -> list[float]:
        each = iter(logprobs)
        rows = [[next(each) for _ in ids] for _, ids in self.probe]
        return [math.exp(sum(row) * min(1.0, STRETCH / len(row))) for row in rows if row]

    def enter(self, engine: Engine, version: str) -> None:
        """Remember the weights at work as `version`."""
        self.versions[version] = self.take(engine)

    def check(self, engine: Engine, version: str) -> None:
        """Raises `WrongWeights` unless the weights at work are `version`'s, up to rounding, and no other version's are nearer."""
        found = self.take(engine)
        apart = {name: math.dist(found, known) / len(found) ** 0.5 for name, known in self.versions.items()}
        own = apart.get(version, float("inf"))
        nearest = min(apart, key=lambda name: apart[name])
        if own > NEAR or apart[nearest] < own - SAME:
            raise WrongWeights(
                f"the weights at work are not {version}: their fingerprint is {own:.3g} nats from {version}'s and {apart[nearest]:.3g} "
                f"from {nearest}'s; the version's folder was changed, or another was loaded"
            )


def short(fingerprint: Fingerprint) -> str:
    """Twelve hexadecimal digits to show."""
    return hashlib.blake2b(repr(fingerprint).encode(), digest_size=6).hexdigest()
