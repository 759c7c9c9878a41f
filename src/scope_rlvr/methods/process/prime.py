"""PRIME's way to add up dense and outcome rewards, on the step scores of a fixed scorer."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.methods.method import StepRewardMethod, paid_from_here


class Prime(StepRewardMethod):
    """Leave-one-out of two sources of reward, each on its own, then summed from each token to the end.

    ``Â_t = process_weight · Σ_{s ≥ s(t)} (p_{i,s} − mean_{j≠i} p̄_j) + (r_i − mean_{j≠i} r_j)``, ``p̄_j`` the mean score
    of rollout j's steps. A rollout that is the only one with scores has no process part.

    Not here: the implicit reward model ``β · log(π_φ/π_ref)`` of every token, its training on the outcomes of each batch,
    the filter on a problem's accuracy, and the whitening of the released code, which without that filter would move
    groups that teach nothing. What stands for the first is the step scorer, which never learns.
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
    changes: ClassVar[str] = "step scores less those of the others, added to the reward"
    formula: ClassVar[str] = (
        "`Â_t = Σ_{s ≥ s(t)} (p_s − mean of the others' p̄) + (r − mean of the others' r)`; `S(Â_t)`"
    )

    name: Literal["prime"] = "prime"
    process_weight: float = Field(1.0, ge=0, description="factor on the advantage from step scores")
    baseline: Baseline = Baseline.LEAVE_ONE_OUT
    normalisation: Normalisation | None = Normalisation.NONE

    def group_advantages(self, group: Group, rewards_G: Sequence[float | None]) -> list[list[float]]:
        scores_G = self.paid_scores(group)
        mean_scores = {i: fmean(scores.scores_S) for i, scores in enumerate(scores_G) if scores and scores.scores_S}
        advantage_GT = []
        for i, (member, scores, outcome) in enumerate(
            zip(group.members, scores_G, self.outcome_advantages(group, rewards_G), strict=True)
        ):
            others = [mean for j, mean in mean_scores.items() if j != i]
            if scores is None or not others:
                advantage_GT.append([outcome] * len(member.rollout))
                continue
            baseline = fmean(others)
            paid_S = [self.process_weight * (score - baseline) for score in scores.scores_S]
            paid_T = paid_from_here(paid_S, scores.steps, len(member.rollout))
            advantage_GT.append([outcome + paid for paid in paid_T])
        return advantage_GT
