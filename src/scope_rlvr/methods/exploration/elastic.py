"""Other bounds on how far the policy may move: Lp-Reg, ETR."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.token_losses import ElasticClip, RareTokens


class LpReg(Method):
    """GRPO in which rare tokens of failures that are still plausible are held to a filtered policy.

    ``(r − mean)/std``, ratios up to 10 and no lower clip, mean over tokens, no KL penalty to the first policy. Source: Lp-Reg
    (2510.03222), and ``recipe/lp_reg/Qwen3_14b_lp_reg_onpolicy_64gpu.sh`` of github.com/CarlanLark/Lp-Reg-dev at 700298f.

    >>> LpReg().clip.high, LpReg().own_parts[0].min_p
    (9.0, 0.02)
    """

    title: ClassVar[str] = "Lp-Reg GRPO"
    source: ClassVar[str] = "arXiv 2510.03222"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rare but plausible tokens of failures are held, not pushed away"
    formula: ClassVar[str] = (
        "`Â = (r − mean) / std`; `−ρ·Â + KL(π_f, π)` on rare tokens, `S(Â)` elsewhere; mean over tokens"
    )
    departures: ClassVar[str] = "the tokens are chosen under the policy that sampled, over the whole batch"

    name: Literal["lp_reg"] = "lp_reg"
    share: float = Field(0.01, ge=0, le=1, description="share of the tokens of negative advantage, the rarest ones")
    min_p: float = Field(
        0.02, ge=0, le=1, description="least probability that the filter keeps, as a share of the largest"
    )
    penalty: float = Field(1.0, ge=0, description="factor on the divergence from the filtered policy")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=1.0, high=9.0)
    kl: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (RareTokens.of(self),)


class Etr(Method):
    """GRPO with elastic trust regions: a wider clip for large advantages and for half-solved problems.

    It makes a difference with several updates of a batch (``objective.updates_per_batch``). Source: ETR (2601.03723), abstract.

    >>> Etr().own_parts[0].by_variance
    0.5
    """

    title: ClassVar[str] = "ETR"
    source: ClassVar[str] = "arXiv 2601.03723"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "the clip is wider for large advantages and half-solved problems"
    formula: ClassVar[str] = "`Â = (r − mean) / std`; `S(Â)` with `ε·(1 + ½·tanh|Â| + ½·4q(1 − q))`"
    departures: ClassVar[str] = "the form and both numbers are argued here"

    name: Literal["etr"] = "etr"
    by_advantage: float = Field(0.5, ge=0, description="how much wider the clip is for a large advantage")
    by_variance: float = Field(0.5, ge=0, description="how much wider the clip is where half of the rollouts are right")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ElasticClip.of(self),)
