"""Sibling-GRPO: tokens at which rollouts part are compared with each other."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.siblings import SiblingAdvantage


class SiblingGrpo(Method):
    """GRPO, and on the tokens at which rollouts of a group part the advantage among their siblings as well. Source:
    V-STAR, generative recommendation, whose value-guided search is not here; rollouts are sampled as ever. In ``arpo``
    with the part ``sibling_advantage`` they branch.

    >>> SiblingGrpo(weight=0.5).own_parts[0].weight
    0.5
    """

    title: ClassVar[str] = "Sibling-GRPO"
    source: ClassVar[str] = "arXiv 2602.10699"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "tokens at which rollouts part are compared with each other"
    formula: ClassVar[str] = (
        "`Â_t = (r − mean) / std + (V_t − mean(V)) / (std(V) + 1e-4)` where rollouts part; `S(Â_t)`"
    )
    departures: ClassVar[str] = "language, not recommendation; no value-guided search"

    name: Literal["sibling_grpo"] = "sibling_grpo"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    weight: float = Field(1.0, ge=0, description="factor on the advantage among siblings")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (SiblingAdvantage.of(self),)
