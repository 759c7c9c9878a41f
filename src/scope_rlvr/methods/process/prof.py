"""PROF: the scorer decides which rollouts train, never what they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.method import Method


class Prof(Method):
    """Process consistency filter, then outcome GRPO on what is left.

    Of the n scored rollouts of a group, ``m = ⌈kept_share · n⌉`` train: the right ones with the highest and the wrong ones
    with the lowest mean step score, as many of either as makes the two classes most nearly equal. The baseline is the
    mean of those m. The others stay in the group's record. A rollout that could not be scored is not filtered.

    So ``rollouts_per_problem`` is n. Left out is the source's deduction for responses of one step or of very many: its
    size is not known to us. Source: Ye et al. 2025, PROF-GRPO.

    >>> [Prof().num_right_kept(num_right, 8 - num_right, 4) for num_right in range(9)]
    [0, 1, 2, 2, 2, 2, 2, 3, 4]
    """

    title: ClassVar[str] = "PROF"
    source: ClassVar[str] = "arXiv 2509.03403"
    changes: ClassVar[str] = "only rollouts whose steps and outcome agree"
    formula: ClassVar[str] = "`Â = r − mean(r)` over the rollouts kept; `S(Â)`"

    name: Literal["prof"] = "prof"
    kept_share: float = Field(0.5, gt=0, le=1, description="share of the scored rollouts that train")

    @property
    def needs_step_scorer(self) -> bool:
        return True

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        scored = tools.score_members(groups, lambda member: member.verdict.is_known)
        return [self._filtered(group) for group in scored]

    @staticmethod
    def num_right_kept(num_right: int, num_wrong: int, num_kept: int) -> int:
        """How many right rollouts are among those kept: half of them, rounded up, or as near to it as there are."""
        return min(num_right, max(math.ceil(num_kept / 2), num_kept - num_wrong))

    def _filtered(self, group: Group) -> Group:
        scored = [member for member in group.members if member.step_scores and member.step_scores.scores_S]
        right = sorted((m for m in scored if m.verdict.is_right), key=_mean_score, reverse=True)
        wrong = sorted((m for m in scored if not m.verdict.is_right), key=_mean_score)
        num_kept = math.ceil(self.kept_share * len(scored))
        num_right = self.num_right_kept(len(right), len(wrong), num_kept)
        dropped = {id(member) for member in (*right[num_right:], *wrong[num_kept - num_right :])}
        return replace(
            group,
            members=tuple(member for member in group.members if id(member) not in dropped),
            replaced=(*group.replaced, *(member for member in group.members if id(member) in dropped)),
        )


def _mean_score(member: Member) -> float:
    return fmean(member.step_scores.scores_S) if member.step_scores else math.nan
