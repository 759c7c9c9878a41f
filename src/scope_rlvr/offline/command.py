"""Salvage without training: from saved rollouts to a data set of failures and what was made of them.

It is the salvage that a training step does, with the same settings, block by block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scope_rlvr.core.accounting import TeacherLog
from scope_rlvr.core.groups import Group, Member, SalvageOutcome
from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Problem
from scope_rlvr.models.loading import inference_dtype, require_reader
from scope_rlvr.offline.dataset import (
    Shown,
    dpo_rows,
    failure_line,
    sft_rows,
    write_table,
)
from scope_rlvr.offline.journal import SalvageJournal
from scope_rlvr.offline.plan import SalvagePlan
from scope_rlvr.problems.saved import (
    SavedRollout,
)
from scope_rlvr.run.components import load_causal, load_step_scorer, load_teacher
from scope_rlvr.run.verifier import make_verifier
from scope_rlvr.salvage.salvage import salvage
from scope_rlvr.store.journal import read_records
from scope_rlvr.teachers.failures import TeacherFailureMonitor


class TeacherFailed(Exception):
    """The teacher left too many questions of a block unanswered; the blocks before it are kept."""


class NoPolicy:
    """The policy of a salvage that never asks one."""

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        if prefixes:
            raise AssertionError("a salvage without a policy has nothing to continue")
        return []

    def entropies(self, *_: Any) -> list[tuple[float, ...]]:
        raise AssertionError("a salvage without a policy has no entropies")


@dataclass(frozen=True)
class SalvageResult:
    """How a salvage ended: verdicts on the rollouts that were read, outcomes of the failures, rows of every file."""

    verdicts: dict[str, int]
    outcomes: dict[str, int]
    written: dict[Path, int]

    @property
    def num_admitted(self) -> int:
        return self.outcomes.get(SalvageOutcome.ADMITTED.value, 0)

    def lines(self) -> list[str]:
        """The result in lines for the terminal."""
        verdicts = ", ".join(f"{count} {name}" for name, count in sorted(self.verdicts.items()))
        width = max(map(len, self.outcomes), default=0)
        return [
            f"verdicts  {verdicts}",
            *(
                f"{'outcomes' if i == 0 else '':<10}{name:<{width}} {n}"
                for i, (name, n) in enumerate(self.outcomes.items())
            ),
            *(f"written   {file}: {count} row(s)" for file, count in self.written.items()),
        ]


class OfflineSalvage:
    """A planned salvage with its models loaded."""

    def __init__(self, plan: SalvagePlan) -> None:
        self.plan, config = plan, plan.config
        torch.set_num_threads(config.run.threads)
        self.journal = SalvageJournal(plan)
        problems = list(plan.problems)
        policy = load_causal(config.model.policy, "model.policy", inference_dtype(), config.prompt)
        require_reader(policy.codec.tokenizer, problems, f"the tokenizer of {config.model.policy}")
        self.codec = policy.codec
        self.notes: list[str] = []
        """Faults of the teacher, one line for each kind."""
        settings = plan.settings
        self.tools = Toolbox(
            policy=policy if plan.has_policy else NoPolicy(),
            verifier=make_verifier(config),
            codec=policy.codec,
            sampling=config.sampling.sampling(),
            max_response_tokens=plan.max_response_tokens,
            seed=config.run.seed,
            steps=config.steps,
            step_scorer=load_step_scorer(config, problems, policy) if settings.uses_step_scorer else None,
            teacher=load_teacher(config, policy, problems, self.journal.spending()) if settings.uses_teacher else None,
        )

    def run(self, advance: Callable[[int], None]) -> SalvageResult:
        """Salvage what is not done yet; ``advance`` is called with the number of rollouts of each finished block."""
        journal = self.journal
        journal.begin()
        for number, block in enumerate(_blocks(self.plan.groups(), self.plan.request.batch_rows)):
            if number >= journal.record["blocks"]:
                journal.add(*self._block(number, block))
            advance(sum(map(len, block)))
        journal.finish()
        return self._result(journal)

    def _block(self, number: int, block: Sequence[list[SavedRollout]]) -> tuple[list[dict[str, Any]], Counter[str]]:
        """The lines of a block's rollouts that are not right, in the order of the input, and all verdicts."""
        seed = derive_seed(self.plan.config.run.seed, "salvage", number)
        tools = replace(self.tools, seed=seed, teacher_log=TeacherLog())
        rollouts = [rollout.as_rollout(self.codec) for group in block for rollout in group]
        saved = [rollout for group in block for rollout in group]
        members = tools.verified([(s.problem, r) for s, r in zip(saved, rollouts, strict=True)])
        edited = salvage(_groups(block, members), self.plan.settings, tools)
        self._watch(number, tools.teacher_log)
        # A rollout that was replaced carries the same record as the one in its place.
        known = {id(m.rollout): m for group in edited for m in (*group.members, *group.replaced)}
        verdicts = Counter(member.verdict.outcome.value for member in members)
        lines = [
            failure_line(s, known[id(r)], self._shown(s.problem), self.plan.models, self.codec, tools.steps)
            for s, r, m in zip(saved, rollouts, members, strict=True)
            if m.verdict.outcome is not Outcome.RIGHT
        ]
        return lines, verdicts

    def _watch(self, number: int, log: TeacherLog) -> None:
        """Raise :class:`TeacherFailed` if the teacher failed too often in a block."""
        monitor = TeacherFailureMonitor(self.plan.config.teacher.max_failure_share, window=1)
        faults = list(monitor.record(number, log))
        why = monitor.reason_to_stop()
        if why:
            raise TeacherFailed(why)
        self.notes += [fault for fault in faults if fault not in self.notes]

    def _shown(self, problem: Problem) -> Shown:
        prompt = self.plan.config.prompt
        is_chat = prompt.is_chat(self.codec.tokenizer)
        return prompt.messages(problem.prompt) if is_chat else prompt.text(problem.prompt)

    def _result(self, journal: SalvageJournal) -> SalvageResult:
        request = self.plan.request
        outcomes = Counter(
            line["salvage"]["outcome"] if line["salvage"] else "not graded" for line in read_records(request.out)
        )
        written = {request.out: sum(outcomes.values())}
        for option, file in request.tables.items():
            written[file] = write_table(_TABLES[option](read_records(request.out)), file)
        return SalvageResult(journal.record["verdicts"], dict(outcomes.most_common()), written)


_TABLES: dict[str, Callable[[Iterable[dict[str, Any]]], Iterable[dict[str, Any]]]] = {
    "parquet": lambda lines: lines,
    "sft": sft_rows,
    "dpo": dpo_rows,
}


def _groups(block: Sequence[list[SavedRollout]], members: Sequence[Member]) -> list[Group]:
    """The members as groups, one for each list of the block."""
    waiting, groups = iter(members), []
    for saved in block:
        own = tuple(next(waiting) for _ in saved)
        groups.append(Group(saved[0].problem, own, prompt_ids=own[0].rollout.prompt_ids))
    return groups


def _blocks(groups: Iterator[list[SavedRollout]], num_rollouts: int) -> Iterator[list[list[SavedRollout]]]:
    """Whole groups, as many as have at least ``num_rollouts`` rollouts."""
    block: list[list[SavedRollout]] = []
    for group in groups:
        block.append(group)
        if sum(map(len, block)) >= num_rollouts:
            yield block
            block = []
    if block:
        yield block
