"""CURE: rollouts that branch off where the policy was least certain."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.ports import TextCodec
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.rewards import OverlongPenalty
from scope_rlvr.salvage.cuts import NUM_ENTROPY_TOKENS, uncertain_token


class Cure(Method):
    """Re-branching at critical tokens: part of every group is sampled anew from inside its other rollouts.

    Of G rollouts ``⌈G / (1 + n)⌉`` are fresh; each is cut at one token drawn from the ``num_key_tokens`` at which the
    policy's entropy was highest, and the policy writes up to n others from there. What a branch shares with its origin
    has no gradient in it, as if it belonged to the prompt. Branches and fresh rollouts are one group,
    ``Â_i = (r_i − mean r) / std r``, with DAPO's loss: clip 0.2 below and 0.28 above, dual clip 10, mean over all tokens, a
    penalty on responses near the length limit, neither KL penalty nor entropy bonus. A key token has a text of at least
    ``min_key_chars`` characters, spaces aside, and is not the first; the cut lies before it, so that it is drawn anew. A
    rollout without one is sampled again from the prompt. After ``branching_steps`` the second stage begins, plain DAPO with a
    new optimiser.
    Source: CURE (arXiv 2508.11016), and its released code, github.com/bytedance/CURE at c904b38:
    ``recipe/CURE_First_Stage/dapo_ray_trainer.py`` 50-113 (key tokens), ``run_cure_stage_1.sh`` (G = 16, n = 3, 20 tokens),
    ``recipe/CURE_Second_Stage/run_cure_stage_2.sh`` (from step 300).

    Different here: flat groups are left out of the loss but not sampled again; one update of a step's rollouts, where the
    released run makes sixteen (``objective.mini_batches = 16``).

    >>> [(Cure().num_fresh(G), G - Cure().num_fresh(G)) for G in (4, 8, 10, 16)]
    [(1, 3), (2, 6), (3, 7), (4, 12)]
    """

    title: ClassVar[str] = "CURE"
    source: ClassVar[str] = "arXiv 2508.11016"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rollouts branch off at tokens of high entropy"
    formula: ClassVar[str] = (
        "`Â = (r + ½R(|y|) − mean) / std`; `S(Â)` after the branching point, 0 before it; mean over tokens"
    )
    departures: ClassVar[str] = "flat groups are not sampled again; one update a batch"

    name: Literal["cure"] = "cure"
    drop_flat_groups: bool = True
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.28, dual=10)
    kl: float | None = 0.0
    entropy: float | None = 0.0
    num_branches: int = Field(3, ge=1, description="branches of each fresh rollout")
    num_key_tokens: int = Field(
        NUM_ENTROPY_TOKENS, ge=1, description="tokens of highest entropy among which the cut is drawn"
    )
    min_key_chars: int = Field(2, ge=1, description="characters that a key token has at least, spaces aside")
    branching_steps: int = Field(300, ge=0, description="steps in which rollouts branch off")
    overlong_share: float = Field(
        0.2, gt=0, le=1, description="share of the longest response, at its end, that is charged for"
    )
    overlong_penalty: float = Field(0.5, ge=0, description="what a response of the full length is charged")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (OverlongPenalty.of(self),)

    def num_fresh(self, num_rollouts: int) -> int:
        """How many rollouts of a group are sampled from the prompt."""
        return math.ceil(num_rollouts / (1 + self.num_branches))

    def stage(self, step: int, num_steps: int) -> int:
        return int(step > self.branching_steps)

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
        return [
            [self._cut_one(member.rollout, next(entropies), tools.codec, rng) for member in group.members]
            for group in fresh
        ]

    def _cut_one(self, rollout: Rollout, entropy_T: Sequence[float], codec: TextCodec, rng: random.Random) -> Rollout:
        pieces = codec.pieces(rollout.token_ids)
        # Tokens that end a response have no text.
        among = [t for t in range(1, len(pieces)) if len(pieces[t].strip()) >= self.min_key_chars]
        return rollout.cut(uncertain_token(entropy_T, self.num_key_tokens, rng, among))
