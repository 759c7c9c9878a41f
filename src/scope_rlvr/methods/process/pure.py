"""PURE: a response is worth its worst step, and that step gets the credit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, StepScores
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.methods.method import StepRewardMethod, paid_from_here


class Pure(StepRewardMethod):
    """Min-form credit assignment, with verifiable rewards.

    With ``r_s = 2p_s − 1`` for the score p of a step: ``r*_s = r_s · softmax(−r/T)_s``, nearly all of it on the worst step.
    ``Â_t = Σ_{s ≥ s(t)} (r*_s − b_i·|s|) + outcome_weight · (r_i − mean of the others)``, where ``|s|`` counts tokens and
    ``b_i`` is what the other rollouts' steps are worth a token: ``Σ_{j≠i} Σ_s r*_{j,s} / Σ_{j≠i} |y_j|``. The token
    that ends a step, the last step excepted, has advantage 0 unless ``train_step_ends``, so that where to end a step is no
    means to a better minimum. The last step ends with the end of the response, which is learned as ever.

    A verifier's reward of −1 and 0, as in the source, has the same advantages as 0 and 1. ``|s|`` includes the separator
    here, so that the steps' baselines add up to the response's. Only rollouts with scores enter ``b``; with no other one
    scored there is no process part. Source: Cheng et al. 2025, "Stop Summation"; released code, PRM and verifier.

    >>> [round(reward, 4) for reward in min_form([1.0, 0.0, 1.0], temperature=0.1)]
    [0.0, -1.0, 0.0]
    """

    title: ClassVar[str] = "PURE"
    source: ClassVar[str] = "arXiv 2504.15275"
    changes: ClassVar[str] = "step scores by their minimum, added to the reward"
    formula: ClassVar[str] = (
        "`Â_t = Σ_{s ≥ s(t)} (r*_s − b·|s|) + (r − mean of the others' r)`, `r* = (2p−1)·softmax((1−2p)/T)`; `S(Â_t)`"
    )

    name: Literal["pure"] = "pure"
    temperature: float = Field(0.1, gt=0, description="of the softmax; the lower, the nearer to the minimum")
    outcome_weight: float = Field(1.0, ge=0, description="factor on the advantage from the outcome")
    train_step_ends: bool = Field(False, description="train the tokens that separate steps, too")
    baseline: Baseline = Baseline.LEAVE_ONE_OUT
    normalisation: Normalisation | None = Normalisation.NONE

    def group_advantages(self, group: Group, rewards_G: Sequence[float | None]) -> list[list[float]]:
        scored = {i: scores for i, scores in enumerate(self.paid_scores(group)) if scores is not None}
        rewards = {i: min_form(scores.scores_S, self.temperature) for i, scores in scored.items()}
        advantage_GT = []
        for i, (member, outcome) in enumerate(
            zip(group.members, self.outcome_advantages(group, rewards_G), strict=True)
        ):
            others = [j for j in scored if j != i]
            num_tokens = sum(step.end - step.start for j in others for step in scored[j].steps)
            process_T = [0.0] * len(member.rollout)
            if i in scored and num_tokens:
                per_token = math.fsum(r for j in others for r in rewards[j]) / num_tokens
                process_T = self._process(scored[i], rewards[i], per_token, len(member.rollout))
            advantage_T = [process + self.outcome_weight * outcome for process in process_T]
            if member.step_scores is not None and not self.train_step_ends:
                for step in member.step_scores.steps[:-1]:
                    advantage_T[step.end - 1] = 0.0
            advantage_GT.append(advantage_T)
        return advantage_GT

    @staticmethod
    def _process(scores: StepScores, rewards_S: Sequence[float], per_token: float, num_tokens: int) -> list[float]:
        paid_S = [r - per_token * (step.end - step.start) for r, step in zip(rewards_S, scores.steps, strict=True)]
        return paid_from_here(paid_S, scores.steps, num_tokens)


def min_form(scores_S: Sequence[float], temperature: float) -> list[float]:
    """Rewards of steps with these scores: their sum is close to the lowest of ``2p − 1`` and is paid there."""
    reward_S = [2 * score - 1 for score in scores_S]
    lowest = min(reward_S, default=0.0)
    pull_S = [math.exp((lowest - reward) / temperature) for reward in reward_S]
    return [reward * pull / math.fsum(pull_S) for reward, pull in zip(reward_S, pull_S, strict=True)]
