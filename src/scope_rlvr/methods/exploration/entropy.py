"""What moves the entropy is weighed, masked or held back: STEER, Clip-Cov, KL-Cov."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.covariance import CovarianceMask, CovariancePenalty
from scope_rlvr.methods.parts.entropy_advantages import EntropyChange


class Steer(Method):
    """GRPO whose tokens count less the more their update would change the entropy.

    ``Â_t = (r − mean)/std · exp(−k·|Ω_t|)``, between 0.8 and 1 times the advantage; ratios in ``[0.8, 1.28]``, dual clip 10, mean over tokens.
    Source: STEER (2510.10150), and ``run/run_exp.sh`` of github.com/zz-haooo/STEER at b31df71.

    >>> Steer().clip.dual, Steer().own_parts[0].least
    (10.0, 0.8)
    """

    title: ClassVar[str] = "STEER"
    source: ClassVar[str] = "arXiv 2510.10150"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "tokens that would change the entropy most count less"
    formula: ClassVar[str] = "`Â = (r − mean) / std · exp(−k·|Ω_t|)`; `S(Â)`; mean over tokens"
    departures: ClassVar[str] = (
        "weights of the policy that sampled, over the whole batch; one update a batch, the release 16"
    )

    name: Literal["steer"] = "steer"
    least: float = Field(0.8, gt=0, le=1, description="factor on the token of the largest change")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.28, dual=10.0)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (EntropyChange.of(self),)


class ClipCov(Method):
    """GRPO in which a few tokens of high covariance between advantage and log-probability have no gradient.

    Nothing else is clipped but ratios above 2. Source: Cui et al. 2025, "The Entropy Mechanism", Clip-Cov.

    >>> ClipCov().own_parts[0].share, ClipCov().clip.high
    (0.0002, 1.0)
    """

    title: ClassVar[str] = "Clip-Cov"
    source: ClassVar[str] = "arXiv 2505.22617"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a few tokens that drive the entropy down have no gradient"
    formula: ClassVar[str] = "`Â = (r − mean) / std`, 0 on drawn tokens with `1 < cov_t < 5`; `S(Â)`; mean over tokens"
    departures: ClassVar[str] = "the covariance is that of the policy that sampled, over the whole batch"

    name: Literal["clip_cov"] = "clip_cov"
    share: float = Field(
        2e-4, ge=0, le=1, description="share of the batch's tokens that are masked, at least one token"
    )
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=1.0, high=1.0)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (CovarianceMask.of(self),)


class KlCov(Method):
    """GRPO without a clip, in which the tokens of the highest covariance may not move far.

    ``−ρ·Â + |log ρ|`` on those tokens, ``−ρ·Â`` on all others. It makes a difference with several updates of a batch
    (``objective.updates_per_batch``). Source: Cui et al. 2025, "The Entropy Mechanism", KL-Cov.

    >>> KlCov().own_parts[0].penalty
    1.0
    """

    title: ClassVar[str] = "KL-Cov"
    source: ClassVar[str] = "arXiv 2505.22617"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a few tokens that drive the entropy down may not move far"
    formula: ClassVar[str] = (
        "`Â = (r − mean) / std`; `−ρ·Â`, and `+ |log ρ|` where `cov_t` is highest; mean over tokens"
    )
    departures: ClassVar[str] = "the covariance is that of the policy that sampled, over the whole batch"

    name: Literal["kl_cov"] = "kl_cov"
    share: float = Field(
        2e-4, ge=0, le=1, description="share of the batch's tokens that are held back, at least one token"
    )
    penalty: float = Field(1.0, ge=0, description="factor on how far a token's log-probability has moved")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (CovariancePenalty.of(self),)
