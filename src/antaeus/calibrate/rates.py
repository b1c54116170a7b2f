"""From recorded runs to error rates: how early the alarms ring, how often for nothing, how often the gate promotes what is no better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from antaeus import stats
from antaeus.calibrate.runs import Record, rounds
from antaeus.guard import gate, rules
from antaeus.guard.alarms import RULES, Rule, ringing
from antaeus.types import Source, Verdict

FRESH = {"lab": {"collapse": 64, "healthy": 83}, "smollm2": {"collapse": 11, "healthy": 11}}
"""The first seed of each kind that no limit was chosen on."""
LOSS = 0.05  # of accuracy on the anchors, below the base: what an alarm must come before
Rules = Mapping[str, Rule]


def first_alarm(record: Record, alarms: Rules = RULES) -> tuple[int, list[str]] | None:
    """The round in which an alarm rings first, and which; None where none does."""
    history, prompts = rounds(record), record["settings"]["prompts"]
    for n in range(1, len(history) + 1):
        if names := list(ringing(history[:n], prompts, alarms)):
            return n, names
    return None


def ruined(record: Record, loss: float = LOSS) -> int | None:
    """Of a run that ends with `loss` or more below the base on the anchors, the first round after which it was; None of any other."""
    below = [(round, correct / n <= record["anchors"][0][1] / n - loss) for round, correct, n in record["anchors"]]
    return next(round for round, lost in below if lost) if below[-1][1] else None


def parts(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Runs that were looked at when the alarms were made, and fresh ones, made when every limit was fixed: these judge them."""
    of: dict[str, list[Record]] = {"looked at": [], "fresh": []}
    for r in records:
        of["fresh" if r["seed"] >= FRESH.get(r["model"], {}).get(r["kind"], 0) else "looked at"].append(r)
    return of


def alarm_rates(records: Sequence[Record], alarms: Rules = RULES) -> dict[str, Any]:
    """How the alarms do: of runs that were driven into ruin, in how many they rang before the loss (also of those that were not
    ruined by their first update, before which no alarm can ring), or in the very round of it; of runs that stayed
    sound, in how many they rang for nothing."""
    driven = [r for r in records if r["kind"] == "collapse"]
    bad = [(r["drive"], at, first_alarm(r, alarms)) for r in driven if (at := ruined(r)) is not None]
    bells = [first_alarm(r, alarms) for r in records if r["kind"] == "healthy" and ruined(r) is None]
    ahead = [at - bell[0] for _, at, bell in bad if bell]
    return {
        "ruined": len(bad),
        "before": _share(sum(lead > 0 for lead in ahead), len(bad)),
        "before_possible": _share(sum(lead > 0 for lead in ahead), sum(at > 1 for _, at, _ in bad)),
        "by_then": _share(sum(lead >= 0 for lead in ahead), len(bad)),
        "never": len(bad) - len(ahead),
        "rounds_ahead": median(ahead) if ahead else None,
        "false": _share(sum(bell is not None for bell in bells), len(bells)),
        "not_ruined": len(driven) - len(bad),
        "kinds": {
            kind: _of_kind([(at, bell) for drive, at, bell in bad if drive == kind]) for kind in sorted({k for k, _, _ in bad})
        },
    }


def _of_kind(runs: Sequence[tuple[int, tuple[int, list[str]] | None]]) -> dict[str, Any]:
    ahead = [at - bell[0] for at, bell in runs if bell]
    return {
        "n": len(runs),
        "before": sum(lead > 0 for lead in ahead),
        "by_then": sum(lead >= 0 for lead in ahead),
        "ruined_at": median(at for at, _ in runs),
        "ahead": median(ahead) if ahead else None,
    }


def gate_rates(records: Sequence[Record]) -> dict[str, Any]:
    """How often the gate promotes where there is nothing to promote: whole no-op runs; the base against itself sampled anew, pair by
    pair, by our rule and by others'; and versions that were handed out although they are significantly worse than the base."""
    still = [r for r in records if r["kind"] == "none"]
    samples = [[float(mark) for mark in r["exam"]["base"]] for r in records if r["kind"] == "again"]
    pairs = [decided(a, b) for a, b in zip(samples[::2], samples[1::2], strict=False)]
    handed = [r for r in records if "promoted" in r]
    return {
        "no_op": _share(sum(r["decision"] == "promote" for r in still), len(still)),
        "resampled": _share(pairs.count("promote"), len(pairs)),
        "others": rules.on_real(samples[:40]) if len(samples) > 1 else {},
        "harmed": _share(sum(worse(r) for r in handed), len(handed)),
        "promoted": _share(sum(r["decision"] == "promote" for r in handed), len(handed)),
    }


def decided(before: Sequence[float], after: Sequence[float]) -> str:
    """The gate's verdict on two lists of scores at the same tasks."""
    was, now = ([Verdict(score, Source.GROUND) for score in scores] for scores in (before, after))
    return gate.decide(gate.compare(was, now), "after", "before").action


def worse(record: Record) -> bool:
    """Whether the version that was handed out is significantly worse than the base, by the exam's own marks (one-sided 2.5 %)."""
    before, after = (record["exam"][name] for name in ("base", record["promoted"]))
    return (
        stats.sign_flip([float(a) - float(b) for b, a in zip(before, after, strict=True) if "-" not in (a, b)], "less")
        <= gate.ALPHA
    )


def _share(k: int, n: int) -> dict[str, Any]:
    return {"k": k, "n": n, "ci": stats.proportion_interval(k, n)}
