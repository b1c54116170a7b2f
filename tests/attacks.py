"""Ways to read sealed answers out of scores, and scorers to try them on. Task i is "t<i>", its candidate answers "0" ... "k-1"."""

import contextlib
import math
from statistics import fmean

import numpy as np

from antaeus.errors import UserError
from antaeus.guard.ladder import Ladder

BLANK = -1


class Exact:
    """A naive scorer: the share that is right, `budget` times."""

    def __init__(self, truth, budget):
        self.truth, self.left = truth, budget

    def __call__(self, guess):
        if self.left == 0:
            raise UserError("the budget is spent")
        self.left -= 1
        return self.told(float((guess == self.truth).mean()))

    def told(self, share):
        return share


class Rounded(Exact):
    """One that rounds to twentieths, as many do."""

    def told(self, share):
        return math.floor(share * 20 + 0.5) / 20


class Laddered:
    """What the service does with a submission."""

    def __init__(self, truth, budget):
        self.truth, self.ladder = truth, Ladder(len(truth), budget)

    def __call__(self, guess):
        submission = {f"t{i}": str(answer) for i, answer in enumerate(guess) if answer != BLANK}
        return self.ladder.tell(submission, lambda: int((guess == self.truth).sum()))


class Silent(Laddered):
    """The same without noise."""

    def __init__(self, truth, budget):
        super().__init__(truth, budget)
        self.ladder._noise = lambda key: 0.0


def flips(score, n, k, rng):
    """One answer at a time: keep what raises the score, and where it falls, what was there."""
    guess = rng.integers(0, k, n)
    best = score(guess)
    for i in rng.permutation(n):
        for c in range(1, k):
            other = guess.copy()
            other[i] = (guess[i] + c) % k
            told = score(other)
            if told != best:
                guess, best = (other, told) if told > best else (guess, best)
                break
        yield guess


def blocks(size):
    """Change `size` answers at random, keep what raises the score."""

    def attack(score, n, k, rng):
        guess = rng.integers(0, k, n)
        best = score(guess)
        while True:
            other, where = guess.copy(), rng.choice(n, size, replace=False)
            other[where] = (other[where] + rng.integers(1, k, size)) % k
            told = score(other)
            guess, best = (other, told) if told > best else (guess, best)
            yield guess

    return attack


def vote(score, n, k, rng):
    """The boosting attack: many random submissions, each task by the vote of all, weighted by their scores."""
    scores, counts, tasks = np.zeros((n, k)), rng.random((n, k)) * 1e-9, np.arange(n)
    while True:
        guess = rng.integers(0, k, n)
        scores[tasks, guess] += score(guess)
        counts[tasks, guess] += 1
        yield (scores - scores.sum(1).mean() / counts.sum(1).mean() * counts).argmax(1)


def rises(score, n, k, rng):
    """The same with the only thing a ladder says: which submissions raised the best."""
    votes, best = rng.random((n, k)) * 1e-9, 0.0
    while True:
        guess = rng.integers(0, k, n)
        told = score(guess)
        votes[np.arange(n), guess] += told - best
        best = told
        yield votes.argmax(1)


def climb(size):
    """From nothing upwards: fill in block after block, each tried until it lifts the score a step. Blanks are guessed at the end."""

    def attack(score, n, k, rng):
        guess, order, done, best = np.full(n, BLANK), rng.permutation(n), 0, 0.0
        while done < n:
            other, where = guess.copy(), order[done : done + size]
            other[where] = rng.integers(0, k, len(where))
            told = score(other)
            if told > best:
                guess, best, done = other, told, done + size
            yield np.where(guess == BLANK, rng.integers(0, k, n), guess)

    return attack


def park(score, n, k, rng):
    """Against rounding: blank answers until one less would tip the score over, then try the others one at a time."""
    guess, order = rng.integers(0, k, n), rng.permutation(n)
    best, low, high = score(guess), 0, n
    while high - low > 1:
        middle = (low + high) // 2
        other = guess.copy()
        other[order[:middle]] = BLANK
        low, high = (low, middle) if score(other) < best else (middle, high)
    known = guess.copy()
    edge = guess.copy()
    edge[order[:low]] = BLANK  # order[low] is right, and the last one that counts
    for i in order[high:]:
        other = edge.copy()
        other[i] = BLANK
        if score(other) >= best:  # it was wrong
            known[i] = (known[i] + 1) % k
        yield known


def park_on_known(truth):
    """Against a ladder: with answers one is sure of (half of the tasks) stand one below the next step, then try an unknown one."""

    def attack(score, n, k, rng):
        final, step, best = rng.integers(0, k, n), 1 / round(math.sqrt(n)), 0.0
        final[: n // 2] = truth[: n // 2]
        for i in range(n // 2, n):
            for c in range(k - 1):
                short = math.ceil((best + step) * n - 1e-9) - 1
                if short > n // 2:
                    return
                other = np.full(n, BLANK)
                other[:short], other[i] = truth[:short], c
                told = score(other)
                yield final
                if told > best:
                    best, final[i] = told, c
                    break
            else:
                final[i] = k - 1
            yield final

    return attack


def gain(attack, scorer, k, budget, n=200, times=20, knows_half=False):
    """Mean share of right answers after the attack, over what blind guesses get."""
    gains, unknown = [], slice(n // 2 if knows_half else 0, n)
    for seed in range(times):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, k, n)
        found, steps = None, (attack(truth) if knows_half else attack)(scorer(truth, budget), n, k, rng)
        with contextlib.suppress(UserError):  # the budget is spent
            for step in steps:
                found = step
        gains.append(0.0 if found is None else float((found == truth)[unknown].mean()) - 1 / k)
    return fmean(gains)
