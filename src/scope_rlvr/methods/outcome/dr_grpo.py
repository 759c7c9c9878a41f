"""Dr. GRPO: GRPO without its two biases."""

from __future__ import annotations

from typing import ClassVar, Literal

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status


class DrGrpo(Method):
    """``Â_i = r_i − mean(r)``, not divided by the deviation, and token losses summed and divided by a constant.

    Division by the deviation gives problems that are nearly always right or wrong more weight than others; the mean over
    a rollout's tokens makes long failures cheap. The constant is the longest allowed response. The method fixes both
    settings whatever the run's objective says; with the default objective it is ``grpo``.
    Source: Liu et al. 2025, "Understanding R1-Zero-Like Training", section 3.2.

    >>> DrGrpo().normalisation.value, DrGrpo().aggregation.value
    ('none', 'max_length')
    """

    title: ClassVar[str] = "Dr. GRPO"
    source: ClassVar[str] = "arXiv 2503.20783"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "no division by deviation or length"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `Σ_t S(Â) / longest response`"

    name: Literal["dr_grpo"] = "dr_grpo"
    normalisation: Normalisation | None = Normalisation.NONE
    aggregation: Aggregation | None = Aggregation.MAX_LENGTH
