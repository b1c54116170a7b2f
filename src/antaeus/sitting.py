"""Where a version is measured on sealed tasks: the anchors every few rounds, the exam once, and the decision that follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from antaeus.config import RunConfig
from antaeus.engine.base import Engine, Sampling
from antaeus.guard import descent, forgetting, gate, seals
from antaeus.guard.audit import log_hashes
from antaeus.guard.fingerprint import BASE, WrongWeights
from antaeus.guard.lineage import Lineage, Proposal
from antaeus.guard.service import ScoreService
from antaeus.recipes.base import Recipe
from antaeus.records import State, Watch, keep, record, round_s
from antaeus.solve.retrieval import answered
from antaeus.store.run import RunDir
from antaeus.types import Anchor, Decision, Exam, Group, TaskSet, Verdict, to_json

Rows = list[list[Verdict]]
"""The verdicts on each task's attempts."""

REGRADED = 20  # tasks of the base's exam that are graded twice, to find out a grader that changes its mind


@dataclass(frozen=True)
class Custody:
    """What has to be the same before and after: the folder of the base, and the seals of graders, templates and tasks."""

    base: Path
    before: Mapping[str, str]
    now: Callable[[], Mapping[str, str]]

    @property
    def instruments(self) -> dict[str, str]:
        """What a lineage's exam was opened with: its tasks and answers, the anchors, the graders; a hash each."""
        kinds = {
            "exam": ("tasks/exam", "answers/exam"),
            "anchor": ("tasks/anchor", "answers/anchor"),
            "grader": ("grader", "package"),
        }
        parts = {what: [self.before[k] for k in sorted(self.before) if k.startswith(names)] for what, names in kinds.items()}
        return {what: seals.digest(values) for what, values in parts.items()}


@dataclass(frozen=True)
class Sealed:
    """Tasks to measure on, whose answers are in the score service alone, and those of `others`: abilities that may not fall."""

    tasks: TaskSet
    service: ScoreService
    custody: Custody
    tries: int = 1
    temperature: float = 1.0
    others: tuple[Sealed, ...] = ()

    @property
    def abilities(self) -> tuple[Sealed, ...]:
        """All that is examined: the run's own tasks first."""
        return (self, *self.others)

    @property
    def sampling(self) -> Sampling:
        temperature = self.temperature if self.tries > 1 else 0.0
        return Sampling(self.tries, self.tasks.max_tokens, temperature, stop=self.tasks.stop)

    def take(self, engine: Engine, which: Sequence[Anchor | Exam], by: Recipe | None = None) -> tuple[list[Group], Rows]:
        """Attempts at sealed tasks, one greedy or `tries` sampled each (`by` a recipe, in its way), and ground truth's verdicts on them.
        Every version draws with the same random numbers, so that versions that hardly differ are hardly told apart by chance."""
        groups = (by.answer if by else answered)(engine, which, self.sampling, seed="sitting", read=self.tasks.extract)
        return groups, self.service.mark(groups)


@contextmanager
def sealing(tasks: TaskSet, others: Sequence[TaskSet], tries: int, temperature: float, custody: Custody) -> Iterator[Sealed]:
    """Hand the answers of anchors and exams to processes of their own, for as long as the block lasts; here they are wiped."""
    with ExitStack() as services:
        own, *rest = [services.enter_context(ScoreService(each)) for each in (tasks, *others)]
        beside = tuple(Sealed(s.seal(t), s, custody, tries, temperature) for t, s in zip(others, rest, strict=True))
        yield Sealed(own.seal(tasks), own, custody, tries, temperature, beside)


def way(recipe: Recipe, version: str) -> Recipe | None:
    """The recipe in whose way a version answers; None for plain answering."""
    return recipe if version != BASE or recipe.throughout else None


def look_at_anchors(recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, state: State) -> dict[str, Any]:
    """Measure the policy on the anchors; where no earlier look was better, it is the best and saved (a later version has learned more)."""
    name, own = state.policy, way(recipe, state.policy)
    groups, rows = sealed.take(engine, sealed.tasks.anchor, own)
    if not state.registry.probe:  # the base's own answers, whatever way the anchors are answered in
        plain = groups if own is None else sealed.take(engine, sealed.tasks.anchor)[0]
        state.registry.choose([group.attempts[0] for group in plain])
    record(run, state.round, "anchor", name, groups, rows)
    if recipe.merges and name == BASE:
        state.known = forgetting.remembered({}, groups, rows, frozenset())
    result = gate.tally(rows)
    if result["correct"] >= state.best_correct:
        state.best_correct = result["correct"]
        if name not in state.hashes:  # else it is looked at again, since those after it were refused
            state.best, state.known_best = name, dict(state.known)
            keep(engine, run, state, sealed.custody.base)
    return result


def conclude(
    config: RunConfig, recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, state: State, watch: Watch, prompt: str
) -> dict[str, Any]:
    """Open the exam, once: base, best and last version; decide; write the summary."""
    last = state.policy
    if last != state.best:
        keep(engine, run, state, sealed.custody.base)
    lineage = lineage_of(config) if state.best != BASE else None
    proposal = Proposal(candidate_of(recipe, state), state.hashes[BASE], sealed.custody.instruments)
    if lineage and (refused := lineage.refusal(proposal)):
        decision, after, beside = Decision("undecided", BASE, f"the exam was not opened: {refused}"), None, {}
        end = sealed.custody.now()
    else:
        level = lineage.open(proposal) if lineage else gate.ALPHA
        decision, after = sit(recipe, engine, sealed, run, state, watch, level)
        beside = baselines(recipe, engine, sealed, run, state, watch)
        end = sealed.custody.now()
        decision = unless_changed(decision, sealed.custody.before, end)
        decision = lineage.enter(proposal, decision) if lineage else decision
    run.append("decisions.jsonl", decision)
    told = beside | recipe.account(run.lines("attempts.jsonl"), state.refused)
    summary = summarise(config, recipe, state, sealed.tasks, decision, after, prompt, told)
    run.write("seals.json", to_json({"start": sealed.custody.before, "end": end, "logs": log_hashes(run.path)}))
    run.finish(summary, {state.best, last})
    watch("end", summary)
    return summary


def sit(
    recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, state: State, watch: Watch, level: float
) -> tuple[Decision, dict[str, Any]]:
    """The exam of base, last and best version; the gate's decision on the best, and the tally of the last."""
    last = state.policy
    order = [*sorted({BASE, last} - {state.best}), state.best]
    results = {name: exam(recipe, engine, sealed, run, name, state, watch) for name in order}
    main, flaky = sealed.tasks.name, unsteady(sealed, results[BASE])
    seen = {what: gate.compare(rows, results[state.best][what][1], flaky) for what, (_, rows) in results[BASE].items()}
    return gate.decide(seen.pop(main), state.best, BASE, level, others=seen), gate.tally(results[last][main][1])


def unless_changed(decision: Decision, before: Mapping[str, str], end: Mapping[str, str]) -> Decision:
    """The decision, but undecided where a task, template or grader is not what it was when the run began."""
    changed = seals.broken(before, end)
    why = f"{changed[0].sentence} while the run lasted: nothing is decided" if changed else ""
    return replace(decision, action="undecided", version=BASE, why=why) if changed else decision


def candidate_of(recipe: Recipe, state: State) -> str:
    """What identifies the candidate: its weights and, where the recipe answers in a way of its own, that way."""
    weights = state.hashes[state.best]
    return seals.digest([weights, recipe.name, to_json(recipe)]) if recipe.inference or recipe.throughout else weights


def lineage_of(config: RunConfig) -> Lineage | None:
    """The lineage that the run belongs to, where it names one."""
    return Lineage(Path(config.lineage), proposals=config.proposals, exams=config.exams) if config.lineage else None


def exam(
    recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, name: str, state: State, watch: Watch
) -> dict[str, tuple[list[Group], Rows]]:
    """One version's attempts and verdicts at the exam of the run's tasks and of each other ability, by name of the task set."""
    watch("exam", {"version": name})
    folder = sealed.custody.base if name == BASE else run.version(name)
    if descent.weights_hash(folder) != state.hashes[name]:
        raise WrongWeights(f"{folder}: its files are not those of version {name}: they were changed while the run lasted")
    engine.load(None if name == BASE else folder)
    state.registry.check(engine, name)
    sat = {}
    for each in sealed.abilities:
        sat[each.tasks.name] = groups, rows = each.take(engine, each.tasks.exam, way(recipe, name))
        record(run, state.round, "exam" if each is sealed else "also", name, groups, rows)
    return sat


def baselines(recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, state: State, watch: Watch) -> dict[str, Any]:
    """The recipe's baselines on the exam, where it has any, and what each reaches there: by name, for the summary."""
    engine.load(None)
    told: dict[str, Any] = {}
    how = sealed.sampling
    for name, groups in recipe.baselines(engine, sealed.tasks.exam, how, seed="sitting", read=sealed.tasks.extract).items():
        watch("exam", {"version": name})
        rows = sealed.service.mark(groups)
        record(run, state.round, "baseline", name, groups, rows)
        told[name] = gate.tally(rows)
    return {"baselines": told} if told else {}


def unsteady(sealed: Sealed, sat: Mapping[str, tuple[list[Group], Rows]]) -> list[str]:
    """Tasks on which a second grading of the same answers gave other scores."""
    groups, rows = sat[sealed.tasks.name]
    return gate.flaky(groups[:REGRADED], rows[:REGRADED], sealed.service.mark(groups[:REGRADED]))


def summarise(
    config: RunConfig,
    recipe: Recipe,
    state: State,
    tasks: TaskSet,
    decision: Decision,
    last: Mapping[str, Any] | None,
    prompt: str,
    told: Mapping[str, Any],
) -> dict[str, Any]:
    source = recipe.source if recipe.source in recipe.sources else min(recipe.sources)
    return {
        "status": "stopped" if state.stopped else "finished",
        "recipe": recipe.name, "control": recipe.control, "source": source, "model": config.model, "tasks": tasks.name,
        "way": recipe.name if recipe.inference else None, **told,
        "seed": config.seed, "rounds": state.round, "rollbacks": state.rollbacks, "stopped": state.stopped or None,
        "exam": {**decision.evidence, "last": last["accuracy"], "last_ci": last["ci"]} if last else None,
        "anchor_best_round": state.best_round, "decision": decision.action, "why": decision.why, "promoted_version": decision.version,
        "wall_s": None, "learn_s": round_s(state.learn_s),
        "tokens_sampled": state.tokens_sampled, "tokens_trained": state.tokens_trained, "rendered_prompt": prompt,
    }  # fmt: skip
