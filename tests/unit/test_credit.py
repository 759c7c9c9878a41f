"""Advantages by hand."""

from __future__ import annotations

from statistics import stdev

import pytest

from scope_rlvr.formulas.advantages import STD_FLOOR, Baseline, Normalisation, centred_rewards, normalise


@pytest.mark.parametrize(
    ("rewards", "baseline", "expected"),
    [
        ([1.0, 0.0, 0.0, 0.0], Baseline.GROUP_MEAN, [0.75, -0.25, -0.25, -0.25]),
        ([1.0, 0.0, 0.0, 0.0], Baseline.LEAVE_ONE_OUT, [1.0, -1 / 3, -1 / 3, -1 / 3]),
        ([1.0, None, 0.0], Baseline.GROUP_MEAN, [0.5, 0.0, -0.5]),
        ([1.0, None, 0.0], Baseline.LEAVE_ONE_OUT, [1.0, 0.0, -1.0]),
        ([1.0, None], Baseline.GROUP_MEAN, [0.0, 0.0]),
        ([1.0, None], Baseline.LEAVE_ONE_OUT, [0.0, 0.0]),
        ([None, None], Baseline.GROUP_MEAN, [0.0, 0.0]),
        ([], Baseline.GROUP_MEAN, []),
        ([1.0] * 3, Baseline.LEAVE_ONE_OUT, [0.0] * 3),
    ],
)
def test_reward_minus_baseline(rewards, baseline, expected):
    assert centred_rewards(rewards, baseline) == pytest.approx(expected)


def test_one_salvage_in_a_group_of_eight_failures():
    assert centred_rewards([1.0] + [0.0] * 7, Baseline.GROUP_MEAN) == (7 / 8, *[-1 / 8] * 7)


def test_the_sampled_baseline_ignores_salvaged_rollouts():
    assert centred_rewards([1.0, 1.0, 0.0], Baseline.SAMPLED_ONLY, [1.0, 0.0, 0.0, None]) == pytest.approx(
        [2 / 3, 2 / 3, -1 / 3]
    )
    assert centred_rewards([1.0, None], Baseline.SAMPLED_ONLY, [None]) == (0.0, 0.0)


def test_the_sampled_baseline_needs_the_sampled_rewards():
    with pytest.raises(ValueError, match="sampled_only"):
        centred_rewards([1.0, 0.0], Baseline.SAMPLED_ONLY)


def test_division_by_the_deviation_of_the_group_or_the_batch():
    rewards = [[1.0, 0.0, None], [1.0, 1.0, 0.0]]
    advantages = [[0.5, -0.5, 0.0], [1 / 3, 1 / 3, -2 / 3]]
    by_group = normalise(advantages, rewards, Normalisation.GROUP_STD)
    first, second = stdev([1, 0]) + STD_FLOOR, stdev([1, 1, 0]) + STD_FLOOR
    assert by_group[0] == pytest.approx([0.5 / first, -0.5 / first, 0.0])
    assert by_group[1] == pytest.approx([1 / 3 / second, 1 / 3 / second, -2 / 3 / second])
    scale = stdev([1, 0, 1, 1, 0]) + STD_FLOOR
    by_batch = normalise(advantages, rewards, Normalisation.BATCH_STD)
    assert by_batch[1] == pytest.approx([1 / 3 / scale, 1 / 3 / scale, -2 / 3 / scale])
    assert normalise(advantages, rewards, Normalisation.NONE) == [tuple(a) for a in advantages]


@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_a_group_without_differences_stays_at_zero(normalisation):
    assert normalise([[0.0, 0.0]], [[1.0, 1.0]], normalisation) == [(0.0, 0.0)]
    assert normalise([[0.0]], [[None]], normalisation) == [(0.0,)]


@pytest.mark.parametrize("baseline", list(Baseline))
@pytest.mark.parametrize("reward", [0.1, 0.7, 0.9, -0.3])
@pytest.mark.parametrize("count", [2, 3, 6, 9, 12])
def test_equal_rewards_of_any_size_have_no_advantage_at_all(baseline, reward, count):
    assert centred_rewards([reward] * count, baseline, [reward] * count) == (0.0,) * count
