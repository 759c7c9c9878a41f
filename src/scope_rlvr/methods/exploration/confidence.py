"""How sure the policy was shapes what a rollout is worth: UCAS, ProGRPO, ACE, DCPO."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.advantages import ConfidencePenalty
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.confidence_advantages import AnswerConfidence, Uncertainty
from scope_rlvr.methods.parts.tempered import TemperedMix


class Ucas(Method):
    """GRPO with uncertainty-aware advantages: unsure successes and sure failures count more.

    ``(r − mean)/std`` shaped by the self-certainty of the response and the logits of its tokens, mean over tokens, no KL penalty. Source:
    UCAS (2510.10649), and ``train_ucas_math_7b.sh`` of github.com/xvolcano02/UCAS at b122ff2.

    >>> Ucas().own_parts[0].logit_weight
    0.05
    """

    title: ClassVar[str] = "UCAS"
    source: ClassVar[str] = "arXiv 2510.10649"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "unsure successes and sure failures count more"
    formula: ClassVar[str] = "`Â = (r − mean)/std · exp(∓·z(certainty)) − 0.05·m_t`; `S(Â)`; mean over tokens"
    departures: ClassVar[str] = (
        "the mean self-certainty of a response, where the release adds it up; one update a batch, the release 8"
    )

    name: Literal["ucas"] = "ucas"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    kl: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Uncertainty(),)


class ProGrpo(Method):
    """GRPO in which what the policy was sure of counts less than what it was not.

    ``(r − mean)/std + α·(c(prompt) − c(response))`` in groups with different rewards; ratios in ``[0.8, 1.28]``, mean over tokens. Source:
    ProGRPO (2602.05281), read in a note.

    >>> ProGrpo().own_parts[0].share
    0.2
    """

    title: ClassVar[str] = "ProGRPO"
    source: ClassVar[str] = "arXiv 2602.05281"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "what the policy was sure of counts less"
    formula: ClassVar[str] = "`Â = (r − mean)/std + α·(c(prompt) − c(response))`; `S(Â)`; mean over tokens"
    departures: ClassVar[str] = "α is argued here"

    name: Literal["progrpo"] = "progrpo"
    weight: float = Field(0.1, ge=0, description="factor on the difference of confidence (α)")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.28)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (AnswerConfidence.of(self),)


class Ace(Method):
    """GRPO with asymmetric confidence penalties: errors that training has made likelier are pushed away harder.

    ``(r − mean)/std``, times ``1 + α·softplus(mean log(π/π_ref))`` where it is negative. Source: ACE (2602.21420), read in a note.

    >>> Ace().own_parts[0].alpha
    1.0
    """

    title: ClassVar[str] = "ACE-GRPO"
    source: ClassVar[str] = "arXiv 2602.21420"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "errors that training has made likelier are pushed away harder"
    formula: ClassVar[str] = "`Â = (r − mean)/std`, `·(1 + α·softplus(mean log π/π_ref))` where negative; `S(Â)`"
    departures: ClassVar[str] = "α and the length normalisation are argued here"

    name: Literal["ace"] = "ace"
    alpha: float = Field(1.0, ge=0, description="strength; 0 changes nothing")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ConfidencePenalty.of(self),)


class Dcpo(Method):
    """GRPO whose right rollouts are also weighed as if drawn at another temperature, so that the entropy goes to a target.

    ``(1 − α)·(r − mean)/std + α·1[right]·π_T/π``, no KL penalty. Source: DCPO (2601.12730), and ``examples/qwen-math-7b-DCPO.sh`` of
    github.com/597358816/DCPO at 33f8073; the paper's best target is 0.25.

    >>> Dcpo().own_parts[0].target
    0.5
    """

    title: ClassVar[str] = "DCPO"
    source: ClassVar[str] = "arXiv 2601.12730"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "right rollouts are weighed as if drawn at another temperature"
    formula: ClassVar[str] = "`Â = (1 − α)·(r − mean)/std + α·1[right]·π_T/π`; `S(Â)`"
    departures: ClassVar[str] = "the entropy is that of this batch, not of the step before"

    name: Literal["dcpo"] = "dcpo"
    target: float = Field(0.5, ge=0, description="entropy in nats that the policy is steered to")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    kl: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (TemperedMix.of(self),)
