"""KDRL: reinforcement learning and distillation from a teacher at once."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.distillation import TeacherKl


class Kdrl(Method):
    """GRPO with a penalty on the divergence from a teacher that scores the policy's own tokens.

    ``J_GRPO − β·KL(π‖π_T)``, the divergence as ``½ (log π − log π_T)²`` on each token, whose gradient is that of the divergence on
    average; mean over all tokens, no penalty towards a reference. Source: KDRL (2506.02208), objective and mean over tokens, read
    in a review and in AReaL's page on distillation at 001d59e. AReaL penalises ``log π − log π_T`` itself,
    which has no gradient on average; this follows the objective.

    >>> Kdrl(teacher_weight=0.005).own_parts[0].weight
    0.005
    """

    title: ClassVar[str] = "KDRL"
    source: ClassVar[str] = "arXiv 2506.02208"
    status: ClassVar[Status] = Status.LIBRARY
    changes: ClassVar[str] = "GRPO, and a penalty on the divergence from a teacher that scores"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â) + β·½(log π − log π_T)²`; mean over tokens"
    departures: ClassVar[str] = (
        "β is a remembered figure; its decay and reward-guided masks are options of `teacher_kl`"
    )

    name: Literal["kdrl"] = "kdrl"
    teacher_weight: float = Field(2e-3, ge=0, description="factor on the penalty; 0 is GRPO")
    only: Literal["all", "wrong", "unsolved"] = Field(
        "all",
        description="which rollouts are held to the teacher: all, wrong ones, or those of groups without a right one",
    )
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    kl: float | None = Field(0.0, ge=0)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (TeacherKl(weight=self.teacher_weight, only=self.only),)
