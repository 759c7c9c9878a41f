"""RECAP: general problems are replayed beside the new ones, and each kind counts by how it fares."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.objectives import ObjectiveBalance


class Recap(Method):
    """GRPO on a file of several sources, those that must not be forgotten among them, whose weights follow their
    progress. Source: RECAP (2510.21978); see ``objective_balance`` for the formula.

    >>> Recap().own_parts[0].temperature
    5.0
    """

    title: ClassVar[str] = "RECAP"
    source: ClassVar[str] = "arXiv 2510.21978"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "kinds of problems that have stalled count more"
    formula: ClassVar[str] = "`Â = (r − mean) / std · K·softmax((c + i)/5)_k`; `S(Â)`"
    departures: ClassVar[str] = "text; objectives are kinds of problems, and their losses 1 − accuracy"

    name: Literal["recap"] = "recap"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    window: int = Field(10, ge=1, description="steps of one window")
    temperature: float = Field(5.0, gt=0, description="of the softmax; the higher, the more alike")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ObjectiveBalance.of(self),)
