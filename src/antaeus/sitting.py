"""Where a version is measured on sealed tasks: the anchors every few rounds, the exam once, and the decision that follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from antaeus.config import RunConfig
from antaeus.engine.base import Engine, Sampling
from antaeus.guard import gate
from antaeus.guard.service import ScoreService
from antaeus.recipes.base import Recipe
from antaeus.records import BASE, State, Watch, keep, record, round_s, version_id
from antaeus.solve.rollout import rollout
from antaeus.store.run import RunDir
from antaeus.types import Anchor, Decision, Exam, Group, TaskSet, Verdict

Rows = list[list[Verdict]]
"""The verdicts on each task's attempts."""


@dataclass(frozen=True)
class Sealed:
    """Tasks to measure on, whose answers are in the score service alone, and those of `others`: abilities that may not fall."""

    tasks: TaskSet
    service: ScoreService
    tries: int = 1
    temperature: float = 1.0
    others: tuple[Sealed, ...] = ()

    def take(self, engine: Engine, which: Sequence[Anchor | Exam]) -> tuple[list[Group], Rows]:
        """Attempts at sealed tasks, one greedy or `tries` sampled each, and ground truth's verdicts on them. Every version draws
        with the same random numbers, so that versions that hardly differ are hardly told apart by chance."""
        temperature = self.temperature if self.tries > 1 else 0.0
        how = Sampling(self.tries, self.tasks.max_tokens, temperature, stop=self.tasks.stop)
        groups = rollout(engine, which, how, seed="sitting", read=self.tasks.extract)
        return groups, self.service.mark(groups)


@contextmanager
def sealing(tasks: TaskSet, others: Sequence[TaskSet], tries: int, temperature: float) -> Iterator[Sealed]:
    """Hand the answers of anchors and exams to processes of their own, for as long as the block lasts; here they are wiped."""
    with ExitStack() as services:
        own, *rest = [services.enter_context(ScoreService(each)) for each in (tasks, *others)]
        beside = tuple(Sealed(s.seal(t), s, tries, temperature) for t, s in zip(others, rest, strict=True))
        yield Sealed(own.seal(tasks), own, tries, temperature, beside)


def look_at_anchors(engine: Engine, sealed: Sealed, run: RunDir, state: State) -> dict[str, Any]:
    """Measure the policy on the anchors; where no earlier look was better, it is the best and saved (a later version has learned more)."""
    groups, rows = sealed.take(engine, sealed.tasks.anchor)
    state.registry.choose([group.attempts[0] for group in groups])
    name = version_id(state.round)
    record(run, state.round, "anchor", name, groups, rows)
    result = gate.tally(rows)
    if result["correct"] >= state.best_correct:
        state.best, state.best_round, state.best_correct = name, state.round, result["correct"]
        keep(engine, run, state)
    return result


def conclude(
    config: RunConfig, recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, state: State, watch: Watch, prompt: str
) -> dict[str, Any]:
    """Open the exam, once: base, best and last version; decide; write the summary."""
    last = version_id(state.round)
    if last != state.best:
        keep(engine, run, state)
    order = [*sorted({BASE, last} - {state.best}), state.best]
    results = {name: exam(engine, sealed, run, name, state, watch) for name in order}
    evidence = {what: gate.compare(rows, results[state.best][what]) for what, rows in results[BASE].items()}
    main = evidence.pop(sealed.tasks.name)
    decision = gate.decide(main, state.best, BASE, others=evidence)
    run.append("decisions.jsonl", decision)
    summary = summarise(config, recipe, state, sealed.tasks, decision, gate.tally(results[last][sealed.tasks.name]), prompt)
    run.finish(summary, {state.best, last})
    watch("end", summary)
    return summary


def exam(engine: Engine, sealed: Sealed, run: RunDir, name: str, state: State, watch: Watch) -> dict[str, Rows]:
    """One version's verdicts on the exam of the run's tasks and of each other ability, by name of the task set."""
    watch("exam", {"version": name})
    engine.load(None if name == BASE else run.version(name))
    state.registry.check(engine, name)
    rows = {}
    for each in (sealed, *sealed.others):
        groups, rows[each.tasks.name] = each.take(engine, each.tasks.exam)
        record(run, state.round, "exam" if each is sealed else "also", name, groups, rows[each.tasks.name])
    return rows


def summarise(
    config: RunConfig, recipe: Recipe, state: State, tasks: TaskSet, decision: Decision, last: Mapping[str, Any], prompt: str
) -> dict[str, Any]:
    return {
        "status": "stopped" if state.stopped else "finished",
        "recipe": recipe.name, "control": recipe.control, "source": recipe.source, "model": config.model, "tasks": tasks.name,
        "seed": config.seed, "rounds": state.round, "rollbacks": state.rollbacks, "stopped": state.stopped or None,
        "exam": {**decision.evidence, "last": last["accuracy"], "last_ci": last["ci"]},
        "anchor_best_round": state.best_round, "decision": decision.action, "why": decision.why, "promoted_version": decision.version,
        "wall_s": None, "learn_s": round_s(state.learn_s),
        "tokens_sampled": state.tokens_sampled, "tokens_trained": state.tokens_trained, "rendered_prompt": prompt,
    }  # fmt: skip
