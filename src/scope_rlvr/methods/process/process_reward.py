"""Step scores as rewards: the obvious way to use a process reward model, which the others are to beat."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, StepScores
from scope_rlvr.formulas.advantages import Normalisation, deviations, normalise
from scope_rlvr.methods.method import StepRewardMethod, paid_from_here


class ProcessReward(StepRewardMethod):
    """GRPO with process supervision, plus the outcome.

    ``Â_{i,t} = Â_i + process_weight · Σ_{s ≥ s(t)} (p_{i,s} − mean(P)) / σ(P)``: ``p`` the score of a step, ``P`` the scores
    of all steps of the group's rollouts together, ``s(t)`` the step of token t, ``Â_i`` the outcome advantage of GRPO.
    ``σ`` is what the normalisation says for ``P``: 1, the group's deviation (the source), or that of the batch.

    The scores are paid as they are, so what they get wrong is paid, too: a right rollout may be pushed away, and more
    steps of more than average score are always worth more. ``paid_steps`` may leave out what comes after the first wrong
    step: neither paid nor in P. Source: Shao et al. 2024 (DeepSeekMath), section 4.1.3,
    which has no outcome term beside it.

    >>> from scope_rlvr.core.steps import Step
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
    changes: ClassVar[str] = "step scores added to the reward"
    formula: ClassVar[str] = "`Â_t = Â + Σ_{s ≥ s(t)} (p_s − mean(P)) / σ(P)`, `Â = r − mean(r)`; `S(Â_t)`"

    name: Literal["process_reward"] = "process_reward"
    process_weight: float = Field(1.0, ge=0, description="factor on the advantage from step scores")

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[list[list[float]]]:
        centred_PG = [self.outcome_advantages(g, rewards_G) for g, rewards_G in zip(groups, rewards_PG, strict=True)]
        outcome_PG = normalise(centred_PG, rewards_PG, normalisation)
        scores_PG = [self.paid_scores(group) for group in groups]
        pooled_PS = [[p for scores in scores_G if scores for p in scores.scores_S] for scores_G in scores_PG]
        return [
            [
                self._token_advantages(len(member.rollout), scores, outcome, fmean(pooled_S or [0.0]), scale)
                for member, scores, outcome in zip(group.members, scores_G, outcome_G, strict=True)
            ]
            for group, scores_G, outcome_G, pooled_S, scale in zip(
                groups, scores_PG, outcome_PG, pooled_PS, deviations(pooled_PS, normalisation), strict=True
            )
        ]

    def _token_advantages(
        self, num_tokens: int, scores: StepScores | None, outcome: float, mean_score: float, scale: float
    ) -> list[float]:
        if scores is None:
            return [outcome] * num_tokens
        paid_S = [self.process_weight * (score - mean_score) / scale for score in scores.scores_S]
        return [outcome + paid for paid in paid_from_here(paid_S, scores.steps, num_tokens)]
