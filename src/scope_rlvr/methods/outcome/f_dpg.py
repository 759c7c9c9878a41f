"""f-DPG: the policy is drawn towards an explicit target distribution."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.f_divergence import FDivergence


class FDpg(Method):
    """Gradient descent on a divergence between the policy and ``π_ref·exp(r/β)/Z``: ``Â = −f′(π/p)`` less its moving mean.

    With the reverse KL it is reinforcement learning with a KL penalty; Jensen-Shannon covers more of the target. Source: f-DPG
    (2302.08215); written from the formula, not from its code, whose licence is its own.

    >>> FDpg(divergence="reverse_kl").own_parts[0].divergence
    'reverse_kl'
    """

    title: ClassVar[str] = "f-DPG"
    source: ClassVar[str] = "arXiv 2302.08215"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the policy is drawn towards a target distribution, by any of four divergences"
    formula: ClassVar[str] = "`Â = −f′(π/p) − mean`, `p ∝ π_ref·e^(r/β)`; `S(Â)`"
    departures: ClassVar[str] = (
        "the target of verified rewards is argued here; Z is estimated from the group; the clip stays"
    )

    name: Literal["f_dpg"] = "f_dpg"
    divergence: Literal["reverse_kl", "forward_kl", "jensen_shannon", "total_variation"] = Field(
        "jensen_shannon", description="the divergence that falls"
    )
    beta: float = Field(1.0, gt=0, description="temperature of the target: the lower, the more the reward counts")
    window: int = Field(1024, ge=1, description="rollouts that the moving mean is over")
    normalisation: Normalisation | None = Normalisation.NONE
    kl: float | None = Field(0.0, ge=0)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (FDivergence.of(self),)
