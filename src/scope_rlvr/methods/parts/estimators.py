"""Estimators: where advantages come from, in the place of ``reward − mean reward``.

The ones here pay the scores of a step scorer. Normalisation divides by the deviation of the rollouts' mean token advantages,
which for an outcome reward is the deviation of the rewards, and by 1 where these means are the same. A rollout without scores (the scorer failed) keeps the plain
outcome credit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, StepScores
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome
from scope_rlvr.formulas.advantages import (
    STD_FLOOR,
    Baseline,
    Normalisation,
    centred_rewards,
    deviations,
    normalise,
    whitened,
)
from scope_rlvr.methods.parts.base import Estimator, Need, Rewards, Status, TokenAdvantages
from scope_rlvr.methods.streams import paid_from_here, sampled_rewards


class PaidSteps(StrEnum):
    """Which of a rollout's step scores are paid.

    ``AS_SCORED``: all. ``NOTHING_AFTER_ERROR``: those up to the first wrong step, its own included. A scorer that was
    trained to find the first error (ProcessBench's task) says so with that step's score, which therefore counts; of a step
    that builds on an error neither "right" nor "wrong" is true, and what it says there is an accident. Such steps are left
    out of the reward, the mean and the deviation alike, as if the rollout had ended with its error. A score of 0 instead
    would be lower than the mean and punish every further step as another error.
    """

    AS_SCORED = "as_scored"
    NOTHING_AFTER_ERROR = "nothing_after_error"

    def of(self, scores: StepScores) -> StepScores:
        """The steps that are paid, with their scores.

        >>> from scope_rlvr.core.steps import Step
        >>> steps = (Step("a", 0, 2), Step("b", 2, 3), Step("c", 3, 6))
        >>> PaidSteps.NOTHING_AFTER_ERROR.of(StepScores(steps, (0.9, 0.1, 0.8), first_wrong=1)).scores_S
        (0.9, 0.1)
        """
        if self is PaidSteps.AS_SCORED or scores.first_wrong is None:
            return scores
        end = scores.first_wrong + 1
        return StepScores(scores.steps[:end], scores.scores_S[:end], scores.first_wrong)


class ScoredEstimator(Estimator):
    """An estimator that knows what the step scorer says of every rollout with a known verdict."""

    baseline: Baseline = Field(Baseline.GROUP_MEAN, description="what a reward is compared with, as in a method")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.STEP_SCORER})

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return tools.score_members(groups, lambda member: member.verdict.is_known and member.step_scores is None)

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        advantage_PGT = [self.group_advantages(g, rewards_G) for g, rewards_G in zip(groups, rewards_PG, strict=True)]
        mean_PG = [
            [None if r is None or not a_T else fmean(a_T) for a_T, r in zip(a_GT, rewards_G, strict=True)]
            for a_GT, rewards_G in zip(advantage_PGT, rewards_PG, strict=True)
        ]
        # Where the means do not differ, as in a group of one, tokens may: they are not to be divided by next to nothing.
        scales_P = [scale if scale > 2 * STD_FLOOR else 1.0 for scale in deviations(mean_PG, normalisation)]
        return [
            [
                [0.0] * len(a_T) if reward is None else [a / scale for a in a_T]
                for a_T, reward in zip(a_GT, rewards_G, strict=True)
            ]
            for a_GT, rewards_G, scale in zip(advantage_PGT, rewards_PG, scales_P, strict=True)
        ]

    def group_advantages(self, group: Group, rewards_G: Sequence[float | None]) -> list[list[float]]:
        """The advantage of every token of a group's members, before normalisation; of no account where the reward is unknown."""
        raise NotImplementedError

    def outcome_advantages(self, group: Group, rewards_G: Sequence[float | None]) -> tuple[float, ...]:
        """Reward minus baseline for each member, as in GRPO."""
        return centred_rewards(rewards_G, self.baseline, sampled_rewards(group, rewards_G))


class StepPayment(ScoredEstimator):
    """A scored estimator that pays the scores themselves."""

    paid_steps: PaidSteps = Field(
        PaidSteps.AS_SCORED,
        description="which scores count: all, or none after the first wrong step, where a scorer's words mean little",
    )

    def paid_scores(self, group: Group) -> list[StepScores | None]:
        """What of each member's step scores counts; ``None`` without scores."""
        return [None if m.step_scores is None else self.paid_steps.of(m.step_scores) for m in group.members]


class StepRewards(StepPayment):
    """The scores of a step and of all later ones, less the mean score of the group, beside the outcome.

    ``Â_{i,t} = Â_i + process_weight · Σ_{s ≥ s(t)} (p_{i,s} − mean(P)) / σ(P)``: ``p`` the score of a step, ``P`` the scores
    of all steps of the group's rollouts together, ``s(t)`` the step of token t, ``Â_i`` the outcome advantage of GRPO. ``σ``
    is what the normalisation says for ``P``. Source: Shao et al. 2024 (DeepSeekMath), section 4.1.3.

    >>> from scope_rlvr.core.steps import Step
    >>> paid_from_here([0.5, -0.25], (Step("a", 0, 2), Step("b", 2, 3)), num_tokens=3)
    [0.25, 0.25, -0.25]
    """

    title: ClassVar[str] = "Process reward"
    source: ClassVar[str] = "arXiv 2402.03300, section 4.1.3"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "step scores added to the reward"
    formula: ClassVar[str] = "`Â_t = Â + Σ_{s ≥ s(t)} (p_s − mean(P)) / σ(P)`"

    kind: Literal["step_rewards"] = "step_rewards"
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


class PrimeCredit(StepPayment):
    """Leave-one-out of two sources of reward, each on its own, then summed from each token to the end.

    ``Â_t = process_weight · Σ_{s ≥ s(t)} (p_{i,s} − mean_{j≠i} p̄_j) + (r_i − mean_{j≠i} r_j)``, ``p̄_j`` the mean score
    of rollout j's steps. A rollout that is the only one with scores has no process part. Source: Cui et al. 2025 (PRIME),
    section on advantage estimation.

    >>> from scope_rlvr.core.steps import Step
    >>> scores, others = [0.5, 1.0], [0.25]
    >>> paid_from_here([p - fmean(others) for p in scores], (Step("a", 0, 1), Step("b", 1, 2)), num_tokens=2)
    [1.0, 0.75]
    """

    title: ClassVar[str] = "PRIME credit"
    source: ClassVar[str] = "arXiv 2502.01456"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "step scores less those of the others, added to the reward"
    formula: ClassVar[str] = "`Â_t = Σ_{s ≥ s(t)} (p_s − mean of the others' p̄) + (r − mean of the others' r)`"

    kind: Literal["prime_credit"] = "prime_credit"
    process_weight: float = Field(1.0, ge=0, description="factor on the advantage from step scores")
    baseline: Baseline = Baseline.LEAVE_ONE_OUT

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


class MinForm(StepPayment):
    """A response is worth its worst step, and that step gets the credit.

    With ``r_s = 2p_s − 1`` for the score p of a step: ``r*_s = r_s · softmax(−r/T)_s``, nearly all of it on the worst step.
    ``Â_t = Σ_{s ≥ s(t)} (r*_s − b_i·|s|) + outcome_weight · (r_i − mean of the others)``, where ``|s|`` counts tokens and
    ``b_i`` is what the other rollouts' steps are worth a token: ``Σ_{j≠i} Σ_s r*_{j,s} / Σ_{j≠i} |y_j|``. The token that
    ends a step, the last of the response among them, has advantage 0 unless ``train_step_ends``. Then all other advantages of
    the batch are whitened. Source: Cheng et al. 2025 (PURE), and its released code, github.com/CJReinforce/PURE at 41f9363:
    ``openrlhf/trainer/ppo_utils/experience_maker.py`` 244-248 (step ends) and 608-728 (baselines),
    ``openrlhf/trainer/pure_trainer.py`` 230 (whitening).

    >>> [round(reward, 4) for reward in min_form([1.0, 0.0, 1.0], temperature=0.1)]
    [0.0, -1.0, 0.0]
    """

    title: ClassVar[str] = "PURE credit"
    source: ClassVar[str] = "arXiv 2504.15275"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "step scores by their minimum, added to the reward"
    formula: ClassVar[str] = (
        "`Â_t = Σ_{s ≥ s(t)} (r*_s − b·|s|) + (r − mean of the others' r)`, `r* = (2p−1)·softmax((1−2p)/T)`, 0 where a step "
        "ends, whitened over the batch"
    )

    kind: Literal["min_form"] = "min_form"
    temperature: float = Field(0.1, gt=0, description="of the softmax; the lower, the nearer to the minimum")
    outcome_weight: float = Field(1.0, ge=0, description="factor on the advantage from the outcome")
    train_step_ends: bool = Field(False, description="train the tokens that end steps, too")
    whiten: bool = Field(
        True, description="take the mean of the batch's token advantages off them, and divide by their deviation"
    )
    baseline: Baseline = Baseline.LEAVE_ONE_OUT

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        advantage_PGT = super().advantages(groups, rewards_PG, normalisation)
        return whitened(advantage_PGT) if self.whiten else advantage_PGT

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
                for step in member.step_scores.steps:
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


class GoodPrefix(ScoredEstimator):
    """Credit for the good prefix of a failure.

    ``a_{i,t}`` is the reward of the rollout, and ``prefix_credit`` (α) on the good prefix of a wrong one;
    ``Â_{i,t} = a_{i,t} − mean_i ā_i`` with ``ā_i`` the mean over the tokens of rollout i. The good prefix ends
    ``cut_back_tokens`` before the first wrong step. Source: "Save the Good Prefix" (2026), token-level credit.

    >>> alpha, share = 0.5, 2 / 4  # half of a failure is good, the other rollout is right
    >>> mean = (alpha * share + 1.0) / 2
    >>> alpha - mean, 0.0 - mean, 1.0 - mean
    (-0.125, -0.625, 0.375)
    """

    title: ClassVar[str] = "VPPO credit"
    source: ClassVar[str] = "arXiv 2601.18984"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "the good prefix of a failure is credited"
    formula: ClassVar[str] = "`Â_t = a_t − mean(ā)`, `a_t` = `r`, or `α` on the good prefix of a failure"

    kind: Literal["good_prefix"] = "good_prefix"
    prefix_credit: float = Field(0.5, ge=0, le=1, description="credit of the good prefix of a wrong rollout")
    cut_back_tokens: int | None = Field(
        None, ge=0, description="tokens given up before the first wrong step; by default as many as the prompt has"
    )
    positive_prefix: bool = Field(False, description="never push a good prefix away")

    def group_advantages(self, group: Group, rewards_G: Sequence[float | None]) -> list[list[float]]:
        num_good_G = [self._num_good_tokens(member) for member in group.members]
        credit_GT = [
            [(reward or 0.0) + (self.prefix_credit if t < num_good else 0.0) for t in range(len(member.rollout))]
            for member, reward, num_good in zip(group.members, rewards_G, num_good_G, strict=True)
        ]
        mean_G = [
            None if reward is None else fmean(credit_T or [reward])
            for credit_T, reward in zip(credit_GT, rewards_G, strict=True)
        ]
        centred_G = centred_rewards(mean_G, self.baseline, mean_G)
        advantage_GT = [
            [credit - (mean or 0.0) + centred for credit in credit_T]
            for credit_T, mean, centred in zip(credit_GT, mean_G, centred_G, strict=True)
        ]
        if self.positive_prefix:
            for advantage_T, num_good in zip(advantage_GT, num_good_G, strict=True):
                advantage_T[:num_good] = [max(0.0, advantage) for advantage in advantage_T[:num_good]]
        return advantage_GT

    def _num_good_tokens(self, member: Member) -> int:
        """Tokens of the good prefix of a failure; 0 for anything else."""
        scores = member.step_scores
        if member.verdict.outcome is not Outcome.WRONG or scores is None or scores.first_wrong is None:
            return 0
        cut_back = len(member.rollout.prompt_ids) if self.cut_back_tokens is None else self.cut_back_tokens
        return max(0, scores.steps[scores.first_wrong].start - cut_back)
