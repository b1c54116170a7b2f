"""Small makers of records, shared by the tests."""

import json
from pathlib import Path

from antaeus import cli
from antaeus.types import Attempt, Group, Practice, Source, Verdict


def attempt(answer, index=0, ids=(1, 2), task="t", stop="eos", logprobs=None):
    logprobs = logprobs or tuple(-0.5 for _ in ids)
    return Attempt(task, index, (7, 8), tuple(ids), str(answer), stop, logprobs, tuple(0.1 for _ in ids), answer)


def group(*answers, task=None):
    task = task or Practice("t", "1 + 1 =")
    return Group(task, tuple(attempt(a, i, task=task.id) for i, a in enumerate(answers)))


def verdicts(*scores, source=Source.GROUND):
    return [Verdict(s, source) for s in scores]


def run_cli(capsys, monkeypatch, *args):
    """The real entry point, in this process: (exit code, standard output, standard error)."""
    monkeypatch.setattr("sys.argv", ["antaeus", *map(str, args)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err


def logprobs(net, rows, temperature):
    """Differentiable log-probabilities of all completion tokens of (prompt ids, completion ids) rows, [N], by the engine's own pass."""
    from antaeus.engine import losses, update

    hidden, ids = update._states(net, rows)
    return losses.logprobs_of(net.logits(hidden).float() / temperature, ids)


def lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
