"""Credit in trees: what each branch is worth more than what it branched off from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal

from scope_rlvr.core.groups import Group
from scope_rlvr.formulas.advantages import Normalisation, deviations
from scope_rlvr.methods.parts.base import Estimator, Rewards, Status, TokenAdvantages


class BranchValues(Estimator):
    """Each stretch of tokens is worth the mean reward of the rollouts that share it, less that of the stretch before.

    ``V`` of a prefix is the mean reward of the rollouts that begin with it, the prompt's that of the group. From one
    place at which rollouts part to the next, tokens get ``Â = V(after) − V(before)``; after the last one, ``V(after)``
    is the rollout's own reward. Over a rollout this adds up to ``r − mean``; where nothing is shared it is GRPO.
    Divided as the objective says. Source: ROSE (2601.05053), and its released code, github.com/ZiqiZhao1/ROSE-rl:
    ``core_algos.py``, ``grpo_iterative_branching``.

    >>> branch_values([(5, 6), (5, 7), (8,)], [1.0, 0.0, 0.5])
    [[0.0, 0.5], [0.0, -0.5], [0.0]]
    """

    title: ClassVar[str] = "ROSE credit"
    source: ClassVar[str] = "arXiv 2601.05053"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a branch is credited with what it adds to its origin"
    formula: ClassVar[str] = "`Â_t = V(after) − V(before)`, `V` the mean reward of the rollouts with this prefix"
    departures: ClassVar[str] = "prefixes that are equal by chance count as shared; no factor on length"

    kind: Literal["branch_values"] = "branch_values"

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        return [
            [[a / scale for a in a_T] for a_T in branch_values([m.rollout.token_ids for m in group.members], rewards_G)]
            for group, rewards_G, scale in zip(groups, rewards_PG, deviations(rewards_PG, normalisation), strict=True)
        ]


def branch_values(responses: Sequence[Sequence[int]], rewards_G: Sequence[float | None]) -> list[list[float]]:
    """The advantage of each token of each response; 0 where the reward is unknown."""
    gain_GT = [[0.0] * len(ids) for ids in responses]
    root = [i for i, reward in enumerate(rewards_G) if reward is not None]
    if not root:
        return gain_GT
    stretches = [(root, 0, fmean(rewards_G[i] or 0.0 for i in root), 0.0)]
    while stretches:
        sharing, place, value, gain = stretches.pop()
        children: defaultdict[int, list[int]] = defaultdict(list)
        for i in sharing:
            if place < len(responses[i]):
                children[responses[i][place]].append(i)
        for same in children.values():
            is_new = len(same) < len(sharing) or place == 0
            after = fmean(rewards_G[i] or 0.0 for i in same) if is_new else value
            own = after - value if is_new else gain
            for i in same:
                gain_GT[i][place] = own
            stretches.append((same, place + 1, after, own))
    return gain_GT
