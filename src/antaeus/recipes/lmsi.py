"""LMSI: paths that reach the majority's answer are imitated, in several forms of the prompt (rung 1).

Paper: Large Language Models Can Self-Improve, Huang et al. 2022, arXiv 2210.11610. For each question, 32 paths at temperature
0.7; the most frequent answer is taken for right; all paths that reach it become demonstrations, mixed of four forms, so that the
model does not grow attached to one: with worked examples or without, with the reasoning or the bare answer.

What differs, and why:
* Every round asks the policy as it then is and takes `updates` steps; the paper asks the base once and fine-tunes 10k steps on
  what it said. `labels=fixed start=base` is nearer to it. No questions of the model's own making.
* The worked examples are those of the task set; where it has none, those two forms are the same and stand once. The bare answer
  is asked for in words (the paper changes its examples), only where the paths say more than that, once a prompt with their
  weight.
* `agreement` leaves out prompts with a small majority, as in ttrl; 0 is the paper, where small majorities are
  right less often.
* A path that the token limit cut is not imitated.

Command: `antaeus run lmsi --model lab lr=1e-4 prompts=32`.
Expect: 50.5 -> 76.0 % of 200 unseen sums on the laboratory model (seed 0), where ttrl reaches 70 to 79; 68.5 % with the defaults.
On word problems (grade school, SmolLM2-135M-Instruct, max_tokens=96, one round of 4 x 4 paths) four fifths of the paths are cut
and few are left to learn from; base and version answer 0 of 16: the gate stays undecided. No word problem has been learned here.
On SmolLM2 (`rounds=10`, seed 0): 28.5 -> 57.5 % of sums; but on the laboratory model a coin for the votes gains nearly as much
(docs/league.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from antaeus.learn.demonstrations import imitate, kept, show
from antaeus.recipes.base import Reference, knob
from antaeus.recipes.imitation import Imitation
from antaeus.recipes.round import Round
from antaeus.solve.rollout import ask, preceded
from antaeus.types import Attempt, Group, Lesson, Source, Task, Verdict
from antaeus.verify.vote import majority

BARE = "Give the final answer alone."


@dataclass(frozen=True)
class LMSI(Imitation):
    """Language Model Self-Improvement (Huang et al. 2022, arXiv 2210.11610)."""

    name: ClassVar[str] = "lmsi"
    title: ClassVar[str] = "paths to the majority's answer are imitated, in mixed forms (arXiv 2210.11610)"
    rung: ClassVar[int] = 1
    source: ClassVar[Source] = Source.SELF

    samples: int = knob(32, "paths sampled for each prompt", low=2)
    agreement: float = knob(0.0, "learn only from prompts whose majority has at least this share of the paths", low=0.0, high=1.0)
    forms: str = knob(
        "mixed", "how paths are shown: as sampled, or also without worked examples and as the bare answer", choices=("mixed", "sampled")
    )  # fmt: skip

    def verify(self, round: Round, groups: Sequence[Group]) -> list[list[Verdict]]:
        return [majority(group, self.agreement) for group in groups]

    def learn(
        self, round: Round, groups: Sequence[Group], verdicts: Sequence[Sequence[Verdict]], reference: Reference = None
    ) -> list[Lesson]:
        pairs = [(g.task, kept(g, row, self.most)) for g, row in zip(groups, verdicts, strict=True)]
        return [lesson for task, paths in pairs if paths for lesson in self._shown(round, task, paths)]

    def _shown(self, round: Round, task: Task, paths: Sequence[Attempt]) -> Iterator[Lesson]:
        yield from imitate(task, paths)
        if self.forms == "sampled":
            return
        engine, bare = round.engine, replace(task, shots="")
        if task.shots:
            yield from imitate(task, paths, engine.encode(ask(bare, engine.chat), "")[0])
        if (answer := paths[0].answer) is None or all(path.text.strip() == answer for path in paths):
            return
        text = _lead(paths[0].text) + answer + "".join(round.tasks.stop[:1])
        for form in dict.fromkeys((task, bare)):
            asked = replace(form, prompt=preceded(form.prompt, BARE))
            yield show(engine, task, ask(asked, engine.chat), text, float(len(paths)))


def _lead(text: str) -> str:
    """The white space that a text begins with."""
    return text[: len(text) - len(text.lstrip())]
