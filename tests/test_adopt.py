"""The guard inside the real TRL, transformers, GEPA and verl, on models and tasks that cost seconds.

verl's own source is run, from its wheel installed without dependencies (`make setup`): ray, tensordict and the others are 290 MB, and
verl asks for an older transformers than ours. What stands in for them here does nothing, but for `DataProto`, which holds one sample.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import gepa
import pytest
import torch
from datasets import Dataset
from gepa.core.state import GEPAState
from helpers import lines, verdicts
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging

from antaeus.adopt import alarms
from antaeus.adopt.engine import TrainersModel
from antaeus.adopt.gepa import SignificantGain
from antaeus.adopt.leaks import refuse_leaks
from antaeus.adopt.transformers import GuardCallback
from antaeus.adopt.trl import majority_reward, reward, rows
from antaeus.errors import UserError
from antaeus.propose.sets import load
from antaeus.types import Anchor, Exam, Practice, Source, TaskSet, Vault, Verdict

logging.set_verbosity_error()
logging.disable_progress_bar()

# --- a task that a tiny model learns in a second: every question's answer is 7


def sevens(n_anchor=16, n_exam=24) -> TaskSet:
    def part(kind, start, n):
        made = tuple(kind(f"{kind.__name__}{i}", f"Q{i}:", completion=True) for i in range(start, start + n))
        return made, Vault(kind, {task.id: "7" for task in made})

    practice, sealed_practice = part(Practice, 0, 32)
    anchor, sealed_anchor = part(Anchor, 100, n_anchor)
    exam, sealed_exam = part(Exam, 200, n_exam)
    return TaskSet("sevens", practice, anchor, exam, sealed_practice, sealed_anchor, sealed_exam, 4, ("\n",), "number")


class Sevens:
    """The tiny model, base and trained, its tokenizer, and trainers that train it to say one digit."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tokenizer = folder, AutoTokenizer.from_pretrained(folder)
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token

    def dataset(self, digit: str, start: int = 0) -> Dataset:
        ids = [self.tokenizer.encode(f"Q{i}:{digit}\n") for i in range(start, start + 10)]  # of one length
        return Dataset.from_list([{"input_ids": row, "labels": row} for row in ids])

    def trainer(self, out, model=None, *, digit="7", lr, steps, callbacks=(), start=10, **more) -> Trainer:
        model = model or AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        args = TrainingArguments(
            str(out), max_steps=steps, learning_rate=lr, per_device_train_batch_size=10, lr_scheduler_type="constant", report_to="none",
            logging_steps=1, disable_tqdm=True, use_cpu=True, **{"save_strategy": "no", **more},
        )  # fmt: skip
        return Trainer(
            model, args, train_dataset=self.dataset(digit, start), processing_class=self.tokenizer, callbacks=[*callbacks]
        )


def weights(model) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


@pytest.fixture(scope="module")
def small(tiny_folder) -> Sevens:
    return Sevens(tiny_folder)


@pytest.fixture(scope="module")
def skilled(small, tmp_path_factory) -> Path:
    """The tiny model once it says 7, as a folder; trained under the guard, which promotes it."""
    out = tmp_path_factory.mktemp("skilled")
    guard = GuardCallback(sevens(), every=20)
    trainer = small.trainer(out, lr=2e-3, steps=60, callbacks=[guard])
    before = weights(trainer.model)
    trainer.train()
    assert guard.decision.action == "promote" and guard.decision.evidence["after"] == 1.0, guard.decision
    assert not same(weights(trainer.model), before)
    trainer.save_model(str(out / "model"))
    return out


def test_a_better_model_is_promoted_and_the_evidence_written(skilled):
    events = lines(skilled / "guard" / "events.jsonl")
    assert [e["version"] for e in events] == ["base", "step20", "step40", "step60"]
    assert events[0]["anchor"]["accuracy"] < events[-1]["anchor"]["accuracy"] == 1.0
    assert events[-1]["meters"].keys() == {"no_answer", "same_answer", "truncated", "length", "token_entropy"}
    [decision] = lines(skilled / "guard" / "decisions.jsonl")
    assert decision["action"] == "promote" and decision["evidence"]["n"] == 24


def test_training_that_harms_is_stopped_and_the_base_comes_back(small, skilled, tmp_path):
    def harmed(out, *callbacks):
        model = AutoModelForCausalLM.from_pretrained(skilled / "model", dtype=torch.float32)
        trainer = small.trainer(out, model, lr=1.0, steps=12, callbacks=callbacks)
        before = weights(model)
        trainer.train()
        return trainer, before

    guard = GuardCallback(sevens(), every=2)
    trainer, before = harmed(tmp_path / "guarded", guard)
    assert trainer.state.global_step == 2 and guard.decision.action != "promote"
    assert same(weights(trainer.model), before)
    rung = [e["alarms"] for e in lines(tmp_path / "guarded" / "guard" / "events.jsonl") if "alarms" in e]
    assert any("the anchors fell: 16 lost and 0 won" in alarm for alarm in rung[0])
    trainer, before = harmed(tmp_path / "alone")
    assert trainer.state.global_step == 12 and not same(weights(trainer.model), before)


def test_an_adapter_is_guarded_as_an_adapter(small, skilled, tmp_path):
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file

    base = AutoModelForCausalLM.from_pretrained(skilled / "model", dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.5))
    before, guard = weights(model), GuardCallback(sevens(), every=3, folder=tmp_path / "guard")
    trainer = small.trainer(tmp_path, model, digit="3", lr=0.3, steps=12, callbacks=[guard])
    trainer.train()
    assert trainer.state.global_step < 12 and guard.decision.action != "promote" and same(weights(model), before)
    assert guard.last.correct < guard.base.correct == 16  # it did learn to say 3
    assert all("lora" in name for name in load_file(tmp_path / "guard" / "base.safetensors"))


def test_a_resumed_run_keeps_its_first_base(small, tmp_path):
    def run(resume=None):
        guard = GuardCallback(sevens(), every=20)
        trainer = small.trainer(tmp_path, lr=2e-3, steps=24, callbacks=[guard], save_strategy="steps", save_steps=20)
        trainer.train(resume_from_checkpoint=resume)
        return guard

    guard, checkpoint, log = run(), str(tmp_path / "checkpoint-20"), tmp_path / "guard" / "events.jsonl"
    seen = lines(log)
    assert [e["version"] for e in seen] == ["base", "step20", "step24"] and guard.base.correct == 0
    again = run(checkpoint)
    resumed = lines(log)[3:]
    assert [e["anchor"] for e in resumed] == [e["anchor"] for e in seen] and seen[1]["anchor"]["accuracy"] > 0.5
    assert again.base.correct == 0 and again.decision.evidence == guard.decision.evidence
    (tmp_path / "guard" / "base.safetensors").unlink()
    with pytest.raises(UserError, match="begun under it"):
        run(checkpoint)


def test_a_version_without_proof_is_not_kept(small, tmp_path):
    guard = GuardCallback(sevens(), every=2)
    trainer = small.trainer(tmp_path, lr=1e-4, steps=4, callbacks=[guard])
    before = weights(trainer.model)
    trainer.train()
    assert guard.best.version == "step4" and guard.decision.evidence["n"] == 24  # as good as the base, so it took the exam
    assert guard.decision.action != "promote" and same(weights(trainer.model), before)


class Pairs:
    """Sevens for SFT and DPO, whose rows are texts that the trainers tokenise and then drop."""

    def __init__(self, name: str) -> None:
        self.name, self.answers = name, {"sft": {"completion": "7\n"}, "dpo": {"chosen": "7\n", "rejected": "3\n"}}[name]

    def trainer(self, small, out, numbers, guard):
        import trl

        config, kind = {"sft": (trl.SFTConfig, trl.SFTTrainer), "dpo": (trl.DPOConfig, trl.DPOTrainer)}[self.name]
        args = config(
            str(out), max_steps=2, learning_rate=1e-5, use_cpu=True, bf16=False, report_to="none", save_strategy="no",
            disable_tqdm=True, per_device_train_batch_size=4,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_pretrained(small.folder, dtype=torch.float32)
        data = Dataset.from_list([{"prompt": f"Q{i}:", **self.answers} for i in numbers])
        return kind(model, args=args, train_dataset=data, processing_class=small.tokenizer, callbacks=[guard])


@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_trl_on_texts(small, tmp_path, name):
    guard = GuardCallback(sevens(), every=1)
    trainer = Pairs(name).trainer(small, tmp_path, range(8), guard)
    before = weights(trainer.model)
    trainer.train()
    assert guard.looks == 2 and guard.decision.action != "promote" and same(weights(trainer.model), before)
    with pytest.raises(UserError, match="row 3 of the training set is the held-out task 'Anchor102'"):
        Pairs(name).trainer(small, tmp_path, [0, 1, 2, 102], GuardCallback(sevens())).train()


def test_a_visit_leaves_the_model_as_it_was(small):
    model = AutoModelForCausalLM.from_pretrained(small.folder, dtype=torch.float32).train()
    model.lm_head.eval()

    def modes():
        return [m.training for m in model.modules()], model.config._attn_implementation

    before, state = modes(), torch.random.get_rng_state()
    visited = TrainersModel(model, small.tokenizer)
    assert modes() == before
    with pytest.raises(KeyError), visited.visit():
        assert not model.training and model.config._attn_implementation.startswith("antaeus")
        torch.rand(3)
        raise KeyError
    assert modes() == before and torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("start", [98, 195])  # the last rows are anchors, or exam tasks
def test_a_training_set_with_held_out_tasks_is_refused(small, tmp_path, start):
    trainer = small.trainer(tmp_path, lr=1e-3, steps=1, callbacks=[GuardCallback(sevens())], start=start)
    with pytest.raises(UserError, match="row [25] of the training set is the held-out task '(Anchor100|Exam200)'"):
        trainer.train()
    assert trainer.state.global_step == 0


# --- TRL


@pytest.fixture(scope="module")
def sums() -> TaskSet:
    return load("add2", seed=0, n_practice=16, n_anchor=8, n_exam=8)


def grpo(folder, out, sums, reward_funcs, callbacks=(), data=None):
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(
        str(out), max_steps=3, per_device_train_batch_size=8, num_generations=4, max_completion_length=8, beta=0.04, learning_rate=1e-3,
        use_cpu=True, bf16=False, gradient_checkpointing=True, report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
        seed=5, model_init_kwargs={"dtype": "float32"},
    )  # fmt: skip
    data = data or Dataset.from_list(rows(sums))
    return GRPOTrainer(str(folder), reward_funcs, config, data, callbacks=[*callbacks])


def test_grpo_under_the_guard(tiny_folder, sums, tmp_path):
    """Our rewards reach TRL's log by name, anchors stand beside them, and looking on changes nothing: same losses to the bit."""
    rewards, logs = [reward(sums), majority_reward(4, read="number")], []
    guard = GuardCallback(sums, every=1)
    for out, callbacks in (("guarded", [guard]), ("alone", [])):
        trainer = grpo(tiny_folder, tmp_path / out, sums, rewards, callbacks)
        before = weights(trainer.model)
        trainer.train()
        logs.append(trainer.state.log_history)
        assert trainer.model.config._attn_implementation == "sdpa"
        assert same(weights(trainer.model), before) == bool(callbacks)
    assert guard.decision.action != "promote"
    steps = [[{k: e[k] for k in ("loss", "reward", "kl", "entropy")} for e in log if "loss" in e] for log in logs]
    assert len(steps[0]) == 3 and steps[0] == steps[1]
    named = {k for e in logs[0] for k in e}
    assert {"rewards/ground_add2/mean", "rewards/majority/mean", "guard/anchor", "guard/anchor_low", "guard/length"} <= named
    assert not any(k.startswith("guard/") for e in logs[1] for k in e)


def test_grpo_on_an_anchor_is_refused(tiny_folder, sums, tmp_path):
    stolen = sums.anchor[0]
    data = Dataset.from_list([*rows(sums), {"task_id": "mine", "prompt": stolen.shots + stolen.prompt}])
    with pytest.raises(UserError, match=re.escape(f"row 16 of the training set is the held-out task '{stolen.id}'")):
        grpo(tiny_folder, tmp_path, sums, reward(sums), [GuardCallback(sums)], data).train()


def test_a_failed_grading_teaches_grpo_nothing(tiny_folder, sums, tmp_path, monkeypatch):
    """None is no advantage in TRL, and no part of the mean of rewards."""
    graded = iter([1.0, 0.0, None, 0.0] * 6)
    monkeypatch.setattr("antaeus.adopt.trl.grade", lambda *_, **__: Verdict(next(graded), Source.GROUND))
    trainer, seen = grpo(tiny_folder, tmp_path, sums, reward(sums)), []
    whole = trainer._generate_and_score_completions
    monkeypatch.setattr(trainer, "_generate_and_score_completions", lambda inputs: seen.append(whole(inputs)) or seen[-1])
    trainer.train()
    assert all(out["advantages"].view(-1, 4)[:, 2].eq(0).all() and out["advantages"].ne(0).any() for out in seen)
    assert trainer.state.log_history[0]["rewards/ground_add2/mean"] == pytest.approx(1 / 3)


def test_rewards_by_column():
    score = reward(read="auto", column="gold")
    said = ["so it is 72", "73", [{"role": "assistant", "content": "\\boxed{72}"}], "72", "72", ""]
    gold = ["Natalia sold 48/2 = 24.\n#### 72", 72, "72.0", None, " ", "72"]
    assert score(prompts=["p"] * 6, completions=said, gold=gold) == [1.0, 0.0, 1.0, None, None, 0.0]
    assert score.__name__ == "ground_math"
    assert reward(check="exact", read="line")(completions=["#### 7", "7"], answer=["#### 7"] * 2) == [1.0, 0.0]
    with pytest.raises(UserError, match="no column 'gold'"):
        score(completions=["1"], answer=["1"])


def test_a_grader_that_fails_is_none_for_trl_and_infra_for_verl(monkeypatch):
    from antaeus.adopt.verl import compute_score

    monkeypatch.setattr("antaeus.verify.ground.judge", lambda **_: None)
    assert reward()(completions=["7"], answer=["7"]) == [None]
    assert compute_score("x", "7", "7") == {"score": 0.0, "acc": 0.0, "no_answer": 0.0, "infra": 1.0}


def test_rewards_by_task_stop_where_the_tasks_stop(sums):
    [row] = [r for r in rows(sums) if r["task_id"] == sums.practice[0].id]
    right = sums.practice_vault.open(sums.practice[0])
    said = [f" {right}\n5 + 5 = 10", f" 1\n5 + 5 = {right}"]
    assert reward(sums)(prompts=[row["prompt"]] * 2, completions=said, task_id=[row["task_id"]] * 2) == [1.0, 0.0]
    assert row["prompt"].endswith(sums.practice[0].prompt) and "\n" in row["prompt"] and "answer" not in row
    with pytest.raises(UserError, match="build it with rows"):
        reward(sums)(completions=["1"], task_id=[sums.anchor[0].id])
    assert rows(sums, chat=True)[0]["prompt"] == rows(sums)[0]["prompt"]  # completions stay text
    assert rows(sevens_chat(), chat=True)[0]["prompt"] == [{"role": "user", "content": "Q0:"}]


def sevens_chat() -> TaskSet:
    return replace(sevens(), practice=(Practice("Practice0", "Q0:"),))


def test_majority_rewards_each_prompt_by_its_own_votes():
    vote = majority_reward(3)
    said = ["1", "1.0", "2", "5", "no", "5"]
    assert vote(prompts=["a"] * 3 + ["b"] * 3, completions=said) == [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    chat = [[{"role": "assistant", "content": text}] for text in said]
    turns = [[{"role": "user", "content": p}] for p in "aaabbb"]
    assert vote(prompts=turns, completions=chat) == vote(prompts=list("aaabbb"), completions=said)
    assert majority_reward(3, agreement=0.7)(prompts=["a"] * 3, completions=["1", "1", "2"]) == [None] * 3
    for prompts in (["a"] * 2, ["a", "a", "b"]):
        with pytest.raises(UserError, match="not 3 in a row"):
            vote(prompts=prompts, completions=["1"] * len(prompts))


# --- alarms and leaks


def test_reward_and_kl_must_jump_together():
    steady = [{"reward": 0.1 + 0.01 * (i % 3), "objective/kl": 0.002 * i, "loss": 1.0} for i in range(12)]
    for last, rings in (
        ({"reward": 0.9, "kl": 0.5}, True),
        ({"reward": 0.9, "kl": 0.024}, False),
        ({"reward": 0.12, "kl": 0.5}, False),
        ({"reward": None, "kl": 0.5}, False),
    ):
        jumps = alarms.Jumps()
        assert [jumps.see(entry) for entry in steady] == [[]] * 12
        assert bool(jumps.see(last)) == rings


def test_a_jump_of_reward_and_kl_in_the_log_stops_the_trainer(small, tmp_path):
    class Gamed(TrainerCallback):
        """Puts a reward and a KL into the log before the guard reads it, as GRPO does."""

        heard = 0

        def on_log(self, args, state, control, logs, **_):
            self.heard += "guard/anchor" in logs
            if "loss" in logs:
                logs |= {
                    "reward": 0.1 + (state.global_step == 12),
                    "kl": 0.01 * state.global_step * (1 + 9 * (state.global_step == 12)),
                }

    guard, gamed = GuardCallback(sevens(), every=100), Gamed()
    trainer = guard.trainer = small.trainer(tmp_path, lr=1e-6, steps=20, callbacks=[gamed, guard])
    trainer.train()
    assert trainer.state.global_step == 12
    assert gamed.heard == 2  # base and last: with `guard.trainer`, other callbacks are told
    assert "reward and KL" in lines(tmp_path / "guard" / "events.jsonl")[1]["alarms"][0]


def test_alarms_ring_against_base_and_truth(sums):
    base = dict.fromkeys(alarms.ANCHOR_METERS, 0.0)
    assert alarms.new_alarms(base | {"same_answer": 0.9}, base, sums)
    assert not alarms.new_alarms(base | {"same_answer": 0.9}, base, sevens())  # all right answers are alike
    assert not alarms.new_alarms(base | {"no_answer": 0.9}, base | {"no_answer": 0.7}, sums)  # much as before training
    assert not alarms.new_alarms(base, base, sums)


def test_a_broken_model_is_stopped_and_mended(small, tmp_path):
    class Breaks(TrainerCallback):
        def on_step_end(self, args, state, control, model, **_):
            model.model.norm.weight.data.fill_(float("nan"))

    guard = GuardCallback(sevens(), every=1)
    trainer = small.trainer(tmp_path, lr=1e-4, steps=4, callbacks=[Breaks(), guard])
    before = weights(trainer.model)
    trainer.train()
    assert trainer.state.global_step == 1 and same(weights(trainer.model), before)
    assert "no finite numbers" in lines(tmp_path / "guard" / "events.jsonl")[2]["alarms"][0]


def test_a_fall_has_its_share_of_alpha_at_each_look():
    was, now = verdicts(*[1.0] * 8), verdicts(*[0.0] * 8)  # p = 2 / 2**8 = 0.0078
    assert "8 lost and 0 won" in alarms.fallen(was, now, 2, 0.05)
    assert alarms.fallen(was, now, 3, 0.05) is None  # 0.05 / 12
    assert alarms.fallen(now, was, 1, 0.05) is None


@pytest.mark.parametrize(
    "row",
    [
        {"text": "34 + 57 = 91"},
        {"prompt": "34 + 57 ="},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is 34+57= ?"}]}]},
        {"prompt_ids": [3, 4]},
        {"text": "A farmer has 34 cows and buys 57 more at the market in the town; how many cows has the good farmer now?"},
    ],
)
def test_leaks_are_seen_in_every_kind_of_row(row):
    tokenizer = SimpleNamespace(decode=lambda ids, **_: "34 + 57 =")
    farm = "A farmer has 34 cows and buys 57 more at the market in the town; how many cows has the farmer now?"
    tasks = replace(sevens(), exam=(Exam("e", "34 + 57 ="), Exam("farm", farm)))
    clean = [{"text": "34 + 58 = 92"}, {"prompt": "134 + 57 ="}, {"labels": [34, 57]}, {"text": "34"}]
    refuse_leaks(clean, tokenizer, tasks)
    with pytest.raises(UserError, match="row 4 of the training set"):
        refuse_leaks([*clean, row], tokenizer, tasks)


def test_a_stream_or_foreign_rows_are_refused_before_training():
    for data, what in ((iter([]), "is a stream"), ([("a", 1)], "not a mapping")):
        with pytest.raises(UserError, match=what):
            refuse_leaks(data, None, sevens())


@pytest.mark.parametrize("args", [{"world_size": 2}, {"deepspeed": "x.json"}, {"fsdp": True}])
def test_several_processes_are_refused(args):
    args = SimpleNamespace(**{"world_size": 1, "deepspeed": None, "fsdp": None, **args})
    with pytest.raises(UserError, match="one process"):
        GuardCallback(sevens()).on_train_begin(args, None, None, processing_class=1)
    with pytest.raises(UserError, match="every=0"):
        GuardCallback("add2", every=0)


# --- GEPA


class Prompts:
    """A GEPA adapter without a model: how good a candidate is stands in its text, and luck decides each instance."""

    propose_new_texts = None

    def __init__(self, better_at: int) -> None:
        self.better_at, self.proposed = better_at, 0

    def evaluate(self, batch, candidate, capture_traces=False):
        share = 0.95 if "better" in candidate["p"] else 0.5
        scores = [float(Random(f"{candidate['p']} {x}").random() < share) for x in batch]
        return gepa.EvaluationBatch(outputs=scores, scores=scores, trajectories=scores)

    def make_reflective_dataset(self, candidate, eval_batch, components_to_update):
        return {name: [] for name in components_to_update}

    def propose(self, candidate, reflective_dataset, components_to_update):
        self.proposed += 1
        return {"p": ("better " if self.proposed == self.better_at else "other ") + str(self.proposed)}


def evolve(criterion, better_at, tmp_path=None):
    adapter = Prompts(better_at)
    accept = criterion if isinstance(criterion, str) else criterion(adapter)
    result = gepa.optimize(
        {"p": "seed"}, [f"train {i}" for i in range(40)], [f"val {i}" for i in range(20)], adapter=adapter,
        custom_candidate_proposer=adapter.propose, reflection_minibatch_size=10, skip_perfect_score=False,
        stop_callbacks=lambda state: adapter.proposed >= 60, acceptance_criterion=accept, logger=Silent(),
        run_dir=tmp_path and str(tmp_path),
    )  # fmt: skip
    return [c["p"] for c in result.candidates], result


class Silent:
    def log(self, message):
        pass


def gate(adapter, **how):
    return SignificantGain(adapter, [f"held {i}" for i in range(60)], trainset=[f"train {i}" for i in range(40)], **how)


def test_gepa_takes_luck_for_gain_and_the_gate_does_not(tmp_path):
    lucky, _ = evolve("strict_improvement", better_at=0)
    assert len(lucky) > 10  # GEPA's own rule: candidates that are no better, one upon the other
    kept, _ = evolve(gate, better_at=0)
    assert kept == ["seed"]
    kept, result = evolve(gate, better_at=25, tmp_path=tmp_path)
    assert kept == ["seed", "better 25"] and result.best_candidate == {"p": "better 25"}
    # the budget is counted in GEPA's saved state: a resumed run goes on where it stood
    state = GEPAState.load(str(tmp_path))
    tests = [t for entry in state.full_program_trace for t in entry.get("guard", ())]
    assert [t["test"] for t in tests] == list(range(1, len(tests) + 1)) and sum(t["accepted"] for t in tests) == 1
    assert all(t["needed"] == pytest.approx(t["test"] * (t["test"] + 1) / 0.05) for t in tests)
    assert state.total_num_evals >= 2 * sum(t["pairs"] for t in tests)


def test_too_few_or_shared_or_failed_instances():
    with pytest.raises(UserError, match="too few"):
        SignificantGain(None, ["a"] * 5)
    with pytest.raises(UserError, match="are in the trainset"):
        SignificantGain(None, [f"q {i}" for i in range(30)], trainset=["q 7"])
    proposal = SimpleNamespace(
        subsample_scores_before=[0.0], subsample_scores_after=[1.0], parent_program_ids=[0], candidate={"p": "new"}
    )

    def accepts(scores):
        adapter = SimpleNamespace(evaluate=lambda part, c: SimpleNamespace(scores=scores(part, c["p"])))
        state = SimpleNamespace(full_program_trace=[{}], program_candidates=[{"p": "old"}], increment_evals=lambda n: None)
        accept = SignificantGain(adapter, list(range(40)))
        return accept.should_accept(proposal, state), accept.reject_reason(proposal, state)

    assert accepts(lambda part, p: [float(p == "new")] * len(part))[0]
    decided, why = accepts(lambda part, p: [None if i % 4 == 0 and p == "new" else float(p == "new") for i in part])
    assert not decided and "failed" in why  # evidence that lacks a quarter of its pairs is none
    with pytest.raises(UserError, match="from 0 to 1"):
        accepts(lambda part, p: [5.0] * len(part))


# --- verl


@pytest.fixture
def verl_source(monkeypatch):
    """verl's modules without the `__init__` of two packages, which start ray and servers, and with mocks for what is not installed."""
    before, root = set(sys.modules), importlib.util.find_spec("verl").submodule_search_locations[0]
    for name, folder in (("verl", root), ("verl.experimental.reward_loop", f"{root}/experimental/reward_loop")):
        package = ModuleType(name)
        package.__path__ = [folder]
        monkeypatch.setitem(sys.modules, name, package)
    sys.modules["verl"].DataProto = object
    for name in ("ray", "ray.exceptions", "omegaconf", "tensordict", "verl.protocol", "verl.utils.model"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    yield
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("verl", "ray", "omegaconf", "tensordict"):
            del sys.modules[name]


def test_verls_own_manager_calls_our_score_and_its_metrics_take_the_keys(verl_source, small):
    from verl.trainer.ppo.metric_utils import process_validation_metrics
    from verl.trainer.ppo.reward import load_reward_manager

    custom = {"path": "pkg://antaeus.adopt.verl", "name": "compute_score", "reward_kwargs": {"read": "number"}}
    manager = SimpleNamespace(source="register", name="naive")

    class Settings(dict):
        reward_manager = manager

    config = SimpleNamespace(reward=Settings(custom_reward_function=custom))

    async def run(text, gold):
        ids = small.tokenizer.encode(text)
        tensors = {"responses": torch.tensor(ids), "attention_mask": torch.ones(2 + len(ids), dtype=torch.long)}
        other = {"data_source": "mine", "reward_model": {"ground_truth": gold}, "extra_info": {}}
        naive = load_reward_manager(config, small.tokenizer)
        naive.loop = asyncio.get_running_loop()
        return await naive.run_single([SimpleNamespace(batch=tensors, non_tensor_batch=other)])

    said = [("it is 7", "7"), ("it is 8", "7"), ("no idea", "7")]
    results = [asyncio.run(run(*pair)) for pair in said]
    assert [r["reward_score"] for r in results] == [1.0, 0.0, 0.0]
    infos = [r["reward_extra_info"] for r in results]
    assert all(info.keys() == infos[0].keys() == {"score", "acc", "no_answer", "infra"} for info in infos)
    columns = {key: [info[key] for info in infos] for key in infos[0]}
    shown = process_validation_metrics(["mine"] * 3, ["a", "b", "c"], columns)["mine"]
    assert shown["acc"]["mean@1"] == pytest.approx(1 / 3) and shown["no_answer"]["mean@1"] == pytest.approx(1 / 3)
    assert shown["infra"]["mean@1"] == 0.0


# --- the docs


def examples() -> list[tuple[str, str]]:
    text = (Path(__file__).parent.parent / "docs" / "adopt.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("code", range(3))
def test_the_examples_of_the_docs_print_what_they_say(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANTAEUS_CACHE", str(tmp_path / "cache"))
    assert len(examples()) == 3
    source, expected = examples()[code]
    exec(compile(source, "docs/adopt.md", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.endswith(expected)
