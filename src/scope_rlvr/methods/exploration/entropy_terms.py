"""Entropy as a term of the loss, and as a gate: SIREN, EPO, 80/20."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.outcome.dapo import Dapo
from scope_rlvr.methods.parts.anchored_entropy import AnchoredEntropy
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.terms import EntropySmoothing
from scope_rlvr.methods.parts.weights import ForkingTokens


class Siren(Method):
    """Dr. GRPO with a selective entropy regulariser: the entropy of the least certain tokens is held where it began.

    ``Â = r − mean``, summed over tokens and divided by the longest response, ratios in ``[0.8, 1.28]``, ``+ 0.005·(E − E₀)²``. Source:
    SIREN (2509.25133), and ``exp_scripts/siren.sh`` of github.com/Linn3a/siren at fa59a8d.

    >>> Siren().own_parts[0].weight
    0.005
    """

    title: ClassVar[str] = "SIREN"
    source: ClassVar[str] = "arXiv 2509.25133"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the entropy of the least certain tokens is held where it began"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `Σ_t S(Â) / longest response + 0.005·(E − E₀)²`"
    departures: ClassVar[str] = "E − E₀ is that of the policy that sampled; one update a batch, the release 16"

    name: Literal["siren"] = "siren"
    weight: float = Field(0.005, description="factor on the term")
    normalisation: Normalisation | None = Normalisation.NONE
    aggregation: Aggregation | None = Aggregation.MAX_LENGTH
    clip: Clip | None = Clip(low=0.2, high=0.28)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (AnchoredEntropy.of(self),)


class Epo(Method):
    """GRPO with entropy smoothing: a small entropy bonus, and a penalty where entropy leaves a band around its history.

    ``(r − mean)/std``, ``− 0.001·H`` and 0.1 times how far H is outside of ``[0.8, 1.2]`` times its mean so far. Source: EPO (2509.22576),
    written for agents; the phases of an episode are left out.

    >>> Epo().own_parts[0].low, Epo().own_parts[0].high
    (0.8, 1.2)
    """

    title: ClassVar[str] = "EPO"
    source: ClassVar[str] = "arXiv 2509.22576"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "entropy is held within a band around its mean so far"
    formula: ClassVar[str] = "`Â = (r − mean) / std`; `S(Â) + mean(−b·H + p·hinge(H; 0.8·H̄, 1.2·H̄))`"
    departures: ClassVar[str] = "a hinge in the place of a constant; no phases of an episode"

    name: Literal["epo"] = "epo"
    bonus: float = Field(0.001, ge=0, description="weight of the plain entropy bonus in the term")
    penalty: float = Field(0.1, ge=0, description="weight of the hinge")
    low: float = Field(0.8, ge=0, description="lower end of the band, as a multiple of the mean entropy so far")
    high: float = Field(1.2, ge=0, description="upper end of the band, as a multiple of the mean entropy so far")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (EntropySmoothing.of(self),)


class EightyTwenty(Dapo):
    """DAPO in which only the fifth of the tokens with the highest entropy trains.

    The mean of the loss runs over those tokens of the batch. Source: Wang et al. 2025, "Beyond the 80/20 Rule". EARL applies the same
    gate to code for hardware: it is this method, with a verifier of your own.

    >>> [part.kind for part in EightyTwenty().own_parts]
    ['redraw_flat_groups', 'overlong_penalty', 'forking_tokens']
    """

    title: ClassVar[str] = "80/20"
    source: ClassVar[str] = "arXiv 2506.01939"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "DAPO on the fifth of tokens with the highest entropy"
    formula: ClassVar[str] = "DAPO's, with `w_t · 1[H_t ≥ q₈₀]`"
    departures: ClassVar[str] = "redraws are bounded"

    name: Literal["eighty_twenty"] = "eighty_twenty"  # type: ignore[assignment]
    share: float = Field(
        0.2, gt=0, le=1, description="share of the batch's tokens that train, those of highest entropy"
    )

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return *super().own_parts, ForkingTokens.of(self)
