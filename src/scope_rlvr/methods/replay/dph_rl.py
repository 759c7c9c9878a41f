"""DPH-RL: what the untrained policy had mastered is rehearsed, by a divergence that covers all of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need, Status, TokenAdvantages
from scope_rlvr.methods.replay.replayed import member_to_json, replayed, right_and_sampled
from scope_rlvr.methods.solve_rates import places_by_id, solve_rate

if TYPE_CHECKING:
    from torch import Tensor


class Divergence(StrEnum):
    """How far the policy has moved from what the untrained one wrote, token by token, with ``u = π/π_base`` on its
    samples.

    ``FORWARD_KL``: ``u − 1 − log u``. ``JENSEN_SHANNON``: ``u log u − (u + 1) log((u + 1)/2)``. ``ALPHA``, with a =
    0.2: ``(u^(1−a) − (1−a)·u − a) / (a·(a−1))``. All are 0 where nothing has moved, and more elsewhere.
    """

    FORWARD_KL = "forward_kl"
    JENSEN_SHANNON = "jensen_shannon"
    ALPHA = "alpha"

    def of(self, log_u_BT: Tensor) -> Tensor:
        """The divergence of each token.

        >>> u = torch.tensor([2.0])
        >>> [round(kind.of(u.log()).item(), 4) for kind in Divergence]
        [0.3069, 0.1699, 0.3681]
        """
        u_BT = log_u_BT.exp()
        if self is Divergence.FORWARD_KL:
            return u_BT - 1 - log_u_BT
        if self is Divergence.JENSEN_SHANNON:
            return u_BT * log_u_BT - (u_BT + 1) * torch.log((u_BT + 1) / 2)
        a = 0.2
        return (torch.exp((1 - a) * log_u_BT) - (1 - a) * u_BT - a) / (a * (a - 1))


class DphRl(Method):
    """Rehearsal of the untrained policy's own solutions.

    Before the first step, ``num_presampled`` rollouts of every training problem. Problems with a share of right ones of
    at least ``mastered_share`` are rehearsed: each group of one of them is one stored right rollout, on whose tokens
    the divergence from the log-probabilities that it was sampled with is paid, times ``coefficient``. Problems that
    were never solved are exchanged for others; all the rest train by reinforcement, without any KL penalty. Source:
    DPH-RL (2509.07430), and its released code, github.com/seamoke/DPH-RL: ``verl/trainer/ppo/core_algos.py``; 4 of 8
    rollouts in its SQL script, coefficients from 0.01 for the forward KL to 0.2 for the others.

    >>> DphRl().fixed["kl"], DphRl().coefficient
    (0.0, 0.01)
    """

    title: ClassVar[str] = "DPH-RL"
    source: ClassVar[str] = "arXiv 2509.07430"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "mastered problems are rehearsed by a mass-covering divergence"
    formula: ClassVar[str] = "`Â = (r − mean) / std`; `S(Â)`; on stored rollouts `0.01·(u − 1 − log u)`, `u = π/π_base`"
    departures: ClassVar[str] = "one mean over all tokens, rehearsed ones included"

    name: Literal["dph_rl"] = "dph_rl"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    kl: float | None = Field(0.0, ge=0)
    divergence: Divergence = Field(
        Divergence.FORWARD_KL, description="how far the policy has moved on rehearsed tokens"
    )
    coefficient: float = Field(0.01, gt=0, description="factor on the divergence")
    num_presampled: int = Field(8, ge=1, description="rollouts of each problem before the first step")
    mastered_share: float = Field(
        0.5, gt=0, le=1, description="share of right ones from which on a problem is rehearsed"
    )

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.PROBLEM_POOL})

    @property
    def draws_problems(self) -> bool:
        return True

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        memory, places = self._memory(tools), places_by_id(tools)
        learnable = sorted(name for name in memory["learnable"] if name in places)
        rng, chosen = random.Random(derive_seed(tools.seed, self.name)), list[Group]()
        for group in super().choose(groups, tools):
            known = group.problem.id in memory["mastered"] or group.problem.id in memory["learnable"]
            if known or not learnable:
                chosen.append(group)
            else:
                assert tools.pool is not None
                chosen += tools.pool.groups([places[rng.choice(learnable)]])
        return chosen

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        mastered = self._memory(tools)["mastered"]
        learning = iter(tools.sample([g for g in groups if g.problem.id not in mastered], num_rollouts))
        return [
            replace(g, members=(replayed(mastered[g.problem.id], g).having(is_rehearsed=1.0),))
            if g.problem.id in mastered
            else next(learning)
            for g in groups
        ]

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        """On rehearsed tokens, the factor on the divergence."""
        advantage_PGT = super().advantages(groups, rewards_PG, normalisation)
        return [
            [
                [self.coefficient] * len(member.rollout) if "is_rehearsed" in member.extras else a_T
                for member, a_T in zip(group.members, a_GT, strict=True)
            ]
            for group, a_GT in zip(groups, advantage_PGT, strict=True)
        ]

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        rehearsed_BT = tokens.advantage_BT * self.divergence.of(tokens.logp_BT - tokens.teacher_logp_BT)
        return torch.where(tokens.is_teacher_BT, rehearsed_BT, super().token_loss(tokens, clip))

    def _memory(self, tools: Toolbox) -> dict[str, Any]:
        """What the untrained policy could do; it is found out once."""
        if self.name not in tools.memory:
            assert tools.pool is not None, "an engine without a pool refuses this method"
            pool = tools.pool.groups(range(len(tools.pool)))
            sampled = tools.sample(pool, self.num_presampled, "before training")
            mastered = [group for group in sampled if (solve_rate(group) or 0.0) >= self.mastered_share]
            learnable = [g.problem.id for g in sampled if 0 < (solve_rate(g) or 0.0) < self.mastered_share]
            stored = {group.problem.id: member_to_json(right_and_sampled(group)[0]) for group in mastered}
            tools.memory[self.name] = {"mastered": stored, "learnable": learnable}
        memory: dict[str, Any] = tools.memory[self.name]
        return memory
