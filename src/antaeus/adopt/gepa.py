"""Our gate as GEPA's acceptance criterion: a candidate enters the pool only if it is shown to be better than its parent.

    accept = SignificantGain(adapter, heldout, trainset=trainset)
    gepa.optimize(..., adapter=adapter, trainset=trainset, valset=valset, acceptance_criterion=accept)

GEPA by itself accepts whatever scores higher on a minibatch that the proposer has just been shown. Here a candidate that does is
compared with its parent on `heldout`, which no proposer ever sees. Limits: what is accepted tells a little about `heldout`, which is
used again for every test; merges (`use_merge`) do not ask the criterion, so leave them off.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from antaeus.errors import UserError
from antaeus.overlap import Index
from antaeus.stats import e_value

CHUNK = 8  # pairs evaluated between two looks at the evidence


class SignificantGain:
    """`gepa.strategies.acceptance.AcceptanceCriterion`. Test k = 1, 2, ... of a run has the error alpha / (k (k + 1)), which adds up to
    `alpha`: the chance that a run of any length accepts a candidate no better than its parent. One may look after every pair
    (`antaeus.stats.log_wealth`).

    `adapter` is GEPA's, its scores in [0, 1] (None or NaN: the evaluation failed, the pair does not count); `heldout` are instances as
    in `trainset`. Each test evaluates parent and candidate on `heldout`, in a random order, until it accepts or all is used; GEPA's
    budget of metric calls pays for it. The tests so far are counted in GEPA's state, so that a resumed run goes on spending.

    Raises `UserError` if `heldout` is too small for any candidate to be accepted, or shares instances with `trainset`.
    """

    def __init__(
        self, adapter: Any, heldout: Sequence[Any], *, trainset: Sequence[Any] = (), alpha: float = 0.05, seed: int = 0
    ) -> None:
        self.adapter, self.heldout, self.alpha, self.seed = adapter, list(heldout), alpha, seed
        if e_value([1.0] * len(self.heldout)) < 2 / alpha:
            raise UserError(
                f"{len(self.heldout)} held-out instances are too few to accept anything at alpha = {alpha}: give 30 or more"
            )
        index = Index((str(x), str(x)) for x in self.heldout)
        if shared := [x for x in trainset if index.hit(str(x)) is not None]:
            raise UserError(f"{len(shared)} held-out instances, or nearly, are in the trainset (first: {str(shared[0])[:80]!r})")

    def should_accept(self, proposal: Any, state: Any) -> bool:
        if sum(proposal.subsample_scores_after or []) <= sum(proposal.subsample_scores_before or []):
            return False  # as GEPA does; no test is spent on it
        k = 1 + sum(len(entry.get("guard", ())) for entry in state.full_program_trace)
        parent = state.program_candidates[proposal.parent_program_ids[0]]
        needed = k * (k + 1) / self.alpha
        gains, infra, reached = self._compare(parent, proposal.candidate, needed, f"{self.seed}/{k}", state)
        accepted = reached >= needed and infra * 10 <= len(gains) + infra
        record = {"test": k, "wealth": reached, "needed": needed, "pairs": len(gains), "infra": infra, "accepted": accepted}
        state.full_program_trace[-1].setdefault("guard", []).append(record)
        return accepted

    def reject_reason(self, proposal: Any, state: Any) -> str:
        """What GEPA logs of a candidate that was turned down."""
        tests = state.full_program_trace[-1].get("guard")
        if not tests:
            return "not better on the minibatch"
        test, seen, needed, pairs, infra = (tests[-1][key] for key in ("test", "wealth", "needed", "pairs", "infra"))
        return f"no proof of a gain in test {test}: wealth {seen:.3g} of {needed:.3g} on {pairs} pairs, {infra} failed"

    def _compare(self, parent: Any, child: Any, needed: float, seed: str, state: Any) -> tuple[list[float], int, float]:
        """Gains of the child pair by pair, how many pairs failed, and the wealth where it stopped."""
        order, gains, infra = random.Random(seed).sample(self.heldout, len(self.heldout)), [], 0
        for start in range(0, len(order), CHUNK):
            part = order[start : start + CHUNK]
            before, after = (self.adapter.evaluate(part, candidate).scores for candidate in (parent, child))
            state.increment_evals(2 * len(part))
            pairs = [(b, a) for b, a in zip(before, after, strict=True) if _known(b) and _known(a)]
            gains += [a - b for b, a in pairs]
            infra += len(part) - len(pairs)
            if (reached := e_value(gains)) >= needed:
                break
        return gains, infra, reached


def _known(score: float | None) -> bool:
    if score is None or math.isnan(score):
        return False
    if not 0 <= score <= 1:
        raise UserError(f"a score is {score}: the test takes scores from 0 to 1, let the adapter scale them")
    return True
