"""Credit that speaks of rare outcomes alone: for batches of hard and easy problems."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import ClassVar, Literal

from scope_rlvr.core.groups import Group
from scope_rlvr.formulas.advantages import STD_FLOOR, Normalisation
from scope_rlvr.methods.parts.base import Estimator, Rewards, Status, TokenAdvantages


class RareOutcomes(Estimator):
    """Rare successes of hard problems and rare failures of easy ones carry the batch.

    With ``q`` the share of right rollouts of a group: where ``q < ½`` a right rollout is worth ``1/q`` and a wrong one
    0, else a wrong one ``−1/(1 − q)`` and a right one 0. ``Â = (v − mean v) / std v`` over all rollouts of the batch,
    which are those of the pairs; flat groups take no part and get 0. Each hard group has the mean 1 and each easy one
    −1, so that pairs have the mean 0. Division is the batch's own, whatever the objective says. Source: "Beyond
    Variance" (2602.03452), weighted GRPO: that rare outcomes are weighted on the level of the pair and normalised there
    is the paper's, the weights are argued here.

    >>> [RareOutcomes.value(True, 0.25), RareOutcomes.value(False, 0.25)]
    [4.0, 0.0]
    >>> [RareOutcomes.value(True, 0.75), RareOutcomes.value(False, 0.75)]
    [0.0, -4.0]
    """

    title: ClassVar[str] = "Weighted GRPO"
    source: ClassVar[str] = "arXiv 2602.03452"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "rare successes and rare failures are amplified"
    formula: ClassVar[str] = "`Â = (v − mean(v)) / std(v)` over the batch, `v = r/q` if `q < ½` else `−(1 − r)/(1 − q)`"
    departures: ClassVar[str] = "the weights are argued here; the normaliser is the batch, not one pair"

    kind: Literal["rare_outcomes"] = "rare_outcomes"

    @staticmethod
    def value(is_right: bool, share_right: float) -> float:
        """What an outcome is worth in a mixed group with this share of right rollouts."""
        if share_right < 0.5:
            return 1 / share_right if is_right else 0.0
        return 0.0 if is_right else -1 / (1 - share_right)

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        value_PG = [self._values(group, rewards_G) for group, rewards_G in zip(groups, rewards_PG, strict=True)]
        known = [value for value_G in value_PG for value in value_G if value is not None]
        mean, scale = (fmean(known), pstdev(known) + STD_FLOOR) if known else (0.0, 1.0)
        return [
            [
                [0.0 if value is None else (value - mean) / scale] * len(member.rollout)
                for member, value in zip(group.members, value_G, strict=True)
            ]
            for group, value_G in zip(groups, value_PG, strict=True)
        ]

    def _values(self, group: Group, rewards_G: Sequence[float | None]) -> list[float | None]:
        """One value a member, ``None`` for an unknown verdict and for all of a flat group."""
        told = [m.verdict.is_right for m, reward in zip(group.members, rewards_G, strict=True) if reward is not None]
        if len(set(told)) < 2:
            return [None] * len(group.members)
        share = sum(told) / len(told)
        return [
            None if reward is None else self.value(m.verdict.is_right, share)
            for m, reward in zip(group.members, rewards_G, strict=True)
        ]
