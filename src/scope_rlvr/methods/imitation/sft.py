"""SFT: imitation of whole teacher traces, without any reinforcement learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import NegativeLogLikelihood, TeacherTerm
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import teacher_traces
from scope_rlvr.methods.parts.base import Status, TokenAdvantages


class Imitation(GuidedMethod):
    """Gives every group that nothing was sampled for one verified teacher trace, and advantage 1 to that trace alone."""

    teacher_term: TeacherTerm = NegativeLogLikelihood()

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        imitated = [i for i, group in enumerate(groups) if not group.members]
        traces = dict(zip(imitated, teacher_traces([groups[i] for i in imitated], tools), strict=True))
        return [
            group if (trace := traces.get(i)) is None else replace(group, members=(trace,))
            for i, group in enumerate(groups)
        ]

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        credited = super().advantages(groups, rewards_PG, normalisation)
        return [
            [[1.0] * len(member.rollout) for member in group.members] if _is_imitated(group) else advantage_GT
            for group, advantage_GT in zip(groups, credited, strict=True)
        ]


class Sft(Imitation):
    """Maximum likelihood of one verified teacher trace for each problem of a step: ``−log π`` on every token.

    The policy samples nothing. It meets the same problems as every other method with the same seed, and as many teacher
    traces as LUFFY with one trace a group.

    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> trace = Member(Rollout((1,), (Segment((7, 2), Origin.TEACHER),)), Verdict(Outcome.RIGHT), Role.GUIDED)
    >>> group = Group(Problem("p", "?", "1"), (trace,))
    >>> [s.advantage_T for s in Sft().credit([group], [[1.0]], Normalisation.NONE)[0]]
    [(1.0, 1.0)]
    """

    title: ClassVar[str] = "SFT"
    source: ClassVar[str] = "maximum likelihood; as a baseline: arXiv 2604.23747"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "imitates whole teacher traces, samples nothing"
    formula: ClassVar[str] = "`−log π` on teacher traces"

    name: Literal["sft"] = "sft"

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        return list(groups)


def _is_imitated(group: Group) -> bool:
    return bool(group.members) and all(member.role is Role.GUIDED for member in group.members)
