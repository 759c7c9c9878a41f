"""Estimators from outcomes alone: other baselines than the group's mean, and none at all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.formulas.advantages import Normalisation, normalise
from scope_rlvr.formulas.readings import Entropy
from scope_rlvr.methods.parts.base import Estimator, Rewards, Status, TokenAdvantages
from scope_rlvr.methods.reading import Reading


class RewardEstimator(Estimator):
    """An estimator that makes one advantage of each known reward, whatever the others of the group got; nothing is divided."""

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        return [
            [
                [0.0 if reward is None else self.worth(reward)] * len(member.rollout)
                for member, reward in zip(group.members, rewards_G, strict=True)
            ]
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]

    @abstractmethod
    def worth(self, reward: float) -> float:
        """The advantage of a rollout with this reward."""


class SignedReward(RewardEstimator):
    """Right rollouts are pulled, wrong ones are pushed away, each with a weight of its own and without a baseline.

    ``Â = positive·r − negative·(1 − r)``: ``positive`` for what is right (r = 1), ``−negative`` for what is wrong (r = 0).
    ``positive = 0`` is NSR, ``negative = 0`` is PSR, and ``positive = 0.1`` W-REINFORCE. Source: Zhu et al. 2025, "The
    Surprising Effectiveness of Negative Reinforcement", and its released code, github.com/TianHongZXY/RLVR-Decomposed at
    a5d4e7c: ``verl/trainer/ppo/core_algos.py`` 111-152.

    >>> [SignedReward().worth(r) for r in (1.0, 0.0, 0.5)]
    [0.1, -1.0, -0.45]
    """

    title: ClassVar[str] = "W-REINFORCE credit"
    source: ClassVar[str] = "arXiv 2506.01347"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a weight for what is right, another one for what is wrong, no baseline"
    formula: ClassVar[str] = "`Â = 0.1·r − (1 − r)`"

    kind: Literal["signed_reward"] = "signed_reward"
    positive: float = Field(0.1, ge=0, description="advantage of a right rollout")
    negative: float = Field(1.0, ge=0, description="how far below zero the advantage of a wrong rollout is")

    def worth(self, reward: float) -> float:
        return self.positive * reward - self.negative * (1 - reward)


class BackwardCorrection(RewardEstimator):
    """Rewards of a verifier that errs, corrected so that they are right on average.

    ``Â = (r − ρ₀) / (1 − ρ₀ − ρ₁)`` with ``ρ₀`` the rate at which wrong answers are called right, ``ρ₁`` the one at which right
    answers are called wrong. Its mean is the reward that a perfect verifier would have paid. A baseline or a division by
    the deviation would undo it, so there is neither. Source: Cai et al. 2025 (PGBC), section 3.

    >>> part = BackwardCorrection(false_positives=0.1, false_negatives=0.4)
    >>> round(part.worth(1.0), 4), round(part.worth(0.0), 4)
    (1.8, -0.2)
    >>> round(0.6 * part.worth(1.0) + 0.4 * part.worth(0.0), 4), round(0.1 * part.worth(1.0) + 0.9 * part.worth(0.0), 4)
    (1.0, 0.0)
    """

    title: ClassVar[str] = "PGBC credit"
    source: ClassVar[str] = "arXiv 2510.00915"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "rewards are corrected for the error rates of the verifier"
    formula: ClassVar[str] = "`Â = (r − ρ₀) / (1 − ρ₀ − ρ₁)`"
    departures: ClassVar[str] = "the error rates are given, and not estimated by appeals to a second verifier"

    kind: Literal["backward_correction"] = "backward_correction"
    false_positives: float = Field(
        0.1, ge=0, lt=1, description="share of the wrong answers that the verifier calls right"
    )
    false_negatives: float = Field(
        0.2, ge=0, lt=1, description="share of the right answers that the verifier calls wrong"
    )

    @model_validator(mode="after")
    def _verifier_is_better_than_none(self) -> Self:
        total = self.false_positives + self.false_negatives
        if total >= 1:
            raise ValueError(
                f"false_positives + false_negatives is {total:g}; below 1, verdicts say something about answers, and at 1 "
                "or above nothing can be corrected"
            )
        return self

    def worth(self, reward: float) -> float:
        return (reward - self.false_positives) / (1 - self.false_positives - self.false_negatives)


class ForwardCorrection(RewardEstimator):
    """Weights of right and wrong that point, on average, where a perfect verifier would.

    ``Â = ρ₁`` for what the verifier calls right, ``ρ₁ − 1`` for what it calls wrong; ``ρ₁`` is the rate at which right answers
    are called wrong. The rate of the other error is not needed. No baseline, no division. Source: Cai et al. 2025 (PGFC),
    section 3.

    >>> part = ForwardCorrection(false_negatives=0.25)
    >>> part.worth(1.0), part.worth(0.0)
    (0.25, -0.75)
    """

    title: ClassVar[str] = "PGFC credit"
    source: ClassVar[str] = "arXiv 2510.00915"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "right and wrong are weighed by the rate of false negatives"
    formula: ClassVar[str] = "`Â = ρ₁ − (1 − r)`"
    departures: ClassVar[str] = "the error rate is given, and not estimated by appeals to a second verifier"

    kind: Literal["forward_correction"] = "forward_correction"
    false_negatives: float = Field(
        0.2, ge=0, lt=1, description="share of the right answers that the verifier calls wrong"
    )

    def worth(self, reward: float) -> float:
        return self.false_negatives - (1 - reward)


class SplitGroup(Estimator):
    """Two halves of a group, by length or entropy, are compared with each other and each with itself.

    The known rollouts are sorted by ``by`` and split in the middle. ``Â_i = mix·(r_i − mean of the other half) + (1 − mix)·(r_i −
    mean of its own half)``. The first part says which half does better, the second what is good within a half. Source: CANON
    (2509.23962), equation 5, and its released code, github.com/biuboomc/CANON at 7d6f814: ``verl/trainer/ppo/core_algos.py``,
    whose α, a factor on the rewards of one half, is 1 here, and whose schedules of ``mix`` are left out.

    >>> split_advantages([1.0, 0.0, 1.0, 1.0], [10, 20, 30, 40], mix=1.0)  # means of the halves: 0.5 and 1
    [0.0, -1.0, 0.5, 0.5]
    >>> split_advantages([1.0, 0.0, 1.0, 1.0], [10, 20, 30, 40], mix=0.0)
    [0.5, -0.5, 0.0, 0.0]
    """

    title: ClassVar[str] = "CANON credit"
    source: ClassVar[str] = "arXiv 2509.23962"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the group is split by entropy or length, and its halves are compared"
    formula: ClassVar[str] = "`Â = μ·(r − mean of the other half) + (1 − μ)·(r − mean of its own half)`"
    departures: ClassVar[str] = "no factor α on one half, no schedule of μ"

    kind: Literal["split_group"] = "split_group"
    by: Literal["entropy", "length"] = Field(
        "entropy", description="what rollouts are sorted by: mean entropy, or length"
    )
    mix: float = Field(1.0, ge=0, le=1, description="weight of the comparison with the other half (μ)")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("entropy", Entropy()),) if self.by == "entropy" else ()

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        split_PG = [
            split_advantages(rewards_G, [self._place(member) for member in group.members], self.mix)
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]
        return [
            [[advantage] * len(member.rollout) for member, advantage in zip(group.members, advantage_G, strict=True)]
            for group, advantage_G in zip(groups, normalise(split_PG, rewards_PG, normalisation), strict=True)
        ]

    def _place(self, member: Member) -> float:
        return float(len(member.rollout)) if self.by == "length" else fmean(member.extras.get("entropy") or [0.0])


def split_advantages(rewards_G: Sequence[float | None], places_G: Sequence[float], mix: float) -> list[float]:
    """Advantages by two halves of a group; 0 where the reward is unknown, or where one rollout alone is known."""
    known = sorted((i for i, reward in enumerate(rewards_G) if reward is not None), key=lambda i: places_G[i])
    low, high = known[: len(known) // 2], known[len(known) // 2 :]
    advantage_G = [0.0] * len(rewards_G)
    if not low:
        return advantage_G
    for own, other in ((low, high), (high, low)):
        own_mean, other_mean = (fmean(rewards_G[i] or 0.0 for i in half) for half in (own, other))
        for i in own:
            reward = rewards_G[i] or 0.0
            advantage_G[i] = mix * (reward - other_mean) + (1 - mix) * (reward - own_mean)
    return advantage_G
