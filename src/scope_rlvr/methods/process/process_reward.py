"""Step scores as rewards: the obvious way to use a process reward model, which the others are to beat."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.estimators import PaidSteps, StepRewards


class ProcessReward(Method):
    """GRPO with process supervision, plus the outcome.

    ``Â_{i,t} = Â_i + process_weight · Σ_{s ≥ s(t)} (p_{i,s} − mean(P)) / σ(P)``: ``p`` the score of a step, ``P`` the scores
    of all steps of the group's rollouts together, ``s(t)`` the step of token t, ``Â_i`` the outcome advantage of GRPO.
    ``σ`` is what the normalisation says for ``P``: 1, the group's deviation (the source), or that of the batch.

    The scores are paid as they are, so what they get wrong is paid, too: a right rollout may be pushed away, and more
    steps of more than average score are always worth more. ``paid_steps`` may leave out what comes after the first wrong
    step: neither paid nor in P. Source: Shao et al. 2024 (DeepSeekMath), section 4.1.3,
    which has no outcome term beside it.

    >>> from scope_rlvr.core.steps import Step
    >>> from scope_rlvr.formulas.advantages import Normalisation
    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> rollout = Rollout((), (Segment((5, 6, 7), Origin.POLICY),))
    >>> def scored(*scores_S):
    ...     return StepScores((Step("a", 0, 2), Step("b", 2, 3)), scores_S, None)
    >>> group = Group(Problem("p", "?", "1"), (
    ...     Member(rollout, Verdict(Outcome.RIGHT), step_scores=scored(0.75, 1.0)),
    ...     Member(rollout, Verdict(Outcome.WRONG), step_scores=scored(0.75, 0.5))))
    >>> [s.advantage_T for s in ProcessReward().credit([group], [[1.0, 0.0]], Normalisation.NONE)[0]]
    [(0.75, 0.75, 0.75), (-0.75, -0.75, -0.75)]
    """

    title: ClassVar[str] = "Process reward"
    source: ClassVar[str] = "arXiv 2402.03300, section 4.1.3"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "step scores added to the reward"
    formula: ClassVar[str] = "`Â_t = Â + Σ_{s ≥ s(t)} (p_s − mean(P)) / σ(P)`, `Â = r − mean(r)`; `S(Â_t)`"
    departures: ClassVar[str] = "the outcome's advantage is added; the KL penalty is the run's to choose"

    name: Literal["process_reward"] = "process_reward"
    paid_steps: PaidSteps = Field(
        PaidSteps.AS_SCORED,
        description="which scores count: all, or none after the first wrong step, where a scorer's words mean little",
    )
    process_weight: float = Field(1.0, ge=0, description="factor on the advantage from step scores")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (StepRewards.of(self),)
