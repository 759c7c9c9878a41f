"""SPAE: after each step the policy is made to answer, and its confidence and correctness are credit."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.potentials import StepPotential


class Spae(Method):
    """GRPO with step potentials that probes measure. Source: SPAE (2601.03823); see ``step_potential`` for the formula
    and the released code.

    >>> Spae().own_parts[0].num_probes
    5
    """

    title: ClassVar[str] = "SPAE"
    source: ClassVar[str] = "arXiv 2601.03823"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "steps are credited with what they do to the potential to answer"
    formula: ClassVar[str] = "`Â = whiten((r − mean)·f + ½·g(ΔF))`, `F = 1.5·Acc·Conf + 0.5·Acc − Conf`; `S(Â_t)`"
    departures: ClassVar[str] = "the steps are the run's; f and g follow notes on the paper"

    name: Literal["spae"] = "spae"
    normalisation: Normalisation | None = Normalisation.NONE
    trigger: str = Field("answer", min_length=1, description="words after which the policy gives its answer")
    num_probes: int = Field(5, ge=1, description="answers after each step")
    max_tokens: int = Field(10, ge=1, description="tokens of a probed answer at most")
    alpha: float = Field(0.5, ge=0, le=1, description="how much of the outcome's advantage is lost after such steps")
    xi: float = Field(0.5, ge=0, description="factor on the change of potential")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (StepPotential.of(self),)
