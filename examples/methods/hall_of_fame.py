"""A replay buffer: the shortest success on each problem is kept, and imitated beside the rollouts when the problem returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Verdict
from scope_rlvr.methods.memory import off_policy, rollout_from_json, rollout_to_json
from scope_rlvr.methods.parts.base import GroupEdit


class HallOfFame(GroupEdit):
    """Every group gets the shortest right rollout that was ever seen on its problem, in a row that is reserved for it."""

    @property
    def num_reserved_rows(self) -> int:
        return 1

    def edit(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        best = tools.memory.setdefault("hall_of_fame", {})
        return [self._with_best(group, best.get(group.problem.id)) for group in groups]

    def _with_best(self, group: Group, kept: dict | None) -> Group:
        if kept is None:
            return group
        rollout = off_policy(rollout_from_json(kept), group.prompt_ids)
        return replace(group, members=(*group.members, Member(rollout, Verdict(Outcome.RIGHT), Role.GUIDED)))

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        best = tools.memory["hall_of_fame"]
        for group in groups:
            right = [m.rollout for m in group.members if m.verdict.is_right]
            if group.problem.id in best:
                right.append(rollout_from_json(best[group.problem.id]))
            if right:
                best[group.problem.id] = rollout_to_json(min(right, key=len))
