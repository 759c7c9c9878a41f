"""NTHR: wrong rollouts are not punished for what they share with right ones."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.hidden import NegativeInfluence


class Nthr(Method):
    """GRPO that pushes those tokens of wrong rollouts less whose punishment would make right rollouts less likely.
    Source: NTHR, described in THR (2510.03669); see ``negative_influence`` for the formula.

    >>> Nthr().own_parts[0].beta
    1.0
    """

    title: ClassVar[str] = "NTHR"
    source: ClassVar[str] = "arXiv 2510.03669"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "what right rollouts share with wrong ones is pushed less"
    formula: ClassVar[str] = (
        "`Â = (r − mean) / std`, `Â·2|½ − q|` in wrong rollouts where `Σ_u (g·g_u)(h·h_u) > τ`; `S(Â)`"
    )
    departures: ClassVar[str] = "the k likeliest tokens of each distribution alone"

    name: Literal["nthr"] = "nthr"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    beta: float = Field(1.0, ge=0, description="factor on the threshold of influence")
    top_k: int = Field(20, ge=1, description="likeliest tokens of each distribution that are kept")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (NegativeInfluence.of(self),)
