"""RepExp: responses that the rest of the group explains badly are paid a bonus."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.rewards import NoveltyBonus


class RepExp(Method):
    """GRPO with an elliptic bonus on the hidden states of the untrained policy: ``r + weight · hᵀ(λI + Σ h hᵀ)⁻¹h``.

    Source: RepExp (2510.11686), and its released code, github.com/verl-project/verl-recipe at 48ea0a7, folder
    ``rep_exp``: bonus 0.01, 32 dimensions (128 for harder problems), no bonus in groups without a right rollout, 8
    rollouts, no KL penalty, mean over tokens. With few rollouts and many dimensions the bonus is nearly flat: look at
    its spread before you believe in it.

    >>> RepExp().own_parts[0].weight, RepExp().kl
    (0.01, 0.0)
    """

    title: ClassVar[str] = "RepExp"
    source: ClassVar[str] = "arXiv 2510.11686"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "responses of unusual hidden states are paid more"
    formula: ClassVar[str] = "`Â = (r + 0.01·hᵀ(λI + Σ h hᵀ)⁻¹h − mean) / std`; `S(Â)`; mean over tokens"
    departures: ClassVar[str] = "λ relative to the features' energy; a dense random projection"

    name: Literal["rep_exp"] = "rep_exp"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    kl: float | None = Field(0.0, ge=0)
    weight: float = Field(0.01, ge=0, description="factor on the bonus, which lies between 0 and 1")
    dimensions: int = Field(32, ge=1, description="dimensions that hidden states are projected to")
    ridge: float = Field(0.1, gt=0, description="λ as a multiple of the mean energy of a group's features")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (NoveltyBonus.of(self),)
