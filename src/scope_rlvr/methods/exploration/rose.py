"""ROSE: rollouts branch where the likely next tokens differ most in meaning."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.features import SemanticEntropy
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.branch_values import BranchValues


@dataclass
class _Tree:
    """The rollouts of one problem so far, and the places that none branched off at yet: score, rollout, token."""

    group: Group
    rollouts: list[Rollout] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    places: list[tuple[float, int, int]] = field(default_factory=list)

    def start(self, from_root: bool) -> tuple[Rollout, int]:
        """What is to be continued, and how many of its tokens another rollout has as well."""
        if from_root or not self.places:
            return Rollout(self.group.prompt_ids, ()), 0
        best = max(self.places)
        self.places.remove(best)
        return self.rollouts[best[1]].cut(best[2]), best[2]


class Rose(Method):
    """Semantic branching, one rollout after the other.

    The first rollout of a group begins at the prompt, each further one at the prompt with probability ``root_share``,
    else inside a rollout of the group: before the token at which ``H · (−Σ_{i≠j} p_i p_j cos(e_i, e_j))`` over the
    ``top_k`` likeliest tokens is largest, e their output embeddings, each place once. Credit is that of
    ``branch_values``. Source: ROSE (2601.05053), and its released code, github.com/ZiqiZhao1/ROSE-rl:
    ``verl/workers/rollout/vllm_rollout/vllm_rollout_spmd.py``; 8 rollouts.

    >>> Rose().own_parts[0].kind, Rose().root_share
    ('branch_values', 0.5)
    """

    title: ClassVar[str] = "ROSE"
    source: ClassVar[str] = "arXiv 2601.05053"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rollouts branch where likely tokens differ in meaning"
    formula: ClassVar[str] = "branch at max `H·(−Σ p_i p_j cos(e_i, e_j))`; `Â_t = V(after) − V(before)`; `S(Â_t)`"
    departures: ClassVar[str] = "output embeddings; no factor on length, whose exponent is 0 in the example script"

    name: Literal["rose"] = "rose"
    root_share: float = Field(0.5, ge=0, le=1, description="how likely a rollout begins at the prompt")
    top_k: int = Field(20, ge=2, description="likeliest tokens whose meanings are compared")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (BranchValues(),)

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        rng = random.Random(derive_seed(tools.seed, self.name))
        trees = [_Tree(group) for group in groups]
        for number in range(num_rollouts):
            starts = [tree.start(from_root=not number or rng.random() < self.root_share) for tree in trees]
            written = tools.extend([start for start, _ in starts], "sampling", "round", number)
            scores = self._scores(written, tools) if number + 1 < num_rollouts else [()] * len(written)
            for tree, rollout, (_, num_shared), score_T in zip(trees, written, starts, scores, strict=True):
                own = [(score, number, t) for t, score in enumerate(score_T) if t > num_shared]
                tree.places += own
                tree.rollouts.append(rollout)
                tree.origins.append(num_shared)
        judged = iter(tools.verified([(tree.group.problem, r) for tree in trees for r in tree.rollouts]))
        return [
            replace(
                tree.group,
                members=tuple(
                    replace(m, role=Role.BRANCHED if shared else Role.SAMPLED, extras={"branched_at": float(shared)})
                    for shared, m in zip(tree.origins, judged, strict=False)
                ),
            )
            for tree in trees
        ]

    def _scores(self, rollouts: Sequence[Rollout], tools: Toolbox) -> list[tuple[float, ...]]:
        reducer = SemanticEntropy(k=self.top_k)
        read = tools.read("policy", [(r.prompt_ids, r.token_ids) for r in rollouts], [reducer])
        return [tuple(kept[reducer.name].tolist()) for kept in read]
