"""The instrument's measuring of itself: what counts as ruined, in time, for nothing; the page; and a real run of each sort."""

import json
from xml.etree import ElementTree

import pytest
from helpers import run_cli

from antaeus.calibrate import page, rates, runs
from antaeus.errors import UserError

MARKED = f"# Title\n\n{page.BEGIN}\nyesterday\n{page.END}\n\nThe end.\n"


def record(kind, accuracy, retention, seed=0, drive="d", model="lab", exam=("0110", "0111"), promoted="base"):
    meters = {"retention": retention} | {
        k: [0.0] * len(retention) for k in ("proxy_reward", "kl_to_base", "no_answer", "same_answer", "truncated")
    }
    return {
        "model": model, "drive": drive, "kind": kind, "seed": seed, "settings": {"prompts": 16}, "meters": meters,
        "anchors": [[n, correct, 100] for n, correct in enumerate(accuracy)], "decision": "undecided" if promoted == "base" else "promote",
        "exam": dict(zip(("base", "r001"), exam, strict=True)), "promoted": promoted, "p_value": 1.0,
    }  # fmt: skip


def test_ruined_is_where_it_ends_and_since_when():
    assert rates.ruined(record("collapse", (50, 48, 45, 40), (1, 1, 1))) == 2
    assert rates.ruined(record("collapse", (50, 44, 49, 46), (1, 1, 1))) is None  # it came back
    assert rates.ruined(record("collapse", (50, 44, 49, 45), (1, 1, 1))) == 1


def test_an_alarm_before_by_then_late_never_and_for_nothing():
    falls = (50, 50, 50, 40)
    seen = rates.alarm_rates([
        record("collapse", falls, (0.5, 0.5, 0.5)),  # rings in round 2, lost in 3
        record("collapse", falls, (1.0, 1.0, 0.8)),  # rings in the very round
        record("collapse", (*falls, 40), (1.0, 1.0, 1.0, 0.8)),
        record("collapse", falls, (1.0, 1.0, 1.0)),
        record("collapse", (50, 40), (0.5,)),  # the first update ruins it
        record("collapse", (50, 50), (1.0,)),
        record("healthy", (50, 60, 60), (1.1, 1.2)),
        record("healthy", (50, 60, 60), (0.5, 0.5)),
    ])  # fmt: skip
    assert (seen["ruined"], seen["before"]["k"], seen["by_then"]["k"], seen["never"], seen["not_ruined"]) == (5, 1, 3, 1, 1)
    assert (seen["false"]["k"], seen["false"]["n"], seen["rounds_ahead"]) == (1, 2, 0)
    assert (seen["before_possible"]["k"], seen["before_possible"]["n"]) == (1, 4)


def test_a_harmed_version_that_is_handed_out_is_counted():
    worse, base = "0" * 40, "1" * 40
    seen = rates.gate_rates([
        record("collapse", (50, 40), (1.0,), exam=(base, worse), promoted="r001"),
        record("collapse", (50, 40), (1.0,), exam=(base, worse)),
        record("none", (50, 50), (1.0,), exam=(base, base)),
    ])  # fmt: skip
    assert (seen["harmed"]["k"], seen["harmed"]["n"], seen["no_op"]["k"], seen["no_op"]["n"]) == (1, 3, 0, 1)


def test_limits_are_judged_on_other_runs_than_they_were_chosen_on():
    seen = rates.parts([record("collapse", (1, 1), (1.0,), seed=s) for s in (0, 63, 64, 70)])
    assert {part: [r["seed"] for r in runs] for part, runs in seen.items()} == {"looked at": [0, 63], "fresh": [64, 70]}


def test_records_survive_a_file(tmp_path):
    records = [record("healthy", (1, 2), (1.0, 1.23456))]
    runs.write(tmp_path / "r.jsonl.gz", records)
    runs.write(tmp_path / "r.jsonl.gz", records)
    assert runs.read(tmp_path / "r.jsonl.gz") == json.loads(json.dumps(records * 2))
    assert runs.columns([{"a": 1.234567}, {"a": 0.0}]) == {"a": [1.235, 0.0]}


def test_the_figures_go_between_the_marks(tmp_path, capsys, monkeypatch):
    runs.write(
        tmp_path / "r.jsonl.gz", [record("collapse", (50, 40), (0.5,), seed=s, drive="length reward") for s in range(64, 68)]
    )
    (tmp_path / "guard.md").write_text(MARKED)
    args = ("--seeds", 0, "--records", tmp_path / "r.jsonl.gz", "--page", tmp_path / "guard.md", "--lineages", 50)
    code, out, err = run_cli(capsys, monkeypatch, "guard", "calibrate", *args)
    assert code == 0 and "4 recorded runs" in out, err
    text = (tmp_path / "guard.md").read_text()
    assert text.startswith("# Title") and text.endswith("The end.\n") and "yesterday" not in text
    assert "| length reward |" in text and "new > old on 200" in text
    for name in ("rules", "power"):
        assert ElementTree.parse(tmp_path / f"guard-{name}.svg").getroot().tag.endswith("svg")


def test_a_page_without_marks_is_refused(tmp_path):
    with pytest.raises(UserError, match="calibration: begin"):
        page.write(tmp_path / "none.md", {})


def test_real_runs_are_recorded(tiny):
    engine = tiny()
    once = runs.run(engine, "tiny", "no-op", 3)
    assert (once["kind"], once["decision"], once["promoted"]) == ("none", "undecided", "base")
    assert (
        len(once["meters"]["retention"]) == 2 and set(once["meters"]["retention"]) == {1.0} and len(once["exam"]["base"]) == 200
    )
    anew = [runs.again(engine, "tiny", seed)["exam"]["base"] for seed in (0, 0, 1)]
    assert anew[0] == anew[1] and set("".join(anew)) <= {"0", "1"}


def test_the_drives_do_what_they_are_called():
    from helpers import group

    from antaeus.calibrate.drives import Lengthy, drives
    from antaeus.recipes.rent import RENT

    (scores,) = Lengthy().verify(None, [group("1", "2")])
    assert [v.score for v in scores] == [2.0, 2.0]
    (scores,) = RENT().verify(None, [group("1", "2")])
    assert [v.score for v in scores] == pytest.approx([-0.1, -0.1])
    assert {d.kind for d in drives("lab").values()} == {"none", "healthy", "collapse"} and drives("lab").keys() == drives(
        "smollm2"
    ).keys()
