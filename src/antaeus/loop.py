"""The loop: propose -> solve -> verify -> learn -> guard. Read `improve` from top to bottom; what follows are its words.

Data flows one way inside a round; the only edge back is the version the next round starts from. Every round is a function of the
configuration and the weights it starts from, so a round that was lost can be replayed to the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from antaeus import merging, steering
from antaeus.config import RunConfig
from antaeus.engine.base import Engine, Scores, Weights
from antaeus.errors import UserError
from antaeus.guard import alarms, meters, mitigation, truth
from antaeus.guard.overlap import Fence
from antaeus.guard.trends import trends
from antaeus.recipes.base import Recipe
from antaeus.recipes.round import Round
from antaeus.records import State, Watch, log, record, restore, save, version_id
from antaeus.sitting import Sealed, conclude, look_at_anchors
from antaeus.solve.rollout import ask
from antaeus.store.run import RunDir
from antaeus.types import Group, Lesson, Practice, SealBroken, Source, Vault, Verdict
from antaeus.verify import controls
from antaeus.verify.ground import ground
from antaeus.verify.vote import fixed

Rows = list[list[Scores]]


class Interrupted(Exception):
    """The run was asked to stop; it is saved and can be resumed. The message is its directory."""


def improve(
    config: RunConfig, recipe: Recipe, engine: Engine, sealed: Sealed, run: RunDir, watch: Watch, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Run `recipe` from where `run` stands to its end and return the summary. Raises `Interrupted` once `stop()` is true."""
    fence = Fence([t for each in (sealed, *sealed.others) for t in (*each.tasks.anchor, *each.tasks.exam)])
    vault = sealed.tasks.practice_vault if Source.GROUND in recipe.sources else Vault(Practice, {})
    prompt = engine.render(ask(sealed.tasks.practice[0], engine.chat))
    state = restore(engine, run)
    watch("start", {"prompt": prompt, "round": state.round, "rounds": recipe.rounds})
    if state.best_correct < 0:
        log(run, watch, state, anchor=look_at_anchors(recipe, engine, sealed, run, state))
        steering.begin(config, recipe, engine, sealed.tasks, run, state)

    for number in range(state.round + 1, recipe.rounds + 1):
        if steering.over(config, recipe, state):
            break
        began = time.monotonic()
        method, tasks = steering.milder(config, recipe, sealed.tasks, state)
        round = Round(number, config.seed, engine, tasks, vault, steering.done(config, recipe, state))
        practice = method.propose(round)
        groups = method.solve(round, practice)
        verdicts = verify(method, round, groups, steering.labels(config, state))
        verdicts = without_tainted(fence, groups, verdicts)
        base, reference = reference_scores(config, engine, method, groups)
        lessons = method.learn(round, groups, verdicts, reference)
        fence.check(lessons)
        if number == 1:
            refuse_without_signal(method, groups, verdicts, lessons)
        trained, harmed = merging.train(method, round, lessons, sealed, run, state, config.on_alarm)

        measured = measure(engine, sealed, state, number, *own(groups, verdicts, base))
        state.tokens_sampled += sum(a.cost for g in groups for a in g.attempts) + sum(v.spent for row in verdicts for v in row)
        state.tokens_trained += sum(t.tokens for t in trained)
        state.learn_s, state.round = state.learn_s + time.monotonic() - began, number
        record(run, number, "practice", state.policy, groups, verdicts)
        state.policy = version_id(number) if version_id(number) not in state.refused else state.policy
        steering.follow(config, engine, number)
        last = steering.done(config, recipe, state) == 1.0
        ringing = alarms.ringing(state.history, len(practice), attempts=sum(len(g.attempts) for g in groups))
        startled = bool(ringing) and config.on_alarm != "note" and not last
        due = last or startled or number % config.anchor_every == 0  # whoever learns fast may ring too: labels tell
        anchor = look_at_anchors(recipe, engine, sealed, run, state) if due else None
        lr = None if method.merges else method.update(round).lr
        log(run, watch, state, measured, trained, anchor, lr, [*harmed, *ringing.values()])
        if startled:
            steering.react(config, method, engine, sealed, run, state, ringing)
        steering.tire(config, state)
        if stop() or run.due():
            save(engine, run, state)
            if stop():
                raise Interrupted(str(run.path))

    return conclude(config, recipe, engine, sealed, run, state, watch, prompt)


# --- the stages' glue ---------------------------------------------------------------------------------------------------


def verify(recipe: Recipe, round: Round, groups: Sequence[Group], labels: mitigation.Survey) -> list[list[Verdict]]:
    """The recipe's verdicts, its control's, or those of labels from a fixed version. A recipe may not pass off one source of verdicts
    as another."""
    if recipe.control == "random":
        return [controls.random(group, round.draw) for group in groups]
    if recipe.control == "format":
        return [controls.format(group) for group in groups]
    verdicts = [fixed(g, labels[g.task.about or g.task.id][0]) for g in groups] if labels else recipe.verify(round, groups)
    if foreign := {v.source for row in verdicts for v in row} - recipe.sources:
        raise SealBroken(f"recipe {recipe.name} declares {recipe.source} verdicts and gave {', '.join(foreign)}")
    if recipe.control == "shuffled-labels":
        return [controls.shuffled(row, group, round.draw) for row, group in zip(verdicts, groups, strict=True)]
    return verdicts


def measure(
    engine: Engine, sealed: Sealed, state: State, number: int, groups: list[Group], verdicts: list[list[Verdict]], base: Rows
) -> dict[str, float]:
    """The round's meters. What goes into the history is what alarms see; what sealed answers tell comes after it."""
    measured = {**meters.measure(groups, verdicts, base), "retention": state.registry.retention(engine)}
    state.history.append({**measured, "round": number})
    return measured | trends(state.history) | truth.measure(groups, verdicts, graded(groups, sealed.tasks.practice_vault))


def graded(groups: Sequence[Group], vault: Vault) -> list[list[Verdict] | None]:
    """Ground truth's verdicts, for meters that nothing learns from; None for a task without sealed answer of
    its own."""
    return [ground(g, vault) if g.task.id in vault and g.task.check != "passage" else None for g in groups]


def without_tainted(fence: Fence, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]]) -> list[list[Verdict]]:
    """The verdicts, but none on attempts whose text gives a held-out task away: from these nothing may be learned."""
    tainted = fence.tainted(groups)
    return [
        [
            replace(v, score=None, why=why) if (why := tainted.get((a.task_id, a.index))) else v
            for a, v in zip(g.attempts, row, strict=True)
        ]
        for g, row in zip(groups, verdicts, strict=True)
    ]


def reference_scores(config: RunConfig, engine: Engine, recipe: Recipe, groups: Sequence[Group]) -> tuple[Rows, Rows | None]:
    """The base's statistics of each group's first attempts, for the meters; and those of the KL term's reference of every attempt,
    where the recipe has one."""

    def scored(weights: Weights, most: int | None) -> Rows:
        rows = [group.attempts[:most] for group in groups]
        flat = iter(engine.score([a for row in rows for a in row], weights=weights, temperature=recipe.temperature))
        return [[next(flat) for _ in row] for row in rows]

    if not recipe.kl:
        return scored("reference", meters.SCORED), None
    base = scored("reference", None)
    return base, base if config.reference == "base" else scored("average", None)


def own(groups: Sequence[Group], *beside: Sequence[Any]) -> tuple[list[Any], ...]:
    """The groups that are attempts at the round's own tasks, with what stands beside them (verdicts, scores): the meters leave out what
    else a recipe had written about these, such as revisions, or attempts at a prompt with a hint."""
    rows = zip(groups, *beside, strict=True)
    return tuple(map(list, zip(*(row for row in rows if not row[0].task.about), strict=True)))


def refuse_without_signal(
    recipe: Recipe, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], lessons: Sequence[Lesson]
) -> None:
    """Before an hour is wasted: a first round without lessons, or in which no group has two different scores, cannot teach."""
    taught = not all(meters.unanimous(row) for row in verdicts) if recipe.contrast else lessons
    if taught or recipe.control != "none" or recipe.inference or recipe.patient:
        return
    silent, total = sum(a.answer is None for g in groups for a in g.attempts), sum(len(g.attempts) for g in groups)
    unsure = sum(all(v.score is None for v in row) for row in verdicts)
    why = "no prompt has attempts with different scores" if recipe.contrast else "no attempt is worth learning from"
    raise UserError(
        f"nothing to learn from: in the first round {why} ({len(groups) - unsure} prompts are "
        f"unanimous, {unsure} got no verdict: {verdicts[0][0].why}; {silent} of {total} attempts have no answer; the first reads "
        f"{groups[0].attempts[0].text[:60]!r}); check prompt format and max_tokens, or raise samples or lower agreement"
    )
