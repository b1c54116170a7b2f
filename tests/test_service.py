"""The score service: answers that lie in another process, marks for the guard, and scores that give no answer away."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import attacks
import psutil
import pytest
from helpers import group, run_cli
from hypothesis import given, settings
from hypothesis import strategies as st
from test_answers import HANGS, gone

from antaeus import scorer
from antaeus.answers.workers import GraderFailed
from antaeus.errors import UserError
from antaeus.guard import gate, ladder, outside, service
from antaeus.guard.ladder import Ladder, bits, levels
from antaeus.guard.service import ScoreService
from antaeus.gym import seal
from antaeus.types import Anchor, Exam, Practice, SealBroken, Source, TaskSet, Vault
from antaeus.verify.ground import ground

BROKEN = "not JSON"  # on which the scorer itself fails
CHECKED = {  # id -> check, sealed answer, answers given
    "number": ("math", "1/2", ["0.5", "0.51", None, "", r"\frac12"]),
    "formula": ("math", "(x+1)^2", ["x^2+2x+1", "x^2+1", "\ud800", "no idea"]),
    "text": ("exact", "Troy", [" Troy ", "troy"]),
    "gym": ("reasoning-gym:leg_counting", seal({"question": "?", "answer": "12", "metadata": {}}), ["12", "13", "about 12"]),
    "broken": ("reasoning-gym:leg_counting", BROKEN, ["3"]),
}


def make(n: int = 4, anchors: dict[str, tuple[str, str]] | None = None) -> TaskSet:
    """Anchors a0, a1, ... with the answers 0, 1, ...; exam tasks e0, ... with 100, ...; a practice task."""
    sealed = anchors or {f"a{i}": ("math", str(i)) for i in range(n)}
    exam = {f"e{i}": str(100 + i) for i in range(n)}
    return TaskSet(
        "made", (Practice("p", "1+1="),), tuple(Anchor(id, "?", check=check) for id, (check, _) in sealed.items()),
        tuple(Exam(id, "?") for id in exam), Vault(Practice, {"p": "2"}),
        Vault(Anchor, {id: answer for id, (_, answer) in sealed.items()}), Vault(Exam, exam),
    )  # fmt: skip


@pytest.fixture
def started():
    """A service over `make()` that answers quickly, and its sealed tasks."""
    tasks = make()
    with ScoreService(tasks, reply_s=0.3) as made:
        yield made, made.seal(tasks)


def script(text: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(text), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


# --- the guard's face ---------------------------------------------------------------------------------------------------


def test_marks_are_what_ground_says():
    tasks = make(anchors={id: (check, sealed) for id, (check, sealed, _) in CHECKED.items()})
    groups = [group(*CHECKED[task.id][2], task=task) for task in tasks.anchor]
    expected = [ground(g, tasks.anchor_vault) for g in groups]
    assert {v.score for row in expected for v in row} == {0.0, 1.0, None}
    with ScoreService(tasks) as made:
        made.seal(tasks)
        assert made.mark(groups) == expected
        assert made.mark([group("101", task=tasks.exam[1])])[0][0].score == 1.0
        assert made.mark([]) == []


def test_a_kind_of_task_is_not_asked_for_as_another(started):
    made, tasks = started
    for stranger in (Exam("a0", "?"), Anchor("e0", "?"), tasks.practice[0], Anchor("a9", "?")):
        with pytest.raises(SealBroken, match=stranger.id):
            made.mark([group("0", task=tasks.anchor[0]), group("0", task=stranger)])
    assert made.mark([group("0", task=tasks.anchor[0])])[0][0].score == 1.0  # and nothing is left over from before


def test_the_check_is_the_sealed_one(started):
    made, _ = started
    assert made.mark([group("0.0", task=Anchor("a0", "?", check="exact"))])[0][0].score == 1.0


def test_only_whoever_started_it_may_ask(started):
    made, tasks = started
    made._token, token = "guess", made._token
    for ask in (lambda: made.mark([group("0", task=tasks.anchor[0])]), lambda: made.score({"a0": "0"})):
        with pytest.raises(SealBroken, match="only the object that started"):
            ask()
    made._token = token
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            made.mark([group("0", task=tasks.anchor[0])])
            os._exit(0)
        made.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert made.alive and made.mark([group("0", task=tasks.anchor[0])])[0][0].score == 1.0


def test_threads_share_a_service_and_outlive_the_one_that_started_it():
    tasks, found = make(8), []
    starter = threading.Thread(target=lambda: found.append(ScoreService(tasks)))
    starter.start()
    starter.join()
    with found.pop() as made:
        time.sleep(0.6)  # whoever watches the parent has looked
        ask = [threading.Thread(target=lambda t=t: found.append(made.mark([group(t.id[1], task=t)] * 20))) for t in tasks.anchor]
        for thread in ask:
            thread.start()
        for thread in ask:
            thread.join()
    assert [v.score for rows in found for row in rows for v in row] == [1.0] * 160


# --- sealing ------------------------------------------------------------------------------------------------------------

WALK = """
    import gc, json, sys
    from antaeus.guard.service import ScoreService
    from antaeus.propose.sets import load

    def found():
        gc.collect()
        seen, waiting, hits = set(), [gc.get_objects()], set()
        while waiting:
            for item in waiting.pop():
                if id(item) not in seen:
                    seen.add(id(item))
                    if isinstance(item, (str, bytes)):
                        text = item if isinstance(item, str) else item.decode("latin1")
                        hits |= {part for part in ("practice", "anchor", "exam") if f"{part}-{'ab' * 8}-" in text}
                    else:
                        waiting.append(gc.get_referents(item))
        return sorted(hits)

    tasks = load(sys.argv[1], seed=0, practice=sys.argv[1], anchor=sys.argv[2], exam=sys.argv[3])
    before = found()
    service = ScoreService(tasks)
    sealed = service.seal(tasks)
    print(json.dumps([before, found(), len(sealed.anchor_vault), len(sealed.exam_vault), len(sealed.practice_vault)]))
"""


def test_the_parent_holds_no_sealed_answer_after_sealing(tmp_path):
    places = []
    for part in ("practice", "anchor", "exam"):
        rows = [
            {"prompt": f"what is the {part} word number {i} of {i * 7919}?", "answer": f"{part}-{'ab' * 8}-{i}"} for i in range(5)
        ]
        places.append(tmp_path / f"{part}.jsonl")
        places[-1].write_text("\n".join(map(json.dumps, rows)))
    out, _ = script(WALK, *places).communicate(timeout=120)
    assert json.loads(out) == [["anchor", "exam", "practice"], ["practice"], 0, 0, 5]


def test_tasks_of_another_service_are_not_wiped(started):
    made, _ = started
    other = make(5)
    with pytest.raises(SealBroken, match="would be lost"):
        made.seal(other)
    assert len(other.anchor_vault) == len(other.exam_vault) == 5


def test_nothing_secret_is_on_the_command_line_in_the_environment_or_in_a_file():
    with ScoreService(make(anchors={"a0": ("exact", "the planted answer")})) as made:
        about = psutil.Process(made._process.pid)
        shown = " ".join([*about.cmdline(), *about.environ().values()])
        assert "planted" not in shown and made._token not in shown and about.open_files() == []


# --- the proposer's face ------------------------------------------------------------------------------------------------


def test_scores_are_steps_of_a_ladder_within_a_budget():
    tasks = make(9)
    right = {f"a{i}": str(i) for i in range(9)}
    with ScoreService(tasks, budget=3, reply_s=0.2) as made:
        made.seal(tasks)
        assert made.step == 1 / 3
        with pytest.warns(UserWarning, match="9 of 9 anchor tasks have no answer: they count as wrong"):
            assert made.score({}) == 0
        assert made.score(right) == 1 and made.left == 1
        assert made.score(dict.fromkeys(right, "no")) == 1  # the best is told again
        with pytest.raises(UserError, match="budget of 3 scores is spent"):
            made.score({**right, "a0": "1"})
        assert made.score(dict(reversed(right.items()))) == 1 and made.tell({}).score == 0 and made.left == 0  # told before: free


@pytest.mark.parametrize(
    "answers, why",
    [
        (["0"], "a submission is a mapping of task id to answer, not a list"),
        ({"a0": "0", "e0": "100"}, "unknown task 'e0'"),  # the exam is not for proposers
        ({None: "0"}, "unknown task 'None'"),
        ({"a0": 0}, "answer of 'a0' is a int"),
        ({"a0": float("nan")}, "answer of 'a0' is a float"),
        ({"a0": None}, "leave out tasks without an answer"),
        ({"a0": "9" * 10_001}, "10001 characters"),
    ],
)
def test_a_malformed_submission_is_refused_and_costs_nothing(started, answers, why):
    made, _ = started
    with pytest.raises(UserError, match=why):
        made.score(answers)
    assert made.tell({"a0": "\ud800", "a1": "9" * 10_000, "a2": "\0"}).left == 19


def test_time_tells_nothing():
    """A formula that hangs only beside some answers would be a score of one task."""
    tasks = make()
    with ScoreService(tasks, reply_s=1.0) as made:
        made.seal(tasks)
        made.tell({})  # starts the graders
        took = []
        for answers in ({"a0": "7"}, {"a0": HANGS, "a1": HANGS}, {"a0": "7"}):
            began = time.monotonic()
            made.tell(answers)
            took.append(time.monotonic() - began)
        assert made.alive and made.tell({"a0": "0", "a1": "1", "a2": "2", "a3": "3"}).score == 1.0
    assert min(took) >= 1.0 and max(took) < 3.0  # such a formula has five seconds elsewhere


# --- the ladder ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def fixed(monkeypatch):
    """Secrets that are the same in each run of a test."""
    monkeypatch.setattr(ladder.secrets, "token_bytes", random.Random(1).randbytes)


def test_a_ladder_by_hand(monkeypatch):
    made = Ladder(100, budget=9)
    assert made.levels == 10
    noise = iter([0.0, 0.0, -0.2, 0.2, 0.49, 0.45, 0.1])
    monkeypatch.setattr(made, "_noise", lambda key: next(noise))
    told = [made.tell({"t": str(i)}, lambda right=right: right) for i, right in enumerate([52, 61, 61, 61, 64, 66, 85])]
    assert told == [0.5, 0.6, 0.6, 0.6, 0.6, 0.7, 0.9]


@given(st.integers(1, 300), st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_what_is_told_never_falls_lies_on_the_grid_and_near_the_best(n, shares):
    made, best, before = Ladder(n, len(shares)), 0.0, 0.0
    for i, share in enumerate(shares):
        right = round(share * n)
        best = max(best, right / n * made.levels)
        told = made.tell({"t": str(i)}, lambda right=right: right) * made.levels
        assert told == pytest.approx(round(told)) and before <= told <= made.levels
        assert best - 1.5 - 1e-9 <= told <= best + 1 + 1e-9
        before = told
    assert made.left == 0


def test_the_bound_in_bits():
    """Counted: paths of 4 levels in 0 ... 3 that never fall."""
    paths = [(a, b, c, d) for a in range(4) for b in range(a, 4) for c in range(b, 4) for d in range(c, 4)]
    assert bits(9, 4) == pytest.approx(math.log2(len(paths))) and levels(9) == 3
    assert bits(200, 20) == pytest.approx(30.4, abs=0.1) and bits(200, 20) < 20 * math.log2(15)


def test_the_noise_needs_the_secret_and_differs_between_submissions():
    noise = [Ladder(100, 1)._noise(os.urandom(64)) for _ in range(300)]
    assert -0.5 <= min(noise) < -0.4 and 0.4 < max(noise) <= 0.5
    told = {tuple(Ladder(100, 1).tell({"t": "same"}, lambda: 15) for _ in range(1)) for _ in range(64)}
    assert told == {(0.1,), (0.2,)}  # 1.5 steps: either way, from service to service


ATTACKS = {
    "flips": attacks.flips, "blocks of 20": attacks.blocks(20), "blocks of 50": attacks.blocks(50),
    "blocks of 100": attacks.blocks(100), "vote": attacks.vote, "rises": attacks.rises, "climb": attacks.climb(20),
    "higher climb": attacks.climb(30), "park": attacks.park,
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("k", [2, 4])
def test_an_attack_with_the_whole_budget_gains_less_than_a_step(fixed, name, k):
    """200 tasks: a step is 0.071. Measured: at most 0.05, two standard deviations of one blind guess being 0.07."""
    assert attacks.gain(ATTACKS[name], attacks.Laddered, k, budget=20) < 1 / levels(200)


@pytest.mark.parametrize("name", ["flips", "blocks of 50", "blocks of 100", "vote", "climb", "park"])
def test_ten_times_the_budget_gains_little(fixed, name):
    """At most 0.08 measured. It is search, not reading: who keeps the best of 200 random changes has a somewhat better one."""
    assert attacks.gain(ATTACKS[name], attacks.Laddered, 2, budget=200, times=10) < 0.11


def test_the_same_attacks_read_the_answers_out_of_other_scorers(fixed):
    """Else the two tests above would show nothing."""
    exact = {name: attacks.gain(ATTACKS[name], attacks.Exact, 2, budget=200, times=5) for name in ("flips", "vote", "park")}
    assert exact["flips"] > 0.45 and exact["vote"] > 0.3 and exact["park"] > 0.4
    assert attacks.gain(attacks.vote, attacks.Exact, 2, budget=20) > 0.1
    assert attacks.gain(attacks.park, attacks.Rounded, 2, budget=200, times=5) > 0.4  # rounding alone
    assert attacks.gain(attacks.climb(20), attacks.Silent, 2, budget=200, times=10) > 0.12  # a ladder without noise


def test_whoever_knows_half_of_the_answers_does_not_read_the_rest(fixed):
    """Known answers park a submission just below a step; noise hides where that is."""
    with_noise, without = (
        attacks.gain(attacks.park_on_known, scorer, 2, budget=20, knows_half=True)
        for scorer in (attacks.Laddered, attacks.Silent)
    )
    assert without > 0.04 and with_noise < 0.02


# --- what goes wrong ----------------------------------------------------------------------------------------------------


def test_a_killed_service_gives_no_verdicts_and_promotes_nothing(started, caplog):
    made, tasks = started
    groups = [group(str(100 + i), task=task) for i, task in enumerate(tasks.exam)]
    before = made.mark(groups)
    os.kill(made._process.pid, signal.SIGKILL)
    after = made.mark(groups)
    assert [v.score for row in after for v in row] == [None] * 4 and {v.source for row in after for v in row} == {Source.GROUND}
    assert "sealed answers with it" in after[0][0].why and "nothing promoted" in caplog.text and not made.alive
    evidence = gate.compare([row[0] for row in before], [row[0] for row in after])
    assert gate.decide(evidence, "r001", "base").action == "undecided"
    with pytest.raises(GraderFailed, match="gone"):
        made.score({"a0": "0"})
    assert made.mark(groups) == after


def test_a_service_that_stops_answering_is_late_not_waited_for(started, monkeypatch):
    made, tasks = started
    monkeypatch.setattr(service, "LATE_S", 0.2)
    os.kill(made._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    rows = made.mark([group("0", "1", task=task) for task in tasks.anchor])
    assert [v.score for row in rows for v in row] == [None] * 8 and time.monotonic() - began < 5
    assert gone(made._process.pid, within_s=1)


def test_an_attempt_that_hangs_its_grader_is_given_up_and_the_next_one_graded(monkeypatch):
    def hang(group, vault):
        while group.attempts[0].answer == "hang":
            with contextlib.suppress(Exception):
                time.sleep(0.01)
        return ground(group, vault)

    monkeypatch.setattr(scorer, "ground", hang)
    monkeypatch.setattr(scorer, "ATTEMPT_S", 0.2)
    before = signal.signal(signal.SIGALRM, scorer._late)
    try:
        sealed = scorer.Sealed({"token": "t", "budget": 1, "sealed": {"Anchor": {"a": ["math", "1"]}, "Exam": {}}})
        replies = list(sealed.replies({"token": "t", "mark": [["Anchor", "a", ["hang", "1", None]]]}))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [score for score, _, _ in replies[0]["row"]] == [None, 1.0, 0.0]


def test_what_a_scorer_prints_is_no_verdict(monkeypatch):
    chatty = "real = scorer.ground; scorer.ground = lambda g, v: (print([1, {'row': []}], flush=True), real(g, v))[1]"
    monkeypatch.setattr(service, "_CHILD", f"import sys, json; from antaeus import scorer; {chatty}; scorer.serve()")
    tasks = make()
    with ScoreService(tasks) as made:
        assert made.mark([group("0", "1", task=tasks.anchor[0])]) == [ground(group("0", "1"), Vault(Practice, {"t": "0"}))]


def test_an_interrupted_question_does_not_answer_the_next_one(started, monkeypatch):
    made, tasks = started
    stdout, hits = made._process.stdout, iter([KeyboardInterrupt])

    class Interrupted:
        def readline(self):
            for error in hits:
                raise error
            return stdout.readline()

        close = stdout.close

    monkeypatch.setattr(made._process, "stdout", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        made.mark([group("0", task=tasks.anchor[0])])
    assert made.mark([group("0", task=tasks.anchor[1])])[0][0].score == 0.0


def test_a_service_that_does_not_start_says_so_and_leaves_the_answers(monkeypatch):
    monkeypatch.setattr(service, "_CHILD", "raise SystemExit")
    tasks = make()
    with pytest.raises(GraderFailed, match="did not start"):
        ScoreService(tasks)
    assert len(tasks.exam_vault) == 4


@pytest.mark.parametrize("fork", [False, True])
def test_nothing_outlives_the_death_of_the_parent(fork):
    """Not even where a forked child still holds the pipe."""
    parent = script(
        f"""
        import os, sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import psutil
        from helpers import group
        from test_service import make
        from antaeus.guard.service import ScoreService
        tasks = make()
        made = ScoreService(tasks)
        made.mark([group("x^2+1", task=tasks.anchor[0])])
        holder = os.fork() if {fork} else 0
        if not holder and {fork}:
            time.sleep(60)
        print(holder, *(p.pid for p in psutil.Process(made._process.pid).children()), made._process.pid, flush=True)
        time.sleep(60)
        """
    )
    assert parent.stdout is not None
    holder, *children = map(int, parent.stdout.readline().split())
    assert len(children) == 2 and all(psutil.pid_exists(pid) for pid in children)  # a symbolic worker and the service
    parent.kill()
    parent.wait()
    try:
        assert all(gone(pid, within_s=10) for pid in children)
    finally:
        if holder:
            os.kill(holder, signal.SIGKILL)


def test_a_service_ends_with_whoever_holds_it():
    made = ScoreService(make())
    pid = made._process.pid
    del made
    assert gone(pid, within_s=5)
    ends = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_service import *; made = ScoreService(make())"
    )
    out, _ = script(f"{ends}; print(made._process.pid)").communicate(timeout=60)
    assert gone(int(out), within_s=5)


# --- processes outside --------------------------------------------------------------------------------------------------


@pytest.fixture
def socket(started, tmp_path):
    made, tasks = started
    with outside.listening(made, tasks.anchor, tmp_path / "s") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield tmp_path / "s"
        server.shutdown()
        thread.join()
    assert not (tmp_path / "s").exists()


def test_a_process_outside_is_scored_and_all_share_the_budget(started, socket):
    made, _ = started
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert outside.prompts(socket) == [{"id": f"a{i}", "prompt": "?"} for i in range(4)]
    asking = f"from antaeus.guard.outside import ask; print(ask({str(socket)!r}, dict(a0='0', a1='1', a2='2', a3='3')))"
    assert script(asking).communicate(timeout=60)[0] == "1.0\n"
    with pytest.warns(UserWarning, match="3 anchor tasks have no answer"):
        assert outside.ask(socket, {"a0": "9"}) == 1.0
    assert made.left == 18


@pytest.mark.parametrize(
    "line, why",
    [
        (b'{"a0": "1", "a0": "2"}', "two answers"),
        (b'{"a0": NaN}', "is a float"),
        (b'{"mark": [["Exam", "e0", ["100"]]]}', "unknown task 'mark'"),
        (b'{"score": {"a0": "0"}, "token": ""}', "unknown task 'score'"),
        (b'["a0"]', "not a list"),
        (b"[" * 100_000, "a line of JSON"),
        (b"\xff\xfe", "a line of JSON"),
        (b" " * 200, "a line of JSON"),
    ],
)
def test_the_socket_knows_no_other_word_than_scores(started, line, why):
    made, tasks = started
    assert why in json.loads(outside._reply(made, tasks.anchor, line))["error"]
    assert made.left == 20


def test_a_line_without_end_is_cut(started, monkeypatch):
    made, tasks = started
    monkeypatch.setattr(outside, "LINE", 100)
    assert "longer than 100 bytes" in outside._reply(made, tasks.anchor, b"9" * 101)


def test_a_socket_in_the_way_or_nobody_there_is_said(started, tmp_path):
    made, tasks = started
    (tmp_path / "taken").touch()
    for path, why in ((tmp_path / "taken", "exists already"), (tmp_path / ("x" * 200), "no socket can be made")):
        with pytest.raises(UserError, match=why), outside.listening(made, tasks.anchor, path):
            pass
    with pytest.raises(UserError, match="no score service answers here"):
        outside.ask(tmp_path / "nobody", {"a0": "0"})


def test_the_command_listens_until_it_is_told_to_stop(tmp_path, capsys, monkeypatch):
    path = tmp_path / "s"
    command = [sys.executable, "-m", "antaeus", "score-service", "add2", "n_anchor=5", "--socket", str(path), "--budget", "7"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert "5 anchor tasks, 7 submissions, in steps of 0.500" in running.stderr.readline()
    assert len(found := outside.prompts(path)) == 5 and "+" in found[0]["prompt"]
    with pytest.raises(UserError, match="unknown task"):
        outside.ask(path, {"nothing": "0"})
    running.terminate()
    assert running.wait(timeout=30) == 0 and not path.exists()
    path.touch()
    code, _, error = run_cli(capsys, monkeypatch, "score-service", "add2", "--socket", path)
    assert code == 2 and "exists already" in error
