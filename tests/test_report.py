"""The report against run directories made up here: finished, kept, interrupted, control, hostile, empty, and very large."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antaeus.errors import UserError
from antaeus.reporting import attempts, curves, figures, page, svg, wording
from antaeus.reporting.page import write_report
from antaeus.reporting.reading import read_run

ROUNDS, ANCHORS, EXAM = 30, 64, 200
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31mred\x1b[0m \u202egnp.exe\u202c nul\x00 <!--<script>"
)
SHOTS = "12 + 30 = 42\n51 + 17 = 68\n"


# ---- a made-up run -----------------------------------------------------------------------------------------------------------


def wilson(correct: int, n: int) -> list[float]:
    p, z = correct / n, 1.96
    centre, spread = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    return [max(0.0, centre - spread), min(1.0, centre + spread)]


def skill(r: int, *, gain: float = 0.42, peak: int = 20) -> float:
    """True accuracy by round: it rises to `peak`, then falls a little while the votes go on closing ranks."""
    rise = 0.175 + gain * (1 - math.exp(-r / 7))
    return max(0.0, rise - max(0, r - peak) * 0.014 * (gain > 0.1))


def attempt(k: int, answer: str | None, score: float | None, source: str, why: str, text: str | None = None) -> dict[str, Any]:
    body = f" {answer}\n" if answer is not None else " The sum of the two numbers is the sum of the two numbers"
    verdict = {"score": score, "source": source, "why": why, "parts": {}}
    return {"text": text or body, "answer": answer, "stop": "stop" if answer else "length", "index": k, "verdict": verdict}


def practice_group(r: int, k: int, rng: random.Random, n: int = 16) -> dict[str, Any]:
    a, b = rng.randint(10, 99), rng.randint(10, 99)
    sure = skill(r) + 0.012 * r
    wrong = [str(a + b + d) for d in (-10, -1, 1, 10, 20, 9, -9)]
    said = [str(a + b) if rng.random() < sure else (None if rng.random() < 0.12 else rng.choice(wrong)) for _ in range(n)]
    top = max((s for s in set(said) if s), key=said.count, default=None)
    why = {True: f"agrees with the majority, {said.count(top)} of {n}", False: "differs from the majority"}
    tries = [attempt(i, s, float(s == top and s is not None), "self", why[s == top]) for i, s in enumerate(said)]
    task = {"id": f"practice-{r}-{k}", "prompt": f"{a} + {b} =", "shots": SHOTS, "check": "exact"}
    return {"round": r, "set": "practice", "version": f"r{max(r - 1, 0):03d}", "task": task, "attempts": tries}


def sealed_group(r: int, k: int, name: str, version: str, right: bool, infra: bool = False) -> dict[str, Any]:
    task = {"id": f"{name}-{k}", "prompt": f"{10 + k % 89} + {11 + 7 * k % 88} =", "shots": SHOTS, "check": "exact"}
    answer = str(21 + k % 89 + 7 * k % 88 + (0 if right else 10))
    verdict = (None, "the grader timed out") if infra else (float(right), "equals the sealed answer" if right else "differs")
    return {
        "round": r,
        "set": name,
        "version": version,
        "task": task,
        "attempts": [attempt(0, answer, verdict[0], "ground", verdict[1])],
    }


def event(r: int, rng: random.Random, gain: float) -> dict[str, Any]:
    truth, late = skill(r, gain=gain), max(0, r - 20)
    correct = sum(rng.random() < truth for _ in range(ANCHORS))
    anchor = {
        "n": ANCHORS,
        "correct": correct,
        "accuracy": correct / ANCHORS,
        "ci": wilson(correct, ANCHORS),
        "infra": 0,
        "any": min(1.0, correct / ANCHORS + 0.2),
    }
    proxy = min(0.98, 0.3 + 0.5 * (1 - math.exp(-r / 9)) + 0.012 * late + rng.gauss(0, 0.02))
    meters = {
        "agreement": min(1.0, proxy + 0.03 + rng.gauss(0, 0.01)),
        "answer_entropy": max(0.02, 1.9 * math.exp(-r / 10) + rng.gauss(0, 0.06)),
        "unanimous": min(1.0, max(0.0, 0.02 * r + rng.gauss(0, 0.03))),
        "no_answer": max(0.0, 0.09 * math.exp(-r / 6) + rng.gauss(0, 0.004)),
        "same_answer": min(1.0, 0.12 + 0.012 * late + abs(rng.gauss(0, 0.02))),
        "kl_to_base": 0.004 * r**1.4 * (1 + 0.08 * late),
        "length": 4 + 2 * math.exp(-r / 5) + rng.gauss(0, 0.1),
        "truncated": max(0.0, 0.07 * math.exp(-r / 6) + rng.gauss(0, 0.004)),
        "proxy_reward": proxy,
        "token_entropy": 0.9 * math.exp(-r / 12) + abs(rng.gauss(0, 0.02)),
        "surprise_of_recipe": rng.random(),
        **dict.fromkeys(("shared_answer", "reward_variance", "surprise", "retention", "repetition"), 0.1),
        **dict.fromkeys(("length_slope", "entropy_slope", "surge"), 0.0),
        **dict.fromkeys(("judge_mean", "judge_variance", "judge_first"), 0.5),
        **dict.fromkeys(("practice_accuracy", "label_accuracy", "reward_accuracy", "reward_truth"), 0.5),
    }
    train = {
        "loss": rng.gauss(0, 0.02),
        "grad_norm": 1.1 + abs(rng.gauss(0, 0.3)),
        "lr": 3e-6 * min(1, r / 3),
        "clip_fraction": 0.0,
        "kl": 0.0,
    }
    alarms = [f"proxy_reward rose to {proxy:.2f} while the anchors fell"] if r in (26, 28) else []
    alarms += ["kl_to_base doubled within 3 rounds"] if r == 29 else []
    return {
        "round": r,
        "time_s": 4.1 * r + 9,
        "meters": meters if r else None,
        "train": train if r else None,
        "anchor": anchor if r % 2 == 0 else None,
        "tokens_sampled": 640 * r,
        "tokens_trained": 512 * r,
        "alarms": alarms,
    }


def exam_of(gain: int, rng: random.Random) -> dict[str, Any]:
    before, wins = 35, 92 if gain > 20 else 12
    losses = wins - gain
    ci = [gain / EXAM - 0.0715, gain / EXAM + 0.0715]
    p_value = sum(math.comb(wins + losses, k) for k in range(losses + 1)) * 2 / 2 ** (wins + losses)
    after, last = (before + gain) / EXAM, (before + gain // 2) / EXAM
    estimates = {"before": before / EXAM, "after": after, "last": last}
    bands = {f"{k}_ci": wilson(round(v * EXAM), EXAM) for k, v in estimates.items()}
    return {"n": EXAM, **estimates, **bands, "ci": ci, "p_value": min(1.0, p_value), "wins": wins, "losses": losses, "infra": 2}


def make_run(
    folder: Path, *, rounds: int = ROUNDS, outcome: str = "promote", control: str | None = None, per_round: int = 8, seed: int = 0
) -> Path:
    """A run directory as the loop would leave it. `outcome`: promote, undecided or interrupted."""
    rng, promoted = random.Random(seed), outcome == "promote"
    run = folder / f"run-{outcome}"
    (run / "versions").mkdir(parents=True)
    settings = f'[settings]\nrounds = {rounds}\nvotes = 16\nlr = 3e-6 # <peak> & "quoted"\n'
    config = f'recipe = "ttrl"\nmodel = "smollm2"\ntasks = "add2"\nseed = {seed}\n' + (
        f'control = "{control}"\n' if control else ""
    )
    (run / "config.toml").write_text(f"{config}\n{settings}", encoding="utf-8")
    done = 13 if outcome == "interrupted" else rounds
    events = [event(r, rng, 0.42 if outcome != "undecided" else 0.03) for r in range(done + 1)]
    write_lines(run / "events.jsonl", events)
    groups = [practice_group(r, k, rng) for r in range(1, done + 1) for k in range(per_round)]
    groups += [
        sealed_group(r, k, "anchor", f"r{r:03d}", rng.random() < skill(r)) for r in range(0, done + 1, 2) for k in range(ANCHORS)
    ]
    best = max((e for e in events if e["anchor"]), key=lambda e: e["anchor"]["accuracy"])["round"]
    versions = [{"id": "base", "parent": None, "kind": "weights", "round": 0, "path": None}]
    versions += [
        {
            "id": f"r{r:03d}",
            "parent": versions[-1]["id"] if r == 1 else f"r{r - 1:03d}",
            "kind": "weights",
            "round": r,
            "path": f"versions/r{r:03d}",
        }
        for r in range(1, done + 1)
    ]
    write_lines(run / "lineage.jsonl", versions)
    if outcome != "interrupted":
        exam = exam_of(81 if promoted else 3, rng)
        groups += exam_groups(exam, best)
        finish(run, outcome, exam, best, done, control)
    write_lines(run / "attempts.jsonl", groups)
    return run


def exam_groups(exam: dict[str, Any], best: int) -> list[dict[str, Any]]:
    right_before = [k < round(exam["before"] * EXAM) for k in range(EXAM)]
    lost = exam["losses"]
    right_after = [(k >= lost) if before else k < 35 + exam["wins"] for k, before in enumerate(right_before)]
    sides = (("base", right_before), (f"r{best:03d}", right_after))
    return [sealed_group(best, k, "exam", v, right[k], infra=k >= EXAM - 2) for k in range(EXAM) for v, right in sides]


def finish(run: Path, action: str, exam: dict[str, Any], best: int, rounds: int, control: str | None) -> None:
    version = f"r{best:03d}"
    why = f"{version} is {'better' if action == 'promote' else 'not better'} than the base on the exam at the 5 % level"
    gain = exam["after"] - exam["before"]
    evidence = {"p_value": exam["p_value"], "gain": gain, "wins": exam["wins"], "losses": exam["losses"]}
    write_lines(run / "decisions.jsonl", [{"action": action, "version": version, "why": why, "evidence": evidence}])
    summary = {
        "recipe": "ttrl", "model": "smollm2", "seed": 0, "rounds": rounds, "tasks": "add2", "control": control, "exam": exam,
        "anchor_best_round": best, "decision": action, "why": why, "promoted_version": version if action == "promote" else None,
        "wall_s": 141.7, "learn_s": 88.2, "tokens_sampled": 19_200, "tokens_trained": 15_360, "status": "finished",
        "rendered_prompt": f"{SHOTS}47 + 38 =", "software": {"antaeus": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
    }  # fmt: skip
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows), encoding="utf-8")


# ---- reading the page back ---------------------------------------------------------------------------------------------------

VOID = {"meta", "link", "img", "br", "hr", "input", "base", "area", "col", "embed", "source", "track", "wbr"}


class Page(HTMLParser):
    """Elements, table rows, text and scripts of a page; fails on tags that do not balance."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.raw = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.said: list[str] = []
        self.feed(self.raw)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self.text = re.sub(r"\s+", " ", "".join(self.said))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif "style" not in self.open:
            self.said.append(data)
            if "td" in self.open or "th" in self.open:
                self.rows[-1][-1] += data

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])

    def row(self, first: str) -> list[str]:
        return next([cell.replace("\u00a0", " ") for cell in row[1:]] for row in self.rows if row and row[0] == first)

    def shown(self, name: str, at: int) -> list[dict[str, Any]]:
        return [g for g in self.data["groups"] if g["set"] == name and g["round"] == at]


def read(run: Path) -> Page:
    return Page(write_report(run))


def headline(found: Page) -> str:
    return next(attrs["content"] or "" for tag, attrs in found.elements if tag == "meta" and attrs.get("name") == "description")


def assert_self_contained(found: Page) -> None:
    outward = [a for _, attrs in found.elements for k, a in attrs.items() if k in ("src", "href", "xlink:href", "action", "data")]
    assert outward == []
    assert re.findall(r"url\((?!#)|@import|https?://", found.raw) == []
    assert not {"img", "iframe", "link", "object", "embed", "base", "form"} & {tag for tag, _ in found.elements}
    assert len(found.scripts) == 2
    assert not [k for _, attrs in found.elements for k in attrs if k.startswith("on")]


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("promoted"))


@pytest.fixture(scope="module")
def promoted_page(promoted: Path) -> Page:
    return read(promoted)


# ---- what the page says ------------------------------------------------------------------------------------------------------


def test_a_promotion_is_said_in_one_sentence_with_its_evidence(promoted_page: Page) -> None:
    expected = (
        "Promoted: r016 answers 58.0 % of 200 unseen exam tasks where the base answers 17.5 % "
        "(+40.5 points, 95 % interval +33.4 to +47.7, exact McNemar p = 4.5e-17)."
    )
    assert headline(promoted_page) == expected
    assert expected in promoted_page.text.replace("\u00a0", " ")
    assert "all 3,840 practice verdicts" in promoted_page.text
    assert "GROUND the sealed exam, opened once" in promoted_page.text


def test_keeping_the_base_and_controls(tmp_path: Path) -> None:
    found = read(make_run(tmp_path, outcome="undecided", control="random reward"))
    assert headline(found).startswith(
        "Undecided, the base stays: r006 answers 19.0 % of 200 unseen exam tasks where the base answers 17.5 % (+1.5"
    )
    assert "interval −5.6 to +8.6, exact McNemar p = 0.66)." in headline(found)
    assert "Control run: random reward." in found.text
    assert_self_contained(found)


def test_a_run_without_an_exam_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    summary |= {
        "exam": None,
        "decision": "undecided",
        "why": "no version beat the base on the anchors.",
        "promoted_version": None,
    }
    (run / "summary.json").write_text(json.dumps(summary))
    found = read(run)
    assert headline(found) == "Undecided, the base stays: no version beat the base on the anchors."
    assert wording.verdict(read_run(run), "base") == headline(found)
    assert "The exam was not opened." in found.text


def test_the_base_is_not_compared_with_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path, outcome="undecided")
    summary = json.loads((run / "summary.json").read_text())
    summary |= {"anchor_best_round": 0, "why": "no round answered more anchors than the base"}
    (run / "summary.json").write_text(json.dumps(summary))
    assert headline(read(run)) == "Undecided, the base stays: no round answered more anchors than the base."


def test_numbers_in_the_page_are_those_of_the_summary(promoted: Path, promoted_page: Page) -> None:
    summary = json.loads((promoted / "summary.json").read_text())
    exam = summary["exam"]
    for name, key in (("base", "before"), ("last", "last"), ("best, r016", "after")):
        low, high = exam[f"{key}_ci"]
        assert promoted_page.row(name) == [wording.percent(exam[key]), f"{wording.percent(low)} to {wording.percent(high)}"]
    assert promoted_page.row("base wrong, best right") == [str(exam["wins"])]
    assert promoted_page.row("base right, best wrong") == [str(exam["losses"])]
    assert promoted_page.row("the same both times") == [str(exam["n"] - exam["wins"] - exam["losses"])]
    assert promoted_page.row("infrastructure failures, not scored") == [str(exam["infra"])]
    assert promoted_page.row("tokens sampled") == ["19,200"]
    assert promoted_page.row("wall time") == ["2 min 22 s"]
    assert promoted_page.row("torch") == ["2.13.0"]
    assert summary["rendered_prompt"] in promoted_page.raw


def test_configuration_is_verbatim_and_escaped(promoted: Path, promoted_page: Page) -> None:
    assert (promoted / "config.toml").read_text() in "".join(promoted_page.said)
    assert "<peak>" not in promoted_page.raw


def test_every_meter_has_a_panel_with_a_definition(promoted_page: Page) -> None:
    for title, meaning in curves.METERS.values():
        assert title in promoted_page.text and meaning in promoted_page.text
    assert "Reported by the recipe as surprise_of_recipe." in promoted_page.text


def test_exam_pairs_stand_side_by_side_and_agree_with_the_summary(promoted: Path, promoted_page: Page) -> None:
    exam = json.loads((promoted / "summary.json").read_text())["exam"]
    pairs = promoted_page.shown("exam", 0)
    assert len(pairs) == EXAM and all([s["version"] for s in g["sides"]] == ["base", "r016"] for g in pairs)
    changes = Counter(g["change"] for g in pairs)
    assert (changes["wrong → right"], changes["right → wrong"], changes["not scored"]) == (
        exam["wins"],
        exam["losses"],
        exam["infra"],
    )


def test_the_page_warns_if_something_else_than_ground_decided(tmp_path: Path) -> None:
    run = make_run(tmp_path, rounds=2)
    lines = (run / "attempts.jsonl").read_text().splitlines()
    changed = [line.replace('"ground"', '"self"') if '"set": "exam"' in line else line for line in lines]
    (run / "attempts.jsonl").write_text("\n".join(changed))
    assert "Only GROUND may promote: do not trust this decision" in read(run).text


def test_the_page_is_self_contained_and_runs_no_script_but_its_own(promoted_page: Page) -> None:
    assert_self_contained(promoted_page)
    digest = base64.b64encode(hashlib.sha256(promoted_page.scripts[1].encode()).digest()).decode()
    policy = next(
        a["content"] or "" for t, a in promoted_page.elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy


# ---- interrupted, empty, damaged ---------------------------------------------------------------------------------------------


def test_an_interrupted_run_renders(tmp_path: Path) -> None:
    run = make_run(tmp_path, outcome="interrupted")
    for name in ("events.jsonl", "attempts.jsonl"):
        (run / name).write_bytes((run / name).read_bytes()[:-40])  # killed while it wrote its last line
    found = read(run)
    start = (
        "Unfinished: 12 of 30 rounds done; the best so far, round 10, answers 53.1 % of 64 anchors where the base answers 7.8 %."
    )
    assert headline(found) == f"{start} Nothing is decided."
    assert "nothing: the exam was not opened" in found.text and "could not be read" not in found.text
    assert_self_contained(found)


def test_a_run_that_only_has_a_configuration_renders(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('recipe = "ttrl"\n')
    found = read(tmp_path)
    assert headline(found) == "Unfinished: 0 rounds done, nothing measured yet. Nothing is decided."
    assert "No attempts are on record." in found.text and "No round was measured." in found.text
    assert found.data["groups"] == []


def test_an_empty_attempts_file_renders(tmp_path: Path) -> None:
    run = make_run(tmp_path, rounds=3)
    (run / "attempts.jsonl").write_text("")
    found = read(run)
    assert "No attempts are on record." in found.text and "nothing yet: no practice verdict is on record" in found.text
    assert headline(found).startswith("Promoted: r")


def test_damaged_lines_are_skipped_and_said(tmp_path: Path) -> None:
    run = make_run(tmp_path, rounds=4)
    for name in ("events.jsonl", "attempts.jsonl"):
        lines = (run / name).read_text().splitlines()
        lines[1:1] = ["{half a li", "[1, 2]"]
        (run / name).write_text("\n".join(lines))
    found = read(run)
    assert "Some lines of events.jsonl could not be read" in found.text
    assert "2 lines of attempts.jsonl could not be read." in found.text


def test_a_resumed_run_counts_a_repeated_round_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, rounds=3)
    for name in ("events.jsonl", "attempts.jsonl"):
        text = (run / name).read_text()
        (run / name).write_text(text + text)
    once, twice = read_run(run).events, attempts.index(run / "attempts.jsonl")
    assert [e["round"] for e in once] == [0, 1, 2, 3]
    assert twice.prompts == 3 * 8 + 2 * ANCHORS + EXAM
    assert twice.sources["practice"]["self"] == 3 * 8 * 16


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no readable config.toml; give the directory of a run"):
        write_report(tmp_path)


def test_the_old_page_stays_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, rounds=2)
    old = write_report(run).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(page.os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_report(run)
    assert (run / "report.html").read_bytes() == old
    assert list(run.glob("*.tmp")) == []


# ---- hostile text, size ------------------------------------------------------------------------------------------------------


def hostile_run(folder: Path) -> Path:
    """Every free text of a run directory is hostile, and one attempt has 200,000 characters."""
    run = make_run(folder, rounds=4, per_round=3)
    group = json.loads((run / "attempts.jsonl").read_text().splitlines()[0])
    group["task"] |= {"id": f"t-{HOSTILE}", "prompt": [{"role": HOSTILE, "content": HOSTILE}]}
    group["version"] = HOSTILE
    for k in range(8):
        group["attempts"][k] |= {"text": HOSTILE, "answer": HOSTILE, "stop": HOSTILE}
        group["attempts"][k]["verdict"] |= {"why": HOSTILE, "source": HOSTILE}
    group["attempts"][9]["text"] = "first words " + "x" * 200_000 + " last words"
    group["attempts"][10]["text"] = "half a surrogate \ud800 pair"
    with (run / "attempts.jsonl").open("a") as file:
        file.write(json.dumps(group | {"round": 4}) + "\n")
    (run / "config.toml").write_text((run / "config.toml").read_text() + f"# {HOSTILE}\n", encoding="utf-8")
    last = json.loads((run / "events.jsonl").read_text().splitlines()[-1])
    write_lines(
        run / "events.jsonl",
        [event(0, random.Random(0), 0.4), last | {"alarms": [HOSTILE], "meters": {HOSTILE: 1.0, "agreement": 0.5}}],
    )
    write_lines(
        run / "decisions.jsonl", [{"action": HOSTILE, "version": HOSTILE, "why": HOSTILE, "evidence": {HOSTILE: HOSTILE}}]
    )
    summary = json.loads((run / "summary.json").read_text())
    text = dict.fromkeys(("model", "why", "promoted_version", "rendered_prompt", "command"), HOSTILE)
    (run / "summary.json").write_text(json.dumps(summary | text | {"software": {HOSTILE: HOSTILE}}))
    return run


def test_hostile_text_is_inert_and_visible(tmp_path: Path) -> None:
    found = read(hostile_run(tmp_path))
    assert_self_contained(found)
    assert not set("\x00\x1b\u202e\u202c") & set(found.raw)
    text = next(g for g in found.shown("practice", 4) if g["id"].startswith("t-"))["sides"][0]["attempts"][0]["text"]
    assert text == wording.visible(HOSTILE)
    assert "⟨ESC⟩[31mred⟨ESC⟩[0m ⟨U+202E⟩gnp.exe⟨U+202C⟩ nul⟨NUL⟩" in text and "</script><script>alert(1)</script>" in text


def test_a_very_long_attempt_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    found = read(hostile_run(tmp_path))
    text = next(g for g in found.shown("practice", 4) if g["id"].startswith("t-"))["sides"][0]["attempts"][9]["text"]
    assert text.startswith("first words x") and text.endswith("x last words")
    assert len(text) < attempts.CHARACTERS + 100
    assert f"[… {200_023 - attempts.CHARACTERS:,} characters left out …]" in text


def test_the_page_of_a_large_run_is_bounded_and_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, rounds=60, per_round=1)
    filler = "so the sum is " * 300
    groups = [json.loads(line) for line in (run / "attempts.jsonl").read_text().splitlines()]
    practice = [g for g in groups if g["set"] == "practice"]
    for group in practice:
        for one in group["attempts"]:
            one["text"] = filler
    lines = [json.dumps(g | {"round": r}) for r in range(1, 301) for g in practice[:1]]
    (run / "attempts.jsonl").write_text("\n".join(lines))
    found = read(run)
    rounds = [g["round"] for g in found.data["groups"]]
    assert len(found.raw.encode()) < attempts.BYTES + 500_000
    assert {1, 300} <= set(rounds) and rounds == sorted(rounds)
    assert max(b - a for a, b in zip(rounds, rounds[1:], strict=False)) <= 8  # evenly spread
    assert f"{len(rounds)} of 300 prompts are in this page" in found.text and "attempts.jsonl" in found.text


def test_a_small_budget_still_shows_first_best_and_last(tmp_path: Path) -> None:
    log = make_run(tmp_path, rounds=20) / "attempts.jsonl"
    found = attempts.index(log)
    found.spots = {b: t for b, t in found.spots.items() if b[0] == "practice"}
    assert {g["round"] for g in attempts.choose(log, found, (1, 13, 20), limit=7_600)} == {1, 13, 20}


# ---- the pieces --------------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec=None)))
def test_visible_text_hides_nothing(text: str) -> None:
    shown = wording.visible(text)
    assert wording.visible(shown) == shown
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff]", shown)
    assert bool(shown.encode()) == bool(text)


def test_ordinary_text_of_any_script_stays_as_it_is() -> None:
    for text in ("12 + 30 = 42\n\t✓", "Größe", "数学", "می‌خواهم", "👩‍🚀"):
        assert wording.visible(text) == text


@settings(max_examples=40)
@given(st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_script_json_is_inert_and_exact(value: Any) -> None:
    written = attempts.script_json(value)
    assert not set("<>&") & set(written)
    assert json.loads(written) == value


@given(st.floats(-1e6, 1e6), st.floats(1e-2, 1e6), st.integers(2, 8))
def test_ticks_enclose_the_data_with_round_steps(low: float, span: float, about: int) -> None:
    marks = svg.ticks(low, low + span, about)
    step = marks[1] - marks[0]
    assert marks[0] <= low + 1e-6 * step and marks[-1] >= low + span - 1e-6 * step
    assert 2 <= len(marks) <= about + 2
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-6), 3) in (1, 2, 5)


def test_thinning_keeps_the_spike() -> None:
    points = [(float(k), 1000.0 if k == 777 else float(k % 3)) for k in range(5000)]
    kept = svg.thin(points)
    assert (777.0, 1000.0) in kept and kept[0] == points[0] and kept[-1] == points[-1]
    assert len(kept) <= 402 and kept == sorted(kept)


def test_votes_are_counted_with_no_answer_last() -> None:
    tries = [{"answer": a} for a in (None, None, None, "7", "42", "42")]
    assert attempts.votes(tries) == [("42", 2), ("7", 1), (None, 3)]


def test_votes_bar_is_proportional() -> None:
    bar = figures.votes_bar([("42", 12), (None, 4)], width=160)
    assert re.findall(r'class="(\w+)" x="([\d.]+)"[^>]*width="([\d.]+)"', bar) == [("v0", "0", "119"), ("none", "120", "39")]


def test_line_chart_places_points_where_the_axes_say() -> None:
    curve = figures.Curve("anchors", [(0, 0.0), (10, 0.5), (20, 1.0)], band=[(0, 0, 0.1), (10, 0.4, 0.6), (20, 0.9, 1)])
    drawn = figures.line_chart([curve], label="x", rounds=(0, 20), size=(200, 148), y=(0, 1), margins=(50, 50), best=(10, 0.5))
    dots = re.findall(r'class="dot truth" cx="([\d.]+)" cy="([\d.]+)"', drawn)
    assert dots == [("50", "122"), ("100", "72"), ("150", "22")]
    assert 'class="ring" cx="100" cy="72"' in drawn


def test_a_reward_outside_the_unit_interval_is_stretched_and_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, rounds=4)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    for e in events[1:]:
        e["meters"]["proxy_reward"] = -2.0 + 0.5 * e["round"]
    write_lines(run / "events.jsonl", events)
    assert "what the learner is paid, stretched here from its range of −1.5 to 0," in read(run).text
    stretched = (curves.learning(read_run(run)) or {})["wide"]
    assert re.search(r'class="name proxy"[^>]*>proxy reward 0<', stretched)


def test_one_curve_where_the_reward_is_the_agreement(tmp_path: Path) -> None:
    run = make_run(tmp_path, rounds=4)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    for e in events[1:]:
        e["meters"]["proxy_reward"] = e["meters"]["agreement"]
    write_lines(run / "events.jsonl", events)
    assert (curves.learning(read_run(run)) or {})["names"] == ["anchors", "proxy reward (agreement)"]


def test_the_note_on_divergence_needs_more_than_noise(promoted: Path) -> None:
    run = read_run(promoted)
    assert "while the anchors changed by −14.1 points" in (curves.learning(run) or {})["note"]
    for e in run.events:
        if e["anchor"]:
            e["anchor"]["ci"] = [0.0, 1.0]
    assert (curves.learning(run) or {})["note"] is None


def test_lineage_branches_off_after_a_roll_back() -> None:
    versions = [
        {"id": v, "parent": p, "round": r} for v, p, r in (("base", None, 0), ("a", "base", 1), ("b", "a", 2), ("c", "a", 3))
    ]
    drawn = figures.lineage_chart(versions, {"base": "base", "c": "c: last"})
    heights = re.findall(r'<circle class="node[^"]*" cx="[\d.]+" cy="([\d.]+)"', drawn)
    assert heights == ["30", "30", "30", "56"]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (3e-6, "3e-6"), (-0.05, "−0.05"), (12400, "12,400"), (-3e-7, "−3e-7"), (2e12, "2,000,000,000,000")],
)
def test_plain_numbers(value: float, said: str) -> None:
    assert wording.plain(value) == said
