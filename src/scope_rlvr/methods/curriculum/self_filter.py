"""SELF: GRPO on the problems that the policy fails greedily."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.curricula import GreedyFailures


class SelfFilter(Method):
    """GRPO that leaves out what the policy solves greedily, so that training on it does not take away from the rest.

    Source: "The Reasoning Boundary Paradox" (2510.02230), SELF; see ``greedy_failures`` for the released code. 8
    rollouts of each problem there.

    >>> SelfFilter(max_rounds=1).own_parts[0].max_rounds
    1
    """

    title: ClassVar[str] = "SELF"
    source: ClassVar[str] = "arXiv 2510.02230"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "only problems that the policy fails greedily"
    formula: ClassVar[str] = "problems with `r(greedy answer) = 0`; `Â = (r − mean) / std`; `S(Â)`"
    departures: ClassVar[str] = "solved problems are exchanged, not dropped; without the paper's forward KL term"

    name: Literal["self_filter"] = "self_filter"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    max_rounds: int = Field(3, ge=0, description="how often solved problems are exchanged for fresh ones")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (GreedyFailures.of(self),)
