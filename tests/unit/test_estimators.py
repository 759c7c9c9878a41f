"""pass@k against enumeration, intervals against what they should cover."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from scope_rlvr.evaluation.estimators import bootstrap_interval, mean_pass_at_k, pass_at_k


@pytest.mark.parametrize("num_samples", range(1, 8))
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(num_samples):
    for num_right in range(num_samples + 1):
        samples = [True] * num_right + [False] * (num_samples - num_right)
        for k in range(1, num_samples + 1):
            subsets = [any(chosen) for chosen in combinations(samples, k)]
            assert pass_at_k(num_samples, num_right, k) == pytest.approx(sum(subsets) / len(subsets))


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_needs_k_samples(k):
    with pytest.raises(ValueError, match=f"pass@{k}"):
        pass_at_k(4, 1, k)


def test_pass_at_k_of_many_samples_stays_exact():
    assert pass_at_k(2000, 1, 1000) == 0.5


def test_the_mean_is_over_problems():
    assert mean_pass_at_k([4, 0, 2], num_samples=4, k=1) == pytest.approx(0.5)


def test_an_interval_holds_the_mean_and_shrinks_with_more_problems():
    values = np.random.default_rng(1).random(400)
    few, many = bootstrap_interval(values[:25]), bootstrap_interval(values)
    assert few[0] < values[:25].mean() < few[1]
    assert many[0] < values.mean() < many[1]
    assert many[1] - many[0] < few[1] - few[0]


def test_an_interval_is_as_wide_as_the_normal_approximation_says():
    values = np.random.default_rng(2).integers(0, 2, 300)
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 300**0.5, rel=0.1)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    draws = [bootstrap_interval(rng.random(40), num_resamples=400, level=0.8) for _ in range(200)]
    assert 0.7 < np.mean([low <= 0.5 <= high for low, high in draws]) < 0.9


def test_a_higher_level_is_wider_and_equal_seeds_agree():
    values = [0.0, 0.25, 0.5, 1.0]
    narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.95)
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]
    assert bootstrap_interval(values, seed=4) == bootstrap_interval(values, seed=4)
