"""SDPO and SRPO: the policy, shown a right response, teaches itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.distillation.opd import ScoredRollouts
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.self_teacher import DEMONSTRATION, SampleRouting, SelfTeacher


class Sdpo(ScoredRollouts):
    """Self-distillation: each rollout with a right sibling is scored by the policy's average, which is shown that sibling.

    ``Â_t = log π̄(y_t | x, y*) − log π_old(y_t | x)``; mean over the tokens of those rollouts. Rewards only say which response
    is shown. A rollout without a right sibling trains nothing and counts nowhere.

    >>> Sdpo().average_decay
    0.95
    """

    title: ClassVar[str] = "SDPO"
    source: ClassVar[str] = "arXiv 2601.20802"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the policy's average, shown a right sibling, scores the policy's tokens; no reward"
    formula: ClassVar[str] = "`Â_t = log π̄(y_t|x, y*) − log π_old(y_t|x)`; `S(Â_t)`; mean over tokens"
    departures: ClassVar[str] = (
        "the sampled tokens, not a Jensen-Shannon divergence over the 100 likeliest; the usual clip; no environment's feedback"
    )
    reading: ClassVar[str] = "self_teacher_logprob"

    name: Literal["sdpo"] = "sdpo"
    decay: float = Field(0.95, ge=0, lt=1, description="decay of the average of the policies in a step")
    template: str = Field(
        DEMONSTRATION,
        pattern=r"\{solution\}",
        description="what the self-teacher is shown, of `{prompt}` and `{solution}`",
    )
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (SelfTeacher.of(self),)


class Srpo(Method):
    """Sample routing: a failure with a right sibling is distilled from the policy that is shown it; the rest is GRPO.

    Both in one mean over all tokens. With no group that has both right and wrong rollouts, this is GRPO.

    >>> Srpo().own_parts[0].kind
    'sample_routing'
    """

    title: ClassVar[str] = "SRPO"
    source: ClassVar[str] = "arXiv 2604.02288"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "failures with a right sibling are distilled from it, the others trained as in GRPO"
    formula: ClassVar[str] = (
        "`Â = (r − mean)/std`, or `e^(−βH̄_t)·(log π̄(y_t|x, y*) − log π_old)`; `S(Â)`; mean over tokens"
    )
    departures: ClassVar[str] = (
        "the sampled tokens, not a divergence over the likeliest; the self-teacher is an average"
    )

    name: Literal["srpo"] = "srpo"
    decay: float = Field(0.95, ge=0, lt=1, description="decay of the average of the policies in a step")
    beta: float = Field(1.0, ge=0, description="how much less an uncertain self-teacher counts; 0 counts all alike")
    template: str = Field(
        DEMONSTRATION,
        pattern=r"\{solution\}",
        description="what the self-teacher is shown, of `{prompt}` and `{solution}`",
    )
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (SampleRouting.of(self),)
