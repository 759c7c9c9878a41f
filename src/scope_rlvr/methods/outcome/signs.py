"""Right and wrong weighed apart, without a baseline: W-REINFORCE, and its two halves."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.filters import PushedTokens
from scope_rlvr.methods.parts.outcome_estimators import SignedReward


class WReinforce(Method):
    """REINFORCE with the rewards +λ and −1: what is wrong is pushed away in full, what is right is pulled a little.

    ``Â = 0.1`` for what is right, ``−1`` for what is wrong, mean over all tokens; neither baseline nor deviation nor KL penalty. Source:
    Zhu et al. 2025, "The Surprising Effectiveness of Negative Reinforcement", and its released code,
    github.com/TianHongZXY/RLVR-Decomposed at a5d4e7c: ``run_qwen2.5-math-7b_psr_nsr.sh``.

    >>> WReinforce().own_parts[0].worth(1.0), WReinforce().own_parts[0].worth(0.0)
    (0.1, -1.0)
    """

    title: ClassVar[str] = "W-REINFORCE"
    source: ClassVar[str] = "arXiv 2506.01347"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "right rollouts count a tenth, wrong ones in full, no baseline"
    formula: ClassVar[str] = "`Â = 0.1·r − (1 − r)`; `S(Â)`; mean over tokens"
    departures: ClassVar[str] = "one update a batch, the release four"

    name: Literal["w_reinforce"] = "w_reinforce"
    positive: float = Field(0.1, ge=0, description="advantage of a right rollout (λ)")
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    kl: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (SignedReward.of(self),)


class Psr(Method):
    """Positive sample reinforcement: only right rollouts train, with advantage 1.

    The mean runs over their tokens alone. It sharpens what the policy does already, and is half of W-REINFORCE. Source: as there.

    >>> Psr().own_parts[0].worth(1.0), Psr().own_parts[0].worth(0.0)
    (1.0, 0.0)
    """

    title: ClassVar[str] = "PSR"
    source: ClassVar[str] = "arXiv 2506.01347"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "only what is right trains"
    formula: ClassVar[str] = "`Â = 1` on right rollouts; `S(Â)`; mean over their tokens"
    departures: ClassVar[str] = "one update a batch, the release four"

    name: Literal["psr"] = "psr"
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    kl: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return SignedReward(positive=1, negative=0), PushedTokens()


class Nsr(Method):
    """Negative sample reinforcement: only wrong rollouts train, with advantage −1.

    The mean runs over their tokens alone. Probability goes from what was wrong to everything else, in proportion to what the policy
    believed before, so that variety stays. Source: as for W-REINFORCE.

    >>> Nsr().own_parts[0].worth(1.0), Nsr().own_parts[0].worth(0.0)
    (0.0, -1.0)
    """

    title: ClassVar[str] = "NSR"
    source: ClassVar[str] = "arXiv 2506.01347"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "only what is wrong trains"
    formula: ClassVar[str] = "`Â = −1` on wrong rollouts; `S(Â)`; mean over their tokens"
    departures: ClassVar[str] = "one update a batch, the release four"

    name: Literal["nsr"] = "nsr"
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    kl: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return SignedReward(positive=0, negative=1), PushedTokens()
