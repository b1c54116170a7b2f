"""The error budget of a lineage: however many candidates are proposed, a false promotion happens with chance at most alpha.

*The rule.* An exam is opened with a share of alpha and a number of proposals that it is to serve. Each proposal is judged at the
level: what is left of alpha on this exam / proposals left. If it is not promoted, its level is spent. If it is, *its level is all
that is left on this exam*: from now on candidates may be what they are because of what this exam has shown. A new exam has its own
share.

*Why it holds.* Fix the proposer's chance moves. What it proposes next then depends on the exam only by which earlier proposals
were promoted, so all it can do is a binary tree: at each node a fixed candidate meets a fixed incumbent, and where the candidate is
no better (a null node) it is promoted with chance at most the level, p-values being valid. The first false promotion is at a null
node whose promoted ancestors are all true gains. The levels of all such nodes below a node sum to at most the budget B there, by
induction: a null node has its level, and B - level down the branch "not promoted"; another has B - level down that branch and its
level down the branch "promoted". At the root that is alpha: a union bound, valid whatever depends on whatever. (Alpha / N divided by
the number of transcripts with so many promotions, for each such number, is not valid: those levels sum to 3 alpha for N = 50.)
Exams are fresh tasks, so their shares add up; what an exam does not use is lost, for it was counted on paths not taken.

*Its limit.* The proposer may learn nothing else of the exam: not scores, not which tasks were lost, not whether it was rejected or
undecided. Each opening counts, also one that was killed before its verdict. Order is that of entries, never of clocks. Who deletes
the ledger, or restores an old copy of it, begins anew, and nothing here can see that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from antaeus.errors import UserError
from antaeus.guard import ledger
from antaeus.guard.ledger import Entry
from antaeus.types import Decision


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate and what it is to be judged against and by: fingerprints (hashes) of the weights and of the instruments."""

    candidate: str
    incumbent: str | None
    seals: Mapping[str, str]  # at least "exam"; also what else must not change under it: "anchor", "grader"


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left of one exam: a chance of false promotion, and proposals to spend it on."""

    alpha: float
    proposals: int

    @property
    def level(self) -> float:
        return self.alpha / self.proposals if self.proposals else 0.0

    def spent(self, promoted: bool) -> Budget:
        """What is left after a proposal (or an array of them) was judged."""
        left = promoted * self.level + (1 - promoted) * (self.alpha - self.level)
        return Budget(left, self.proposals - 1)


@dataclass(frozen=True, slots=True)
class State:
    """What the entries add up to."""

    incumbent: str | None = None
    exams: tuple[Mapping[str, str], ...] = ()  # the seals of each exam, in the order they were opened
    budget: Budget = Budget(0.0, 0)
    opened: tuple[Entry, ...] = ()
    judged: frozenset[int] = frozenset()  # numbers of the openings that got their verdict


class Lineage:
    """A lineage of promotions in `folder`, declared with alpha, how many proposals it may judge, and on how many exams: each exam
    serves proposals / exams of them. Raises `UserError` for an impossible declaration, or another one than the ledger's."""

    def __init__(self, folder: Path, alpha: float = 0.05, proposals: int = 50, exams: int = 1) -> None:
        self.path = Path(folder) / "ledger.jsonl"
        if not 0 < alpha < 1 or not 1 <= exams <= proposals:
            raise UserError(
                f"{folder}: a lineage needs 0 < alpha < 1 and 1 <= exams <= proposals, got {alpha}, {exams}, {proposals}"
            )
        self.declared = {"alpha": alpha, "proposals": proposals, "exams": exams}
        self._fresh = Budget(alpha / exams, proposals // exams)
        entries = ledger.read(self.path)
        if entries and (held := {k: entries[0].get(k) for k in self.declared}) != self.declared:
            raise UserError(
                f"{self.path}: declared with {held}, now asked for with {self.declared}; use the first, or a new folder"
            )

    @property
    def entries(self) -> list[Entry]:
        """All entries, as written. Raises `UserError` where the ledger is damaged."""
        return ledger.read(self.path)

    @property
    def incumbent(self) -> str | None:
        """Fingerprint of the version last promoted, or of the one the lineage began with; None before its first proposal."""
        return self._state().incumbent

    @property
    def allowance(self) -> float:
        """The level at which the next proposal would be judged; 0 where the budget is spent."""
        state = self._state()
        return (state.budget if state.exams else self._fresh).level

    def refusal(self, proposal: Proposal) -> str | None:
        """Why this proposal must not sit the exam; None where it may. Ask before the exam is opened; the safe answer to a refusal is
        to keep the incumbent."""
        try:
            return self._refusal(proposal, self._state())
        except UserError as damage:
            return str(damage)

    def open(self, proposal: Proposal) -> float:
        """Enter, durably, that the exam is opened for `proposal`, and return the level at which to judge it. From here on it counts.
        Raises `UserError` where it is refused."""
        with ledger.locked(self.path):
            state = self._state()
            if why := self._refusal(proposal, state):
                raise UserError(why)
            if not state.exams:
                ledger.append(self.path, "lineage", **self.declared, incumbent=proposal.incumbent)
            if self._begins(state, proposal):
                ledger.append(self.path, "exam", seals=proposal.seals)
                state = self._state()
            ledger.append(self.path, "opened", number=len(state.opened) + 1, level=state.budget.level, **asdict(proposal))
            return state.budget.level

    def enter(self, proposal: Proposal, decision: Decision) -> Decision:
        """Enter the decision on an opened proposal, whatever it is, and return what counts: a promotion that was not judged at the
        opened level, or against another incumbent than now stands, is undecided."""
        with ledger.locked(self.path):
            state = self._state()
            waiting = [e for e in state.opened if e["number"] not in state.judged and _same(e, proposal)]
            if not waiting:
                raise UserError(f"{self.path}: a decision on {proposal.candidate} was not opened, or is there already")
            fault = _unsound(decision, waiting[-1], state.incumbent)
            if decision.action == "promote" and fault:
                decision = replace(decision, action="undecided", version=proposal.incumbent or "", why=fault)
            ledger.append(self.path, "verdict", number=waiting[-1]["number"], candidate=proposal.candidate, decision=decision)
            return decision

    def _begins(self, state: State, new: Proposal) -> bool:
        """Whether this proposal brings an exam that the lineage has not seen, and there is one to come."""
        return len(state.exams) < self.declared["exams"] and new.seals["exam"] not in {old["exam"] for old in state.exams}

    def _refusal(self, new: Proposal, state: State) -> str | None:
        if not new.candidate or not new.seals.get("exam"):
            return f"{self.path}: a proposal needs the fingerprints of the candidate and of the exam"
        if not new.incumbent:
            return f"{self.path}: no baseline: the version to compare with has no fingerprint"
        if new.candidate == new.incumbent:
            return f"{self.path}: the candidate is the incumbent: there is nothing to judge"
        if state.exams and new.incumbent != state.incumbent:
            return f"{self.path}: compared with {new.incumbent}, but the lineage stands at {state.incumbent}; start from that"
        if self._begins(state, new):
            return None
        now = state.exams[-1]
        if changed := sorted(k for k in {*new.seals, *now} if new.seals.get(k) != now.get(k)):
            return f"{self.path}: changed since the exam was opened: {', '.join(changed)}; restore it{self._or_else(state)}"
        if any(_same(e, new) and e["number"] in state.judged for e in state.opened):
            return f"{self.path}: {new.candidate} has sat this exam before: one verdict each"
        if not state.budget.level:
            return f"{self.path}: the budget of this exam is spent{self._or_else(state)}"
        return None

    def _or_else(self, state: State) -> str:
        """What can still be done: fresh tasks, where more exams were declared; else another lineage."""
        more = self.declared["exams"] - len(state.exams)
        begin = "begin a new lineage in another folder"
        return f"; go on with new exam tasks ({more} more declared), or {begin}" if more else f"; {begin}, with new exam tasks"

    def _state(self) -> State:
        state = State()
        for entry in ledger.read(self.path):
            state = _step(state, entry, self._fresh)
        return state


# --- entries ------------------------------------------------------------------------------------------------------------


def _step(state: State, entry: Entry, fresh: Budget) -> State:
    match entry["kind"]:
        case "lineage":
            return replace(state, incumbent=entry["incumbent"])
        case "exam":
            return replace(state, exams=(*state.exams, entry["seals"]), budget=fresh)
        case "opened":
            return replace(state, opened=(*state.opened, {**entry, "exam": len(state.exams)}), budget=state.budget.spent(False))
    state = replace(state, judged=state.judged | {entry["number"]})
    opened = state.opened[entry["number"] - 1]
    if entry["decision"]["action"] != "promote":
        return state
    left = replace(state.budget, alpha=opened["level"]) if opened["exam"] == len(state.exams) else state.budget
    return replace(state, incumbent=entry["candidate"], budget=left)


def _same(opened: Entry, proposal: Proposal) -> bool:
    return opened["candidate"] == proposal.candidate and opened["seals"]["exam"] == proposal.seals["exam"]


def _unsound(decision: Decision, opened: Entry, incumbent: str | None) -> str | None:
    """Why a promotion may not stand."""
    if opened["incumbent"] != incumbent:
        return f"while it was judged against {opened['incumbent']}, the lineage moved on to {incumbent}"
    if not decision.evidence.get("alpha", 1.0) <= opened["level"]:
        return f"judged at alpha = {decision.evidence.get('alpha')}, where the lineage allows {opened['level']:.2g}"
    return None
