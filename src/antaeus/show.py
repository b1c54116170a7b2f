"""What the terminal shows: live progress, tables, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from antaeus.guard.findings import Finding
from antaeus.reporting.wording import test_of, visible, way_of


class Live:
    """A progress bar on standard error with the last meters beside it; lines instead where there is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        columns = [TextColumn("[bold]{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn()]
        columns += [TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        self.bar = self.progress.add_task("learning", total=None, note="")
        self.anchor = ""

    def __enter__(self) -> Live:
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def note(self, text: str) -> None:
        self.console.print(text, style="yellow")

    def show(self, kind: str, about: Mapping[str, Any]) -> None:
        if kind == "start":
            self.console.print(
                Panel(escape(visible(about["prompt"][-2000:])), title="first prompt, as the model sees it", title_align="left")
            )
            self.progress.update(self.bar, total=about["rounds"], completed=about["round"])
        elif kind == "exam":
            self.progress.update(self.bar, description="exam", note=f"grading {about['version']}")
        elif kind == "round":
            self._round(about)

    def _round(self, event: Mapping[str, Any]) -> None:
        if event["anchor"]:
            self.anchor = f"anchors {event['anchor']['accuracy']:.0%}"
        meters = event["meters"]
        note = f"{self.anchor}  agreement {meters['agreement']:.2f}" if meters else self.anchor
        self.progress.update(self.bar, completed=event["round"], note=note)
        if self.progress.disable and (event["anchor"] or event["alarms"]):
            self.console.print(f"round {event['round']:4d}  {event['time_s']:7.1f} s  {note}", highlight=False)
        for alarm in event["alarms"]:
            self.console.print(f"round {event['round']}: alarm: {alarm}", style="yellow", highlight=False)

    def conclude(self, summary: Mapping[str, Any]) -> None:
        """The verdict and where everything lies, on standard output."""
        out = Console(highlight=False)
        if "exam" not in summary:  # a dry run
            out.print_json(data={k: v for k, v in summary.items() if k != "rendered_prompt"})
            out.print(Panel(escape(visible(summary["rendered_prompt"])), title="first prompt", title_align="left"))
            return
        exam = summary["exam"]
        if summary.get("stopped"):
            out.print(f"stopped after {summary['rounds']} rounds: {escape(summary['stopped'])}", soft_wrap=True)
        if exam is None:  # its lineage would not have it opened
            out.print(f"[bold]{summary['decision']}[/]: {escape(summary['why'])}", soft_wrap=True)
            return
        low, high = exam["ci"]
        gain = f"{exam['before']:.1%} -> {exam['after']:.1%} of {exam['n']} unseen exam tasks"
        sure = f"difference {low:+.1%} to {high:+.1%}, {test_of(exam)} p = {exam['p_value']:.2g}"
        cost = f"{summary['tokens_sampled']:,} tokens sampled, {summary['tokens_trained']:,} trained"
        stays = "" if summary["decision"] == "promote" else ", stays with"
        out.print(f"[bold]{summary['decision']}{stays} {summary['promoted_version']}[/]: {gain} ({sure})", soft_wrap=True)
        out.print(escape(summary["why"]), soft_wrap=True)
        if way := way_of(summary):
            out.print(way, soft_wrap=True)
        out.print(f"learning took {summary['learn_s']:.0f} s; {cost}", soft_wrap=True)
        out.print(f"report: {summary['run_dir']}/report.html", soft_wrap=True)


def recipe_table(recipes: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table("recipe", "rung", "error signal", "what it does", box=None, header_style="bold")
    for name, about in recipes.items():
        table.add_row(name, str(about["rung"]), about["source"], escape(about["title"]))
    Console().print(table)


def settings_table(keys: Mapping[str, Mapping[str, Any]]) -> None:
    table = Table("key", "default", "what it is", box=None, header_style="bold")
    for name, about in keys.items():
        choices = f" ({', '.join(about['choices'])})" if about["choices"] else ""
        table.add_row(name, str(about["default"]), escape(about["about"] + choices))
    Console().print(table)


def compare_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Runs side by side; differences in percentage points with 95 % intervals."""

    def points(difference: float, ci: Sequence[float]) -> str:
        return f"{100 * difference:+.1f} ({100 * ci[0]:+.1f} to {100 * ci[1]:+.1f})"

    table = Table("run", "recipe", "control", "seed", "before", "after", "gain, points", "less the control", "decision", box=None)
    for row in rows:
        less = "\n".join(f"{points(c['difference'], c['ci'])} {c['control']}" for c in row["less_control"])
        name, shares = Path(row["run"]).name, [f"{row[k]:.1%}" for k in ("before", "after")]
        table.add_row(
            name, row["recipe"], row["control"], str(row["seed"]), *shares, points(row["gain"], row["ci"]), less, row["decision"]
        )
    Console().print(table)


def findings_table(findings: Sequence[Finding]) -> None:
    out = Console(highlight=False)
    if not findings:
        out.print("nothing found")
        return
    table = Table("severity", "rule", "what was found", "where", box=None, header_style="bold")
    for finding in findings:
        style = {"fatal": "bold red", "warning": "yellow"}.get(finding.severity, "")
        table.add_row(finding.severity, finding.rule, escape(finding.sentence), escape(finding.where), style=style)
    out.print(table)


def grader_table(found: Mapping[str, Any]) -> None:
    """What the check of a grader found: the kinds of probes with something to report, an example of each, and the verdict."""
    out, styles = Console(highlight=False), {"wrong": "bold red", "weak": "yellow", "strict": "dim"}
    out.print(
        escape(f"{found['called']}; {found['golds']} golds; reads {' and '.join(found['reads']) or 'nothing'}"), soft_wrap=True
    )
    table = Table("", "probe, and the first example", "", "tried", "went wrong", box=None, header_style="bold")
    for row in found["rows"]:
        if style := styles.get(row["severity"]):
            went = [f"{n} {state}" for state, n in row["troubles"].items()]
            example = row["examples"][next(iter(row["troubles"]))]
            about = f"{escape(row['probe'])}\n[not bold dim]{escape(example)}[/]"
            table.add_row(row["severity"], about, row["rule"], str(row["tried"]), "\n".join(went), style=style)
    if table.row_count:
        out.print(table)
    clean = [row["tried"] for row in found["rows"] if not row["severity"]]
    out.print(f"{sum(clean)} questions of {len(clean)} other kinds: nothing to report")
    out.print(f"[bold]{escape(found['verdict'])}[/]", soft_wrap=True)
