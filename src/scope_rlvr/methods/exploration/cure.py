"""CURE: rollouts that branch off where the policy was least certain."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status
from scope_rlvr.salvage.cuts import NUM_ENTROPY_TOKENS, uncertain_token


class Cure(Method):
    """Re-branching at critical tokens: part of every group is sampled anew from inside its other rollouts.

    Of G rollouts ``⌈G / (1 + n)⌉`` are fresh; each is cut at one token drawn from the ``num_key_tokens`` at which the
    policy's entropy was highest, and the policy writes up to n others from there. What a branch shares with its origin
    has no gradient in it, as if it belonged to the prompt. Branches and fresh rollouts are one group,
    ``Â_i = (r_i − mean r) / std r``, with DAPO's loss: clip 0.2 below and 0.28 above, mean over all tokens.
    Source: CURE (arXiv 2508.11016), first stage: G = 16, n = 3. Its second stage, plain DAPO from a checkpoint of the
    first, is the rest of the run after ``branching_share``; how long it lasts is not said, so that there is none by default.

    Left open, or different here: the cut lies before the key token, which is drawn anew; neither the first token nor one
    that ends the response is a key token; flat groups are left out of the loss but not sampled again; no penalty on
    long responses.

    >>> [(Cure().num_fresh(G), G - Cure().num_fresh(G)) for G in (4, 8, 10, 16)]
    [(1, 3), (2, 6), (3, 7), (4, 12)]
    """

    title: ClassVar[str] = "CURE"
    source: ClassVar[str] = "arXiv 2508.11016"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rollouts branch off at tokens of high entropy"
    formula: ClassVar[str] = (
        "`Â = (r − mean(r)) / std(r)`; `S(Â)` after the branching point, 0 before it; mean over tokens"
    )
    departures: ClassVar[str] = (
        "flat groups are not sampled again; no penalty on length, no dual clip; any inner token can be a key token"
    )

    name: Literal["cure"] = "cure"
    drop_flat_groups: bool = True
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.28)
    num_branches: int = Field(3, ge=1, description="branches of each fresh rollout")
    num_key_tokens: int = Field(
        NUM_ENTROPY_TOKENS, ge=1, description="tokens of highest entropy among which the cut is drawn"
    )
    branching_share: float = Field(1.0, ge=0, le=1, description="share of the run in which rollouts branch off")

    def num_fresh(self, num_rollouts: int) -> int:
        """How many rollouts of a group are sampled from the prompt."""
        return math.ceil(num_rollouts / (1 + self.num_branches))

    def stage(self, step: int, num_steps: int) -> int:
        return int(step > self.branching_share * num_steps)

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        if self.stage(tools.step, tools.num_steps):
            return tools.sample(groups, num_rollouts)
        fresh = tools.sample(groups, self.num_fresh(num_rollouts))
        starts_P = self._cut(fresh, tools)
        num_branched = num_rollouts - self.num_fresh(num_rollouts)
        starts = [starts_G[i % len(starts_G)] for starts_G in starts_P for i in range(num_branched)]
        rollouts = tools.extend(starts, "continuation", "branches")
        problems = [group.problem for group in fresh for _ in range(num_branched)]
        branches = [
            replace(member, role=Role.BRANCHED, num_shared_tokens=len(start))
            for member, start in zip(tools.verified(list(zip(problems, rollouts, strict=True))), starts, strict=True)
        ]
        return [
            replace(group, members=(*group.members, *branches[i * num_branched : (i + 1) * num_branched]))
            for i, group in enumerate(fresh)
        ]

    def _cut(self, fresh: Sequence[Group], tools: Toolbox) -> list[list[Rollout]]:
        """Each fresh rollout up to one of its key tokens."""
        rng = random.Random(derive_seed(tools.seed, "key tokens"))
        entropies = iter(tools.entropies([member.rollout for group in fresh for member in group.members]))
        return [[self._cut_one(member.rollout, next(entropies), rng) for member in group.members] for group in fresh]

    def _cut_one(self, rollout: Rollout, entropy_T: Sequence[float], rng: random.Random) -> Rollout:
        # The last token of a response that was not truncated is the one that ends it.
        num_inner = len(rollout) - (not rollout.is_truncated)
        return rollout.cut(uncertain_token(entropy_T[:num_inner], self.num_key_tokens, rng))
