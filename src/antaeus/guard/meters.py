"""Signals of collapse that need no labels, measured every round. `DEFINITIONS` is what the report shows under each curve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from antaeus.answers import canonical, classes
from antaeus.engine.base import Metrics, Scores
from antaeus.types import Group, Verdict

DEFINITIONS = {
    "agreement": "Share of attempts in their prompt's most frequent answer class, mean over prompts.",
    "answer_entropy": "Entropy (nats) of a prompt's answer classes, mean over prompts; 0 when all attempts agree.",
    "unanimous": "Share of prompts whose attempts all got the same score, or no verdict: these teach nothing.",
    "no_answer": "Share of attempts from which no answer could be read.",
    "same_answer": "Largest share of prompts that have the same majority answer. Near 1, answers no longer depend on the prompt.",
    "proxy_reward": "Mean score the verifier gave, whatever its source.",
    "kl_to_base": "k3 estimate of KL(policy || base) in nats a token, on one attempt of each prompt.",
    "length": "Mean tokens of an attempt.",
    "truncated": "Share of attempts cut by the token limit.",
    "token_entropy": "Entropy (nats) of the next-token distribution at sampling, mean over tokens.",
}


def measure(groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Sequence[Scores]) -> dict[str, float]:
    """All meters of one round. `reference` scores the first attempt of each group under the base."""
    attempts = [a for g in groups for a in g.attempts]
    scores = [v.score for row in verdicts for v in row if v.score is not None]
    votes = [_votes(g) for g in groups]
    top = [max(v.values(), default=0) / len(g.attempts) for v, g in zip(votes, groups, strict=True)]
    return {
        "agreement": fmean(top),
        "answer_entropy": fmean(_entropy(v) for v in votes),
        "unanimous": fmean(unanimous(row) for row in verdicts),
        "no_answer": fmean(a.answer is None for a in attempts),
        "same_answer": _same_answer(groups),
        "proxy_reward": fmean(scores) if scores else 0.0,
        "kl_to_base": _kl([g.attempts[0].logprobs for g in groups], reference),
        "length": fmean(len(a.ids) for a in attempts),
        "truncated": fmean(a.stop == "length" for a in attempts),
        "token_entropy": fmean(h for a in attempts for h in a.entropies),
    }


def unanimous(verdicts: Sequence[Verdict]) -> bool:
    """Whether all attempts got the same score (those with none left aside), so that no advantage is left."""
    return len({v.score for v in verdicts if v.score is not None}) < 2


ALARMS = {
    "no_answer": (0.5, "more than half of the attempts have no answer"),
    "same_answer": (0.5, "more than half of the prompts have the same majority answer: answers stop depending on the prompt"),
    "unanimous": (0.95, "nearly every prompt is unanimous or without a verdict: almost nothing is left to learn from"),
    "truncated": (0.5, "more than half of the attempts are cut by max_tokens"),
}


def alarms(meters: Metrics, prompts: int) -> list[str]:
    """The alarms that ring. The share of equal majorities means something from 4 prompts on."""
    return [text for name, (limit, text) in ALARMS.items() if meters[name] > limit and (name != "same_answer" or prompts >= 4)]


def _votes(group: Group) -> Counter[int]:
    return Counter(c for c in classes([a.answer for a in group.attempts]) if c is not None)


def _entropy(votes: Counter[int]) -> float:
    total = votes.total()
    return -sum(n / total * math.log(n / total) for n in votes.values())


def _same_answer(groups: Sequence[Group]) -> float:
    majorities = [Counter(canonical(a.answer) for a in g.attempts if a.answer is not None).most_common(1) for g in groups]
    count = Counter(m[0][0] for m in majorities if m)
    return max(count.values(), default=0) / len(groups)


def _kl(policy: Sequence[Sequence[float]], reference: Sequence[Scores]) -> float:
    ratios = [r - p for row, ref in zip(policy, reference, strict=True) for p, r in zip(row, ref.logprobs, strict=True)]
    return fmean(math.exp(min(d, 10.0)) - d - 1 for d in ratios)
