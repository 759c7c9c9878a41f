"""DRIVE: all problems first, then only the hardest."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.curricula import HardFocus


class Drive(Method):
    """GRPO in two stages: wide, to raise the entropy, then on few hard problems. Source: DRIVE (2511.06307), whose
    second stage also has 64 rollouts of each problem instead of 8, and longer responses.

    >>> Drive(uniform_share=0.25).own_parts[0].uniform_share
    0.25
    """

    title: ClassVar[str] = "DRIVE"
    source: ClassVar[str] = "arXiv 2511.06307"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "all problems first, then only the hardest"
    formula: ClassVar[str] = "step ≤ ½: uniform; then the `½ᵏ` hardest in phase k; `Â = (r − mean) / std`; `S(Â)`"
    departures: ClassVar[str] = "as many rollouts in both stages; the phases and the share that is kept are chosen here"

    name: Literal["drive"] = "drive"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    uniform_share: float = Field(0.5, ge=0, le=1, description="share of the steps that train on all problems alike")
    kept_share: float = Field(0.5, gt=0, le=1, description="share of the problems that each phase keeps")
    num_phases: int = Field(2, ge=1, description="equal phases of the steps after that")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (HardFocus.of(self),)
