"""The guard as a callback of `transformers.Trainer`, and so of every trainer of TRL (GRPO, SFT, DPO ...).

    guard = GuardCallback("add2", every=20)
    trainer = GRPOTrainer(..., callbacks=[guard])
    trainer.train()
    guard.decision.action  # "promote", or else the model in the trainer is the one it started from

Limits. One process, without DeepSpeed and FSDP. Checkpoints the trainer wrote on its way are not touched; what `trainer.save_model`
writes after `train` is the guard's choice. The optimiser's state stays that of the last step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from antaeus.adopt import alarms
from antaeus.adopt.engine import TrainersModel
from antaeus.adopt.leaks import refuse_leaks
from antaeus.adopt.reading import take
from antaeus.errors import UserError
from antaeus.guard import gate
from antaeus.guard.fingerprint import BASE
from antaeus.propose.sets import load
from antaeus.types import Decision, TaskSet, Verdict, to_json


@dataclass(frozen=True)
class Look:
    """What one look at the anchors saw."""

    version: str
    verdicts: list[Verdict]
    meters: Mapping[str, float]

    @property
    def correct(self) -> int:
        return sum(v.score == 1.0 for v in self.verdicts)


class GuardCallback(TrainerCallback):
    """Measures the model on anchors, stops training that harms it, and hands back the best version or, without proof, the base.

    `tasks`: a `TaskSet`, or what `antaeus run --tasks` takes ("add2", "FILE.jsonl", "gym:...", "hub:..."). Every `every` optimiser
    steps the anchors are answered greedily by the trainer's own model. Training is stopped by an alarm (`adopt.alarms`) or a
    significant fall. At the end the best version by anchors and the base take the exam, and only a significant gain (`guard.gate`)
    is kept. `alpha` bounds each of the two errors: a false promotion, a false stop by the fall.

    `folder` (default: `guard` in the trainer's output directory) gets events.jsonl, decisions.jsonl and the weights of base and
    best as safetensors. Results also stand in `state.log_history` as `guard/...`; set `guard.trainer` to have them sent to what else
    the trainer reports to. `train` raises `UserError`, before the first step, if the training set holds an anchor or exam task or a
    near-duplicate (`adopt.leaks`). Resuming from a checkpoint keeps the first base, and forgets which version was best so far.
    """

    trainer: Trainer | None = None
    decision: Decision | None = None

    def __init__(
        self, tasks: TaskSet | str | Path, *, every: int = 50, alpha: float = 0.05, folder: str | Path | None = None
    ) -> None:
        if every < 1 or not 0 < alpha < 1:
            raise UserError(f"every={every}, alpha={alpha}: give a number of steps from 1 and an error between 0 and 1")
        self.tasks = tasks if isinstance(tasks, TaskSet) else load(str(tasks), seed=0)
        self.every, self.alpha, self._folder = every, alpha, folder

    # --- the trainer's events -------------------------------------------------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        _refuse(args, known)
        tokenizer = getattr(known["processing_class"], "tokenizer", known["processing_class"])
        refuse_leaks(known["train_dataloader"].dataset, tokenizer, self.tasks)
        self.folder = Path(self._folder or Path(args.output_dir) / "guard")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model, self.jumps, self.decision, self.looks = TrainersModel(known["model"], tokenizer), alarms.Jumps(), None, 0
        self.base = self.best = self.last = self._look_at_base(state)
        if state.global_step:  # resumed: the base is not what the trainer holds
            self._look(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        if state.global_step % self.every == 0:
            self._look(state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **known: Any) -> None:
        if not any(name.startswith("guard/") for name in logs):
            self._ring(self.jumps.see(logs), state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        if self.last.version != _name(state) or args.load_best_model_at_end:
            self._look(state, control)
        self.decision = self._decide()
        self._write("decisions.jsonl", self.decision)
        exam = self.decision.evidence
        self._log(state, {f"exam_{k}": exam[k] for k in ("before", "after", "p_value")} if exam else {}, self.decision.why)

    # --- what they do ---------------------------------------------------------------------------------------------------

    def _look_at_base(self, state: Any) -> Look:
        """Keep the base and measure it; of a resumed run, the base that was kept when it began."""
        kept, now = self.folder / "base.safetensors", self.folder / "now.safetensors"
        if not state.global_step:
            self.model.store(kept)
            return self._measure(BASE, state)
        if not kept.exists():
            raise UserError(
                f"{kept} is missing: a run can be resumed under the guard only if it was begun under it; start a new one"
            )
        self.model.store(now)
        self.model.restore(kept)
        look = self._measure(BASE, state)
        self.model.restore(now)
        now.unlink()
        return look

    def _look(self, state: Any, control: Any) -> None:
        """Measure the policy; what neither rings nor fell, and was never beaten, is the best version."""
        self.looks += 1
        self.last = look = self._measure(_name(state), state)
        fall = alarms.fallen(self.best.verdicts, look.verdicts, self.looks, self.alpha)
        ringing = alarms.new_alarms(look.meters, self.base.meters, self.tasks) + self.jumps.see(look.meters)
        self._ring([*ringing, *([fall] if fall else [])], state, control)
        if not ringing and look.correct >= self.best.correct:
            self.best = look
            self.model.store(self.folder / "best.safetensors")

    def _measure(self, version: str, state: Any) -> Look:
        with self.model.visit():
            groups, verdicts = take(self.model, self.tasks.anchor, self.tasks.anchor_vault, self.tasks)
        look = Look(version, verdicts, alarms.anchor_meters(groups, verdicts))
        seen = gate.tally(verdicts)
        finite = {name: value if math.isfinite(value) else None for name, value in look.meters.items()}
        self._write("events.jsonl", {"step": state.global_step, "version": version, "anchor": seen, "meters": finite})
        low, high = seen["ci"]
        self._log(state, {"anchor": seen["accuracy"], "anchor_low": low, "anchor_high": high, **finite})
        return look

    def _ring(self, ringing: list[str], state: Any, control: Any) -> None:
        if ringing:
            control.should_training_stop = True
            self._write("events.jsonl", {"step": state.global_step, "alarms": ringing})
            self._log(state, {}, "; ".join(ringing))

    def _decide(self) -> Decision:
        """Open the exam, if any version got so far; the model is left with the weights of the decision."""
        evidence: dict[str, Any] = {}
        if self.best is not self.base:
            best, base = self._exam("best.safetensors"), self._exam("base.safetensors")
            evidence = gate.compare(base, best)
        decision = _decided(evidence, self.best.version, self.alpha)
        self.model.restore(self.folder / ("best.safetensors" if decision.action == "promote" else "base.safetensors"))
        return decision

    def _exam(self, weights: str) -> list[Verdict]:
        self.model.restore(self.folder / weights)
        with self.model.visit():
            return take(self.model, self.tasks.exam, self.tasks.exam_vault, self.tasks)[1]

    # --- records --------------------------------------------------------------------------------------------------------

    def _write(self, file: str, record: Any) -> None:
        with open(self.folder / file, "a", encoding="utf-8") as out:
            out.write(to_json(record) + "\n")

    def _log(self, state: Any, values: Mapping[str, float | None], said: str = "") -> None:
        logs: dict[str, Any] = {f"guard/{name}": value for name, value in values.items()} | ({"guard/said": said} if said else {})
        if self.trainer is None:
            state.log_history.append({**logs, "step": state.global_step})
        else:
            Trainer.log(self.trainer, logs)  # not its own: GRPO's would empty the averages of its next line


def _name(state: Any) -> str:
    return f"step{state.global_step}"


def _decided(evidence: dict[str, Any], version: str, alpha: float) -> Decision:
    if not evidence:
        return Decision("undecided", BASE, "no version was as good as the base on the anchors: the exam stayed closed", {})
    return gate.decide(evidence, version, BASE, alpha)


def _refuse(args: Any, known: Mapping[str, Any]) -> None:
    if args.world_size > 1 or args.deepspeed or args.fsdp:
        raise UserError(
            "the guard works in one process, without DeepSpeed or FSDP: train on one device, or guard the saved model"
        )
    if known.get("processing_class") is None:
        raise UserError("the guard needs the tokenizer: give the trainer processing_class=tokenizer")
