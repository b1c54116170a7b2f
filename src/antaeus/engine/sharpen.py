"""Entropy lowered while decoding (EM-INF and its baseline of an adaptive temperature, 2505.15134), each row by itself.

Neither changes which token is likeliest by more than a hair: a temperature is monotone, and the gradient of the entropy is steepest
for the likeliest token. Greedy decoding stays what it was; it is sampling that comes nearer to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from antaeus.engine.base import Sharpen
from antaeus.engine.draw import statistics

COLDEST, HALVINGS = 0.01, 20  # the least temperature; how often the interval up to 1 is halved
BETAS, EPS = (0.9, 0.999), 1e-8  # of Adam


def sharpened(logits: Tensor, how: Sharpen) -> Tensor:
    """Logits [R, V], float32, of lower entropy. Rows whose entropy is below `how.delta` nats are returned as they are.

    A row's result depends on that row alone: entropies are never summed over the batch, and a row that is through is left in peace.
    """
    rows = (statistics(logits)[2] >= how.delta).nonzero().squeeze(1)
    if not len(rows):
        return logits
    lower = _descended if how.how == "em" else _cooled
    return logits.index_copy(0, rows, lower(logits[rows], how))


def _descended(logits: Tensor, how: Sharpen) -> Tensor:
    """Adam on H(p) + kl x KL(p0 || p), by its gradient -p (log p + H) + kl (p - p0), until the entropy is below delta."""
    z, p0 = logits.clone(), logits.softmax(-1)
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(1, how.steps + 1):
        logp = z.log_softmax(-1)
        p, surprise = logp.exp(), torch.where(logp.isinf(), 0.0, logp)  # a token the model rules out stays ruled out
        entropy = -(p * surprise).sum(-1, keepdim=True)
        slope = -p * (surprise + entropy) + how.kl * (p - p0)
        first.lerp_(slope, 1 - BETAS[0])
        second.lerp_(slope**2, 1 - BETAS[1])
        down = first / (1 - BETAS[0] ** step) / ((second / (1 - BETAS[1] ** step)).sqrt() + EPS)
        z -= torch.where(entropy >= how.delta, how.lr * down, 0.0)
    return z


def _cooled(logits: Tensor, how: Sharpen) -> Tensor:
    """Divided by the temperature at which the entropy is max(delta, share x H), found by bisection; at least `COLDEST`."""
    entropy = statistics(logits)[2]
    target = (how.share * entropy).clamp(min=how.delta)
    low, high = torch.full_like(target, COLDEST), torch.ones_like(target)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = statistics(logits / middle[:, None])[2] > target
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return logits / high[:, None]
