"""Training with a verifier, or with labels, that err: PGBC, PGFC and OLR."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.group_rewards import RefinedLabels
from scope_rlvr.methods.parts.outcome_estimators import BackwardCorrection, ForwardCorrection


class Pgbc(Method):
    """Policy gradient with backward correction: rewards that are right on average although the verifier errs.

    ``Â = (r − ρ₀)/(1 − ρ₀ − ρ₁)`` for error rates that you have measured, on the clipped surrogate. Source: Cai et al. 2025,
    section 3.

    >>> Pgbc(false_positives=0.0, false_negatives=0.0).own_parts[0].worth(1.0)  # REINFORCE
    1.0
    """

    title: ClassVar[str] = "PGBC"
    source: ClassVar[str] = "arXiv 2510.00915"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "rewards are corrected for the error rates of the verifier"
    formula: ClassVar[str] = "`Â = (r − ρ₀)/(1 − ρ₀ − ρ₁)`; `S(Â)`"
    departures: ClassVar[str] = "the error rates are given, and not estimated by appeals to a second verifier"

    name: Literal["pgbc"] = "pgbc"
    false_positives: float = Field(
        0.1, ge=0, lt=1, description="share of the wrong answers that the verifier calls right"
    )
    false_negatives: float = Field(
        0.2, ge=0, lt=1, description="share of the right answers that the verifier calls wrong"
    )

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (BackwardCorrection.of(self),)


class Pgfc(Method):
    """Policy gradient with forward correction: right and wrong weighed by the rate of false negatives alone.

    ``Â = ρ₁`` for what the verifier calls right, ``ρ₁ − 1`` for what it calls wrong. Source: Cai et al. 2025, section 3.

    >>> Pgfc(false_negatives=0.5).own_parts[0].worth(1.0), Pgfc(false_negatives=0.5).own_parts[0].worth(0.0)
    (0.5, -0.5)
    """

    title: ClassVar[str] = "PGFC"
    source: ClassVar[str] = "arXiv 2510.00915"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "right and wrong are weighed by the rate of false negatives"
    formula: ClassVar[str] = "`Â = ρ₁ − (1 − r)`; `S(Â)`"
    departures: ClassVar[str] = "the error rate is given, and not estimated by appeals to a second verifier"

    name: Literal["pgfc"] = "pgfc"
    false_negatives: float = Field(
        0.2, ge=0, lt=1, description="share of the right answers that the verifier calls wrong"
    )

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ForwardCorrection.of(self),)


class Olr(Method):
    """Online label refinement: GRPO in which a majority that grows surer takes the place of a label that may be wrong.

    ``r = 1[answer = majority]`` where the majority's share of a problem's rollouts rises; the verifier's reward elsewhere. Source:
    OLR (2604.03993).

    >>> Olr(patience=3).own_parts[0].patience
    3
    """

    title: ClassVar[str] = "OLR"
    source: ClassVar[str] = "arXiv 2604.03993"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a majority that grows surer takes the place of the given answer"
    formula: ClassVar[str] = "`r = 1[answer = majority]` where its share rises; `Â = (r − mean) / std`; `S(Â)`"
    departures: ClassVar[str] = "a time is one step on the problem, not an epoch"

    name: Literal["olr"] = "olr"
    patience: int = Field(5, ge=2, description="times that a problem is sampled before its label may change")
    slope: float = Field(0.05, description="least rise of the majority's share from one time to the next")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (RefinedLabels.of(self),)
