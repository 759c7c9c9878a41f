"""Credit: from the rewards of a group to one advantage for each rollout.

Rewards are plain floats, ``None`` where no verdict is known. Unknown rollouts take no part in any baseline or scale
and get advantage zero; what else follows from that (weight zero) is the method's streams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean, pstdev, stdev

from scope_rlvr.core.steps import Step

STD_FLOOR = 1e-4
"""Added to a standard deviation before dividing by it, as in TRL."""


class Baseline(StrEnum):
    """What a rollout's reward is compared with.

    ``GROUP_MEAN``: the mean of its group, itself included (GRPO). ``LEAVE_ONE_OUT``: the mean of the others (RLOO).
    ``SAMPLED_ONLY``: the mean of what the policy wrote unaided, also of failures that a salvaged rollout replaced.
    """

    GROUP_MEAN = "group_mean"
    LEAVE_ONE_OUT = "leave_one_out"
    SAMPLED_ONLY = "sampled_only"


class Normalisation(StrEnum):
    """What advantages are divided by: nothing, the group's reward deviation, or the whole batch's."""

    NONE = "none"
    GROUP_STD = "group_std"
    BATCH_STD = "batch_std"


def centred_rewards(
    rewards_G: Sequence[float | None], baseline: Baseline, sampled_rewards: Sequence[float | None] | None = None
) -> tuple[float, ...]:
    """Reward minus baseline for each rollout of a group; 0 where the reward is unknown.

    ``Â_i = r_i − b_i`` over the known rewards. ``sampled_rewards`` are the rewards of the unaided rollouts and are
    needed for ``SAMPLED_ONLY`` alone. A rollout without known company has nothing to be compared with: advantage 0.

    >>> centred_rewards([1.0, 0.0, 0.0, None], Baseline.GROUP_MEAN)
    (0.6666666666666667, -0.3333333333333333, -0.3333333333333333, 0.0)
    >>> centred_rewards([1.0, 0.0, 0.0], Baseline.LEAVE_ONE_OUT)
    (1.0, -0.5, -0.5)
    >>> centred_rewards([1.0, 0.0], Baseline.SAMPLED_ONLY, sampled_rewards=[0.0, 0.0])
    (1.0, 0.0)
    >>> centred_rewards([0.7, 0.7, 0.7], Baseline.GROUP_MEAN)
    (0.0, 0.0, 0.0)
    """
    known = [reward for reward in rewards_G if reward is not None]
    if baseline is Baseline.SAMPLED_ONLY:
        if sampled_rewards is None:
            raise ValueError("the baseline sampled_only needs the rewards of the sampled rollouts")
        company = [reward for reward in sampled_rewards if reward is not None]
        mean = _mean(company) if company else None
        return tuple(0.0 if reward is None or mean is None else reward - mean for reward in rewards_G)
    # The mean of equal numbers may round to another one, and a flat group would not be flat.
    if len(set(known)) < 2:
        return tuple(0.0 for _ in rewards_G)
    total, count = math.fsum(known), len(known)
    if baseline is Baseline.LEAVE_ONE_OUT:
        return tuple(0.0 if r is None else r - (total - r) / (count - 1) for r in rewards_G)
    return tuple(0.0 if reward is None else reward - total / count for reward in rewards_G)


def normalise(
    advantage_PG: Sequence[Sequence[float]],
    rewards_PG: Sequence[Sequence[float | None]],
    normalisation: Normalisation,
) -> list[tuple[float, ...]]:
    """Divide advantages by the sample standard deviation (n − 1) of the known rewards, plus ``STD_FLOOR``.

    ``GROUP_STD`` uses each group's own deviation, ``BATCH_STD`` one deviation of all rewards together.

    >>> normalise([[0.5, -0.5]], [[1.0, 0.0]], Normalisation.NONE)
    [(0.5, -0.5)]
    >>> [round(a, 4) for a in normalise([[0.5, -0.5]], [[1.0, 0.0]], Normalisation.GROUP_STD)[0]]
    [0.707, -0.707]
    """
    scales_P = deviations(rewards_PG, normalisation)
    return [tuple(a / s for a in advantage_G) for advantage_G, s in zip(advantage_PG, scales_P, strict=True)]


def deviations(rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation) -> list[float]:
    """What each group's advantages are divided by; 1 without normalisation.

    >>> deviations([[1.0, 0.0], [1.0, 1.0]], Normalisation.NONE)
    [1.0, 1.0]
    >>> [round(scale, 4) for scale in deviations([[1.0, 0.0, None], [1.0, 1.0]], Normalisation.GROUP_STD)]
    [0.7072, 0.0001]
    """
    if normalisation is Normalisation.NONE:
        return [1.0] * len(rewards_PG)
    if normalisation is Normalisation.BATCH_STD:
        return [_deviation([reward for rewards_G in rewards_PG for reward in rewards_G])] * len(rewards_PG)
    return [_deviation(rewards_G) for rewards_G in rewards_PG]


def whitened(advantage_PGT: Sequence[Sequence[Sequence[float]]]) -> list[list[list[float]]]:
    """Token advantages less their mean over the batch, divided by their deviation: ``(a − mean) / max(std, 1e-4)``.

    The deviation is that of the population (n). A token of advantage 0 keeps it and counts in neither. Source: Cheng et al.
    2025 (PURE), released code, github.com/CJReinforce/PURE at 41f9363: ``openrlhf/trainer/ppo_utils/replay_buffer.py``
    213-253, whose deviation also adds mean² up for every such token, of which it counts none.

    >>> whitened([[[3.0, 3.0, 0.0], [1.0, 1.0, 0.0]]])
    [[[1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]]]
    """
    counted = [a for advantage_GT in advantage_PGT for advantage_T in advantage_GT for a in advantage_T if a]
    if not counted:
        return [[list(advantage_T) for advantage_T in advantage_GT] for advantage_GT in advantage_PGT]
    mean, scale = fmean(counted), max(pstdev(counted), STD_FLOOR)
    return [
        [[(a - mean) / scale if a else 0.0 for a in advantage_T] for advantage_T in advantage_GT]
        for advantage_GT in advantage_PGT
    ]


def returns_to_go(step_rewards_S: Sequence[float], steps: Sequence[Step]) -> list[float]:
    """For every token, the sum of the rewards of its own step and of all later ones.

    ``steps`` partition the tokens; a step's reward is paid at its last token.

    >>> returns_to_go([1.0, 0.5], [Step("a", 0, 2), Step("b", 2, 5)])
    [1.5, 1.5, 0.5, 0.5, 0.5]
    """
    return_T: list[float] = []
    for s, step in enumerate(steps):
        return_T += [math.fsum(step_rewards_S[s:])] * (step.end - step.start)
    return return_T


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(set(values)) == 1 else fmean(values)


def _deviation(rewards: Sequence[float | None]) -> float:
    known = [reward for reward in rewards if reward is not None]
    return (stdev(known) if len(known) > 1 else 0.0) + STD_FLOOR
