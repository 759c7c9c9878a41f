"""PRIME's way to add up dense and outcome rewards, on the step scores of a fixed scorer."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.estimators import PaidSteps, PrimeCredit


class Prime(Method):
    """Leave-one-out of two sources of reward, each on its own, then summed from each token to the end.

    ``Â_t = process_weight · Σ_{s ≥ s(t)} (p_{i,s} − mean_{j≠i} p̄_j) + (r_i − mean_{j≠i} r_j)``, ``p̄_j`` the mean score
    of rollout j's steps. A rollout that is the only one with scores has no process part.

    Not here: the implicit reward model ``β · log(π_φ/π_ref)`` of every token, its training on the outcomes of each batch,
    the filter on a problem's accuracy, and the whitening of the released code, which without that filter would move
    groups that teach nothing. The step scorer takes the place of the first; it never learns.
    Source: Cui et al. 2025 (PRIME), section on advantage estimation.

    >>> from scope_rlvr.core.steps import Step
    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> rollout = Rollout((), (Segment((5, 6), Origin.POLICY),))
    >>> def scored(*scores_S):
    ...     return StepScores((Step("a", 0, 1), Step("b", 1, 2)), scores_S, None)
    >>> group = Group(Problem("p", "?", "1"), (
    ...     Member(rollout, Verdict(Outcome.RIGHT), step_scores=scored(0.5, 1.0)),
    ...     Member(rollout, Verdict(Outcome.WRONG), step_scores=scored(0.5, 0.0))))
    >>> [s.advantage_T for s in Prime().credit([group], [[1.0, 0.0]], Normalisation.NONE)[0]]
    [(2.0, 1.75), (-2.0, -1.75)]
    """

    title: ClassVar[str] = "PRIME credit"
    source: ClassVar[str] = "arXiv 2502.01456"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "step scores less those of the others, added to the reward"
    formula: ClassVar[str] = (
        "`Â_t = Σ_{s ≥ s(t)} (p_s − mean of the others' p̄) + (r − mean of the others' r)`; `S(Â_t)`"
    )
    departures: ClassVar[str] = (
        "without the implicit reward model and its training, the filter on accuracy, whitening and the mean over tokens"
    )

    name: Literal["prime"] = "prime"
    paid_steps: PaidSteps = Field(
        PaidSteps.AS_SCORED,
        description="which scores count: all, or none after the first wrong step, where a scorer's words mean little",
    )
    process_weight: float = Field(1.0, ge=0, description="factor on the advantage from step scores")
    baseline: Baseline = Baseline.LEAVE_ONE_OUT
    normalisation: Normalisation | None = Normalisation.NONE

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (PrimeCredit.of(self),)
