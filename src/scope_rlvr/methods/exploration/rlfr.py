"""RLFR: a flow in the space of hidden states pays for each token."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.flow_reward import FlowReward


class Rlfr(Method):
    """GRPO with small costs for tokens that a flow of right responses would not have taken. Source: RLFR; see
    ``flow_reward`` for the formula and the released code. 8 rollouts, no KL penalty.

    >>> Rlfr().own_parts[0].num_tokens, Rlfr().kl
    (15, 0.0)
    """

    title: ClassVar[str] = "RLFR"
    source: ClassVar[str] = "arXiv 2510.10201"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "hidden steps that right responses do not take cost a little"
    formula: ClassVar[str] = "`Â_t = (r − mean) / std − 0.01·Σ_{s≥t} deviation_s` of a flow-matching head; `S(Â_t)`"
    departures: ClassVar[str] = "the last layer alone; the flow is not trained on expert data before; a smaller network"

    name: Literal["rlfr"] = "rlfr"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    kl: float | None = Field(0.0, ge=0)
    weight: float = Field(0.01, ge=0, description="what the largest deviation of a response costs")
    warmup: int = Field(10, ge=0, description="steps in which the flow only learns")
    learning_rate: float = Field(1e-4, gt=0, description="of the network's own AdamW")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (FlowReward.of(self),)
