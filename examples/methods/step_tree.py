"""A tree of continuations: a few first steps, several continuations of each, credit by branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.tree import Node, grow, leaves_to_members, values


class StepTree(Method):
    """``num_trunks`` beginnings of ``depth`` steps, each continued until the group is full.

    A token of the beginning has the advantage ``V(trunk) − V(group)``, a later one ``r − V(trunk)``: what a branch added.
    """

    num_trunks: int = Field(2, ge=1)
    depth: int = Field(1, ge=1)

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        trunks = [[Node(g.problem, Rollout(g.prompt_ids, ())) for _ in range(self.num_trunks)] for g in groups]
        for number in range(self.depth):
            grow([node for tree in trunks for node in tree], tools, "trunk", number)
        trees = [[tree[i % self.num_trunks].branch() for i in range(num_rollouts)] for tree in trunks]
        growing = [leaf for tree in trees for leaf in tree if leaf.is_open]
        for leaf, rollout in zip(
            growing, tools.extend([x.rollout for x in growing], "sampling", "leaves"), strict=True
        ):
            leaf.rollout = rollout
        return [self._filled(group, tree, tools) for group, tree in zip(groups, trees, strict=True)]

    def _filled(self, group: Group, leaves: list[Node], tools: Toolbox) -> Group:
        members = leaves_to_members(leaves, tools)
        worth = values(leaves, [member.verdict.pay for member in members])
        members = [m.having(trunk=worth.get(leaf.parent, 0.0)) for m, leaf in zip(members, leaves, strict=True)]
        return replace(group, members=tuple(members))

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[list[list[float]]]:
        return [self._of_group(group, rewards_G) for group, rewards_G in zip(groups, rewards_PG, strict=True)]

    def _of_group(self, group: Group, rewards_G: Sequence[float | None]) -> list[list[float]]:
        known = [reward for reward in rewards_G if reward is not None]
        mean = sum(known) / max(1, len(known))
        found = []
        for member, reward in zip(group.members, rewards_G, strict=True):
            trunk, start = member.extras["trunk"], int(member.extras["branched_at"])
            found.append([trunk - mean] * start + [(reward or 0.0) - trunk] * (len(member.rollout) - start))
        return found
