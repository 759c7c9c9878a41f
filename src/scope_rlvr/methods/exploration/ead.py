"""EAD: explore at the beginning of a response, then finish what was begun."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.decoding import AnnealedDecoding


class Ead(Method):
    """GRPO on rollouts whose temperature falls with the place in the response. Source: EAD, "Let it Calm" (2510.05251),
    and its released code, github.com/yangalan123/EAD-RLVR: ``verl/workers/rollout/vllm_rollout/annealed_sampling.py``;
    16 rollouts.

    >>> round(Ead().own_parts[0].temperature(300, step=1), 3)
    0.551
    """

    title: ClassVar[str] = "EAD"
    source: ClassVar[str] = "arXiv 2510.05251"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the temperature falls with the place in the response"
    formula: ClassVar[str] = "`T_t = max(1 + T_max − exp(t/(20·d)), T_min)`; `Â = (r − mean) / std`; `S(Â)`"
    departures: ClassVar[str] = "no correction of log-probabilities by the same temperatures"

    name: Literal["ead"] = "ead"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    flat: int = Field(10, ge=0, description="first tokens, drawn at the run's temperature")
    highest: float = Field(1.2, gt=0, description="T_max")
    lowest: float = Field(0.1, gt=0, description="T_min, the lowest temperature")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (AnnealedDecoding.of(self),)
