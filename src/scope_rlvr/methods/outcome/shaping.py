"""Advantages shaped by perplexity, place, and what of the log-ratio is still to come."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.confidence_advantages import Perplexity
from scope_rlvr.methods.parts.outcome_advantages import LogRatioSteps, PositionBonus


class PerplexityShaping(Method):
    """GRPO in which rollouts of low perplexity count a little more, one of the two methods of its paper.

    ``(r − mean)/std · (1 − 0.01·z(log PPL))``. Source: Deng et al. 2025, "Decomposing the Entropy-Performance Exchange", abstract.

    >>> PerplexityShaping().own_parts[0].strength
    0.01
    """

    title: ClassVar[str] = "Perplexity-shaped GRPO"
    source: ClassVar[str] = "arXiv 2508.02260"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "rollouts of low perplexity count a little more"
    formula: ClassVar[str] = "`Â = (r − mean)/std · (1 − 0.01·z(log PPL))`; `S(Â)`"
    departures: ClassVar[str] = "its strength is argued here"

    name: Literal["perplexity_shaping"] = "perplexity_shaping"
    strength: float = Field(0.01, ge=0, description="change for one deviation of log-perplexity; 0 changes nothing")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Perplexity.of(self),)


class PositionShaping(Method):
    """GRPO in which later tokens are pulled and pushed more, the other one of the two methods of its paper.

    ``(r − mean)/std + 0.1·sign(Â)·σ(2t/|y|)``. Source: Deng et al. 2025, "Decomposing the Entropy-Performance Exchange", abstract.

    >>> PositionShaping().own_parts[0].gain
    0.1
    """

    title: ClassVar[str] = "Position-shaped GRPO"
    source: ClassVar[str] = "arXiv 2508.02260"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "tokens near the end are pulled and pushed more"
    formula: ClassVar[str] = "`Â_t = (r − mean)/std + 0.1·sign(Â)·σ(2t/|y|)`; `S(Â_t)`"
    departures: ClassVar[str] = "both numbers are argued here"

    name: Literal["position_shaping"] = "position_shaping"
    gain: float = Field(0.1, ge=0, description="size of the bonus; 0 changes nothing")
    steepness: float = Field(2.0, ge=0, description="how fast the bonus rises with the place of a token")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (PositionBonus.of(self),)


class Prl(Method):
    """Process reward learning: a KL penalty to the first policy, credited step by step as reward to go.

    ``Â_t = (r − mean)/std − Σ_{s ≥ e(t)} log(π_old/π_ref)_s / 200`` with blocks of 256 tokens as steps, mean over tokens. Source: PRL
    (2601.10201), and ``runs/run_grpo.sh`` of github.com/MaxwellJryao/Process-Reward-Learning at 1ee49fa, with the estimator that the
    paper describes and the script leaves out.

    >>> Prl().own_parts[0].eta, Prl().own_parts[0].block
    (200.0, 256)
    """

    title: ClassVar[str] = "PRL"
    source: ClassVar[str] = "arXiv 2601.10201"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a KL penalty as process reward, block by block"
    formula: ClassVar[str] = (
        "`Â_t = (r − mean)/std − Σ_{s ≥ e(t)} log(π_old/π_ref)_s / 200`; `S(Â_t)`; mean over tokens"
    )
    departures: ClassVar[str] = "steps are blocks of tokens, not lines or paragraphs"

    name: Literal["prl"] = "prl"
    eta: float = Field(200.0, gt=0, description="what the log-ratio is divided by; the larger, the weaker the penalty")
    block: int = Field(256, ge=1, description="tokens of a step")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (LogRatioSteps.of(self),)
