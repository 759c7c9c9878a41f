"""Methods whose rewards are a judge's: a tournament, and a rubric."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.rubric import REASONING, Criterion, Rubric
from scope_rlvr.methods.parts.tournament import Tournament


class Arena(Method):
    """GRPO on places in a knock-out tournament: ``r = 1 − rank/(G − 1)``, ``Â = (r − mean)/std``, ratios in [0.8, 1.28].

    The verifier decides who plays: a rollout without a known verdict does not. Source: ArenaRL (2601.06487), and its released
    code, github.com/Alibaba-NLP/qqr at 8653a9a.

    >>> Arena().own_parts[0].share
    1.0
    """

    title: ClassVar[str] = "ArenaRL"
    source: ClassVar[str] = "arXiv 2601.06487"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rewards by the rank in a tournament that a judge decides"
    formula: ClassVar[str] = "`r = 1 − rank/(G − 1)`, `Â = (r − mean)/std`; `S(Â)` with ratios in `[0.8, 1.28]`"
    departures: ClassVar[str] = "the first rollout is the anchor, in the place of a greedy one"

    name: Literal["arena"] = "arena"
    share: float = Field(1.0, gt=0, le=1, description="share of the reward that the tournament decides")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    clip: Clip | None = Clip(low=0.2, high=0.28)
    kl: float | None = Field(0.0, ge=0)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Tournament.of(self),)


class RubricAnchors(Method):
    """GRPO on the weighted share of a rubric's criteria that a judge finds met. Source: Rubric Anchors (2508.12790).

    >>> [criterion.weight for criterion in RubricAnchors().own_parts[0].criteria]
    [1.0, 1.0, 1.0]
    """

    title: ClassVar[str] = "Rubric anchors"
    source: ClassVar[str] = "arXiv 2508.12790"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "rewards by a rubric that a judge goes through"
    formula: ClassVar[str] = "`r = Σ w·m / Σ w`, 0 after a veto; `Â = (r − mean)/std`; `S(Â)`"
    departures: ClassVar[str] = (
        "one rubric for all problems; no defence against particular hacks; no stages of training"
    )

    name: Literal["rubric_anchors"] = "rubric_anchors"
    criteria: tuple[Criterion, ...] = Field(
        REASONING, min_length=1, description="the rubric: `text`, `weight` and `veto` of each criterion"
    )
    share: float = Field(
        1.0, ge=0, le=1, description="share of the reward that the rubric decides; 0 leaves the verifier's"
    )
    saturation: float = Field(1.0, gt=0, le=1, description="total from which on nothing more is paid")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Rubric.of(self),)
