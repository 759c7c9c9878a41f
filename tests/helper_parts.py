"""Parts of a user's own that ask a teacher for scores and a judge for grades: what methods of the field do, in few lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.ports import JudgeRequest
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Need, Reward
from scope_rlvr.methods.reading import ReadBy, Reading


class TeacherLikelihood(Reward):
    """Pays a little for what the teacher finds likely: ``r + 0.1 · exp(mean log π_T)``."""

    title: ClassVar[str] = "Teacher's likelihood"
    source: ClassVar[str] = "a test"
    changes: ClassVar[str] = "the reward"
    formula: ClassVar[str] = "`r + 0.1 exp(mean log pi_T)`"

    kind: str = ""

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("teacher_logprob", by=ReadBy.TEACHER),)

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        scores_T = member.extras.get("teacher_logprob")
        return (member.verdict.pay or 0.0) + (0.1 * math.exp(fmean(scores_T)) if scores_T else 0.0)


class JudgedStyle(Reward):
    """Pays a little for the judge's grade: ``r + 0.1 · grade``; nothing where the judge failed."""

    title: ClassVar[str] = "Judged style"
    source: ClassVar[str] = "a test"
    changes: ClassVar[str] = "the reward"
    formula: ClassVar[str] = "`r + 0.1 grade`"

    kind: str = ""

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.JUDGE})

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        asked = [
            JudgeRequest(group.problem, tuple(tools.text(m.rollout) for m in group.members), "Is it well written?")
            for group in groups
        ]
        grades = tools.ask_judge(asked, "style")
        return [
            group
            if of_group is None
            else replace(group, members=tuple(m.having(style=g) for m, g in zip(group.members, of_group, strict=True)))
            for group, of_group in zip(groups, grades, strict=True)
        ]

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        return (member.verdict.pay or 0.0) + 0.1 * member.extras.get("style", 0.0)
