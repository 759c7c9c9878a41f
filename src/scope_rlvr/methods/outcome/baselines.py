"""Other comparisons within a group or a batch: CANON, Lite PPO, ADORA."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.outcome_advantages import LengthGate
from scope_rlvr.methods.parts.outcome_estimators import SplitGroup


class Canon(Method):
    """Conditional advantages: the half of a group with high entropy is compared with the other half.

    ``Â = μ·(r − mean of the other half) + (1 − μ)·(r − mean of its own half)``, summed over tokens and divided by the longest response as
    in Dr. GRPO; ratios in ``[0.8, 1.28]``. Source: CANON (2509.23962), and ``scripts/setups.sh`` of
    github.com/biuboomc/CANON at 7d6f814.

    >>> Canon().own_parts[0].by, Canon().clip.high
    ('entropy', 0.28)
    """

    title: ClassVar[str] = "CANON"
    source: ClassVar[str] = "arXiv 2509.23962"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the group is split by entropy or length, and its halves are compared"
    formula: ClassVar[str] = "`Â = μ·(r − mean of the other half) + (1 − μ)·(r − mean of its own half)`; `S(Â)`"
    departures: ClassVar[str] = "no factor α on one half, no schedule of μ; one update a batch"

    name: Literal["canon"] = "canon"
    by: Literal["entropy", "length"] = Field(
        "entropy", description="what rollouts are sorted by: mean entropy, or length"
    )
    mix: float = Field(1.0, ge=0, le=1, description="weight of the comparison with the other half (μ)")
    normalisation: Normalisation | None = Normalisation.NONE
    aggregation: Aggregation | None = Aggregation.MAX_LENGTH
    clip: Clip | None = Clip(low=0.2, high=0.28)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (SplitGroup.of(self),)


class LitePpo(Method):
    """Two tricks and nothing else: the group's mean, the batch's deviation, and a mean over all tokens.

    ``Â = (r − mean of the group) / std of the batch``; no critic, no KL penalty, no filter of long responses. Source: Liu et al. 2025,
    "Part I: Tricks or Traps?", section 5.

    >>> LitePpo().normalisation.value, LitePpo().aggregation.value
    ('batch_std', 'token_mean')
    """

    title: ClassVar[str] = "Lite PPO"
    source: ClassVar[str] = "arXiv 2508.08221"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "division by the deviation of the batch, mean over tokens"
    formula: ClassVar[str] = "`Â = (r − mean) / std of the batch`; `S(Â)`; mean over tokens"

    name: Literal["lite_ppo"] = "lite_ppo"
    normalisation: Normalisation | None = Normalisation.BATCH_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    kl: float | None = 0.0


class Adora(Method):
    """GRPO whose groups count little where the longest success is no longer than the failures.

    ``Â = λ·(r − mean)/std`` with ``λ = 0.1`` unless success was longer than failure. Source: ADORA (2602.10019), and its released
    code for language models, github.com/ShadeCloak/ADORA at c518485.

    >>> Adora().own_parts[0].damping
    0.1
    """

    title: ClassVar[str] = "ADORA"
    source: ClassVar[str] = "arXiv 2602.10019"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "groups count little where success is not longer than failure"
    formula: ClassVar[str] = "`Â = λ·(r − mean) / std`, λ 1 or 0.1 by lengths; `S(Â)`"
    departures: ClassVar[str] = "the length advantage alone; its KL penalty is the run's to choose"

    name: Literal["adora"] = "adora"
    damping: float = Field(0.1, ge=0, le=1, description="factor on the advantages of a group that is held back")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (LengthGate.of(self),)
