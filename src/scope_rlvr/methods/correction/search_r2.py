"""Search-R2's refiner on reasoning: whatever a step scorer finds fault with is cut there and written again by the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.guided.traces import put_in_place
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need, Status


class SearchR2(Method):
    """Cut and regenerate, right or wrong: the group that trains holds the revised rollouts.

    A step scorer reads every rollout; where it finds a first wrong step, the rollout is cut before it and the policy goes on
    from there, up to ``max_revisions`` times. The revision takes the rollout's place whatever the verifier says of either.
    ``Â = r − mean(r)`` over the group so revised, on all tokens: kept and new ones alike are the policy's own. With
    ``max_revisions = 0`` this is GRPO. No teacher writes anything. Source: Search-R2 (2602.03647), the actor and the refiner that
    cuts and regenerates.

    >>> SearchR2(max_revisions=0).needs_step_scorer
    False
    """

    title: ClassVar[str] = "Search-R2"
    source: ClassVar[str] = "arXiv 2602.03647"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "rollouts that a step scorer faults are cut there and written again by the policy"
    formula: ClassVar[str] = "`Â = r − mean(r)` over the revised group; `S(Â)`"
    departures: ClassVar[str] = (
        "no search, and so no reward for what was retrieved; a step scorer is the refiner, which the paper trains along"
    )

    name: Literal["search_r2"] = "search_r2"
    max_revisions: int = Field(1, ge=0, description="times that a rollout is cut and written again; 0 is GRPO")

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.STEP_SCORER} if self.max_revisions else ())

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        edited = list(groups)
        for number in range(self.max_revisions):
            edited = self._revised(edited, tools, number)
        return edited

    def _revised(self, groups: Sequence[Group], tools: Toolbox, number: int) -> list[Group]:
        scored = tools.score_members(groups, lambda member: not member.rollout.is_truncated)
        faults = [
            (g, m, scores.steps[scores.first_wrong].start)
            for g, group in enumerate(scored)
            for m, member in enumerate(group.members)
            if (scores := member.step_scores) is not None and scores.first_wrong is not None
        ]
        starts = [scored[g].members[m].rollout.cut(at_token) for g, m, at_token in faults]
        rollouts = tools.extend(starts, "continuation", "revision", number)
        judged = tools.verified([(scored[g].problem, r) for (g, _, _), r in zip(faults, rollouts, strict=True)])
        revised: list[dict[int, Member]] = [{} for _ in groups]
        for (g, m, _), member in zip(faults, judged, strict=True):
            revised[g][m] = replace(member, role=Role.BRANCHED)
        return [put_in_place(group, newcomers) for group, newcomers in zip(groups, revised, strict=True)]
