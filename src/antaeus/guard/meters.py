"""Signals of collapse that need no labels, measured every round. `DEFINITIONS` is what the report shows under each curve."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pvariance

from antaeus.answers import canonical, classes
from antaeus.engine.base import Scores
from antaeus.types import Group, Verdict

DEFINITIONS = {
    "agreement": "Share of attempts in their prompt's most frequent answer class, mean over prompts.",
    "answer_entropy": "Entropy (nats) of a prompt's answer classes, mean over prompts; 0 when all attempts agree.",
    "unanimous": "Share of prompts whose attempts all got the same score, or no verdict: these teach nothing.",
    "no_answer": "Share of attempts from which no answer could be read.",
    "same_answer": "Largest share of prompts that have the same majority answer. Near 1, answers no longer depend on the prompt.",
    "shared_answer": "Share of prompts whose majority answer is another prompt's majority answer too.",
    "proxy_reward": "Mean score the verifier gave, whatever its source.",
    "reward_variance": "Variance of the scores within a prompt, mean over prompts.",
    "kl_to_base": "k3 estimate of KL(policy || base) in nats a token, on some attempts of each prompt.",
    "surprise": "Mean of -log p under the base, in nats a token, on the same attempts: what the base would not say raises it.",
    "retention": "Mean probability of the base's own greedy answers to the anchors (which of them are right is not looked at) after the "
    "round's update, as a share of what the base gave them: learning raises it, coming apart lowers it.",
    "length": "Mean tokens of an attempt.",
    "truncated": "Share of attempts cut by the token limit.",
    "repetition": "Share of an attempt's three-token runs that it had written before, mean over attempts.",
    "token_entropy": "Entropy (nats) of the next-token distribution at sampling, mean over tokens.",
    "judge_mean": "Mean score of the model that judges, where one does.",
    "judge_variance": "Variance of the judge's scores over all attempts.",
    "judge_first": "Share of the judge's comparisons won by the answer shown first; away from one half, position decides.",
}


SCORED = 4  # attempts of each prompt that are scored under the base for the meters


def measure(
    groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Sequence[Sequence[Scores]]
) -> dict[str, float]:
    """All meters of one round. `reference` scores the first attempts of each group, or all, under the base."""
    attempts = [a for g in groups for a in g.attempts]
    scores = [[v.score for v in row if v.score is not None] for row in verdicts]
    votes = [_votes(g) for g in groups]
    top = [max(v.values(), default=0) / len(g.attempts) for v, g in zip(votes, groups, strict=True)]
    majorities = _majorities(groups)
    return {
        "agreement": fmean(top),
        "answer_entropy": fmean(_entropy(v) for v in votes),
        "unanimous": fmean(unanimous(row) for row in verdicts),
        "no_answer": fmean(a.answer is None for a in attempts),
        "same_answer": max(majorities.values(), default=0) / len(groups),
        "shared_answer": sum(n for n in majorities.values() if n > 1) / len(groups),
        "proxy_reward": fmean(flat) if (flat := [s for row in scores for s in row]) else 0.0,
        "reward_variance": fmean(pvariance(row) if row else 0.0 for row in scores),
        "kl_to_base": _kl(groups, reference),
        "surprise": fmean(-p for row in reference for ref in row for p in ref.logprobs),
        "length": fmean(len(a.ids) for a in attempts),
        "truncated": fmean(a.stop == "length" for a in attempts),
        "repetition": fmean(_repetition(a.ids) for a in attempts),
        "token_entropy": fmean(h for a in attempts for h in a.entropies),
    } | _judge(verdicts)


def unanimous(verdicts: Sequence[Verdict]) -> bool:
    """Whether all attempts got the same score (those with none left aside), so that no advantage is left."""
    return len({v.score for v in verdicts if v.score is not None}) < 2


def _judge(verdicts: Sequence[Sequence[Verdict]]) -> dict[str, float]:
    """Of verdicts whose parts hold a judge's score ("judge") or say whether the one shown first won a comparison ("first")."""
    judged, first = ([v.parts[key] for row in verdicts for v in row if key in v.parts] for key in ("judge", "first"))
    known = {"judge_mean": fmean(judged), "judge_variance": pvariance(judged)} if judged else {}
    return known | ({"judge_first": fmean(first)} if first else {})


def _votes(group: Group) -> Counter[int]:
    return Counter(c for c in classes([a.answer for a in group.attempts]) if c is not None)


def _entropy(votes: Counter[int]) -> float:
    total = votes.total()
    return -sum(n / total * math.log(n / total) for n in votes.values())


def _majorities(groups: Sequence[Group]) -> Counter[str]:
    """How many prompts have each majority answer."""
    most = [Counter(canonical(a.answer) for a in g.attempts if a.answer is not None).most_common(1) for g in groups]
    return Counter(m[0][0] for m in most if m)


def _repetition(ids: Sequence[int], n: int = 3) -> float:
    runs = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _kl(groups: Sequence[Group], reference: Sequence[Sequence[Scores]]) -> float:
    pairs = [(a, ref) for g, row in zip(groups, reference, strict=True) for a, ref in zip(g.attempts, row, strict=False)]
    ratios = [r - p for a, ref in pairs for p, r in zip(a.logprobs, ref.logprobs, strict=True)]
    return fmean(math.exp(min(d, 10.0)) - d - 1 for d in ratios)
