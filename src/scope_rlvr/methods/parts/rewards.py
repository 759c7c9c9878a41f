"""Rewards: what verdicts pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.readings import MeanHidden
from scope_rlvr.methods.parts.base import Reward, Status
from scope_rlvr.methods.reading import ReadBy, Reading


class OverlongPenalty(Reward):
    """A soft penalty on responses that come near the length limit.

    ``r + overlong_penalty · R(|y|)`` with ``R = 0`` up to ``L − C`` tokens, ``−1`` at ``L``, linear between: ``L`` the longest
    allowed response, ``C = overlong_share · L``. Source: Yu et al. 2025 (DAPO), equation 13, where rewards are ±1 and the
    penalty goes to −1; rewards here are 1 and 0, so the penalty is ½.

    >>> [OverlongPenalty().charge(num_tokens, max_tokens=100) for num_tokens in (80, 90, 100)]
    [0.0, -0.25, -0.5]
    """

    title: ClassVar[str] = "Overlong penalty"
    source: ClassVar[str] = "arXiv 2503.14476"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "long responses are charged"
    formula: ClassVar[str] = "`r + ½R(|y|)`, `R` from 0 to −1 over the last fifth of the longest response"

    kind: Literal["overlong_penalty"] = "overlong_penalty"
    overlong_share: float = Field(
        0.2, gt=0, le=1, description="share of the longest response, at its end, that is charged for"
    )
    overlong_penalty: float = Field(0.5, ge=0, description="what a response of the full length is charged")

    def charge(self, num_tokens: int, max_tokens: int) -> float:
        """What a response of this length is charged: 0 or less."""
        buffer = self.overlong_share * max_tokens
        excess = min(max(0.0, num_tokens - (max_tokens - buffer)), buffer)
        return -self.overlong_penalty * excess / buffer if excess else 0.0

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        return member.verdict.pay + self.charge(len(member.rollout), tools.max_response_tokens)


class NoveltyBonus(Reward):
    """A bonus for responses whose hidden states the rest of the group explains badly.

    ``h_i``: mean last hidden state of response i under the policy as it was before training, projected at random to
    ``dimensions``, centred in the group; ``Σ = λI + Σ_j h_j h_jᵀ``; ``r_i ← r_i + weight · h_iᵀ Σ⁻¹ h_i``. Groups without a right
    rollout get none. ``λ`` is ``ridge`` times the mean energy of the features: with an absolute one every leverage tends to
    ``1 − 1/G`` as soon as features are large, and the bonus is flat. Source: RepExp, read in its code.

    >>> [round(x, 3) for x in leverages(torch.tensor([[1.0, 0.0], [1.0, 0.1], [-2.0, -0.1]]), ridge=0.1)]
    [0.173, 0.174, 0.645]
    """

    title: ClassVar[str] = "RepExp"
    source: ClassVar[str] = "arXiv 2510.11686"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "responses of unusual hidden states are paid more"
    formula: ClassVar[str] = "`r + 0.01·hᵀ(λI + Σ h hᵀ)⁻¹h`"
    departures: ClassVar[str] = "λ relative to the features' energy; a dense random projection"

    kind: Literal["novelty_bonus"] = "novelty_bonus"
    weight: float = Field(0.01, ge=0, description="factor on the bonus, which lies between 0 and 1")
    dimensions: int = Field(32, ge=1, description="dimensions that hidden states are projected to")
    ridge: float = Field(0.1, gt=0, description="λ as a multiple of the mean energy of a group's features")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("mean_hidden", MeanHidden(), by=ReadBy.REFERENCE),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        generator = torch.Generator().manual_seed(derive_seed(tools.seed, "novelty") % 2**63)
        return [self._with_bonus(group, generator) for group in groups]

    def _with_bonus(self, group: Group, generator: torch.Generator) -> Group:
        known = [m for m in group.members if "mean_hidden" in m.extras and m.verdict.is_known]
        if not any(m.verdict.is_right for m in known):
            return group
        states_GD = torch.tensor([m.extras["mean_hidden"] for m in known], dtype=torch.float64)
        projection = torch.randn(states_GD.size(1), self.dimensions, generator=generator, dtype=torch.float64)
        bonus = dict(
            zip(map(id, known), leverages(states_GD @ projection / self.dimensions**0.5, self.ridge), strict=True)
        )
        return replace(
            group,
            members=tuple(m.having(novelty=bonus[id(m)]) if id(m) in bonus else m for m in group.members),
        )

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        return member.verdict.pay + self.weight * member.extras.get("novelty", 0.0)


def leverages(features_GD: Tensor, ridge: float) -> list[float]:
    """``h_iᵀ (λI + Σ_j h_j h_jᵀ)⁻¹ h_i`` for the centred rows, each between 0 and 1; ``λ`` is ``ridge`` times their mean energy."""
    centred_GD = (features_GD - features_GD.mean(0)).double()
    energy = centred_GD.square().sum(1).mean()
    if energy <= 0:
        return [0.0] * len(centred_GD)
    sigma_DD = centred_GD.T @ centred_GD + ridge * energy * torch.eye(centred_GD.size(1), dtype=torch.float64)
    return (centred_GD * torch.linalg.solve(sigma_DD, centred_GD.T).T).sum(1).tolist()
