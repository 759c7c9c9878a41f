"""Numbers worked out by hand, the same from SciPy's own tests, and intervals that cover what they promise."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scope_rlvr.study import statistics
from scope_rlvr.study.statistics import (
    first_reached,
    holm,
    interpolate,
    mean_interval,
    paired_difference,
    relative_change,
    sign_flip_test,
    smoothed,
    t_test,
)

FEW = st.lists(st.floats(-10, 10, allow_nan=False), min_size=2, max_size=9)


def test_an_interval_by_hand() -> None:
    # Mean 0.5, squared deviations 0.04 + 0.01 + 0 + 0.01 + 0.04 = 0.1, s = sqrt(0.1/4), t_{0.975, 4} = 2.776445.
    found = mean_interval([0.3, 0.4, 0.5, 0.6, 0.7])
    reach = 2.776445 * math.sqrt(0.025) / math.sqrt(5)
    assert found.num_seeds == 5
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == (pytest.approx(0.5 - reach, abs=1e-6), pytest.approx(0.5 + reach, abs=1e-6))


def test_one_seed_has_a_mean_and_no_interval() -> None:
    found = mean_interval([0.4])
    assert (found.mean, found.low, found.high, found.num_seeds) == (0.4, None, None, 1)
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])


@given(FEW)
def test_intervals_are_scipys(values: list[float]) -> None:
    found = mean_interval(values)
    error = stats.sem(values)
    if error > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(("num_seeds", "level"), [(3, 0.95), (5, 0.95), (10, 0.95), (5, 0.8)])
def test_intervals_cover_the_truth_as_often_as_they_say(num_seeds: int, level: float) -> None:
    rng, num_studies = np.random.default_rng(0), 2000
    hits = 0
    for _ in range(num_studies):
        found = mean_interval(list(rng.normal(0.6, 0.05, num_seeds)), level)
        hits += found.low <= 0.6 <= found.high
    # Three deviations of a binomial share.
    assert hits / num_studies == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / num_studies))


@given(FEW)
def test_the_t_test_is_scipys(values: list[float]) -> None:
    if stats.sem(values) > 1e-6:
        assert t_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_differences_without_spread() -> None:
    assert t_test([0.0, 0.0]) == 1.0
    assert t_test([0.1, 0.1, 0.1]) == 0.0
    assert t_test([0.1]) is None
    assert sign_flip_test([0.0, 0.0]) == 1.0
    assert sign_flip_test([]) is None


def test_sign_flips_by_hand() -> None:
    # Sums of ±1 ±2 ±3 ±4: 10 and -10 are the only ones as far out as 10; 8 is reached by 4 of 16.
    assert sign_flip_test([1, 2, 3, 4]) == 2 / 16
    assert sign_flip_test([-1, 2, 3, 4]) == 4 / 16
    assert sign_flip_test([0.1, 0.2, -0.3]) == 1.0


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=8))
def test_sign_flips_are_counted_exactly(values: list[int]) -> None:
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((-1, 1), repeat=len(values))
    ]
    assert sign_flip_test(values) == sum(s >= abs(sum(values)) for s in sums) / len(sums)


def test_sign_flips_are_scipys() -> None:
    values = [0.031, -0.004, 0.022, 0.017, 0.009, 0.026]
    found = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_test(values) == pytest.approx(found.pvalue)


def test_many_pairs_are_drawn_with_a_seed_and_agree_with_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(3).normal(0.3, 1, 12))
    exact = sign_flip_test(values)
    monkeypatch.setattr(statistics, "EXACT_SIGN_FLIPS", 11)
    drawn = sign_flip_test(values)
    assert drawn == sign_flip_test(values)
    assert drawn == pytest.approx(exact, abs=3 * math.sqrt(exact * (1 - exact) / 100_000))
    # Never zero: the observed flip is one of those that were seen.
    assert sign_flip_test([1.0] * 30, num_draws=99) == 1 / 100


def test_p_values_without_an_effect_are_uniform() -> None:
    rng = np.random.default_rng(1)
    ps = [sign_flip_test(list(rng.normal(0, 1, 8))) for _ in range(400)]
    assert np.mean([p <= 0.05 for p in ps]) == pytest.approx(0.05, abs=0.035)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04, made to rise: 0.02, 0.03, 0.06, 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_nothing_and_bonferroni(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= a <= min(1, len(ps) * p) + 1e-12 for p, a in zip(ps, adjusted, strict=True))
    assert sorted(range(len(ps)), key=lambda i: (ps[i], i)) == sorted(
        range(len(ps)), key=lambda i: (adjusted[i], ps[i], i)
    )


def test_paired_differences_need_equal_lengths() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0], [1.0, 2.0])


def test_pairing_takes_out_what_the_seeds_share() -> None:
    seeds = [0.1, 0.5, 0.9, 0.3]
    found = paired_difference([s + d for s, d in zip(seeds, (0.02, 0.03, 0.02, 0.03), strict=True)], seeds)
    assert found.interval.mean == pytest.approx(0.025)
    assert found.interval.low > 0.01
    assert found.p_t < 0.01
    assert found.p_sign_flip == 2 / 16


def test_a_relative_change_is_that_of_the_geometric_mean() -> None:
    found = relative_change([1.2, 1.5], [1.0, 1.0])
    assert found.mean == pytest.approx(math.sqrt(1.2 * 1.5) - 1)
    assert found.low < 0.2
    assert relative_change([0.0, 1.0], [1.0, 1.0]) is None
    assert relative_change([], []) is None


def test_curves_are_read_between_their_points() -> None:
    assert interpolate([1, 2, 4], [0.0, 1.0, 0.0], 3) == 0.5
    assert interpolate([1, 2], [0.0, 1.0], 0.5) is None
    assert interpolate([], [], 1) is None
    assert smoothed([]) == []
    assert smoothed([2.0]) == [2.0]


def test_where_a_curve_first_reaches_a_height() -> None:
    assert first_reached([20, 40, 60], [0.2, 0.6, 0.5], 0.5) == pytest.approx(35)
    assert first_reached([20, 40], [0.7, 0.8], 0.5) == 20
    assert first_reached([20, 40], [0.2, 0.4], 0.5) is None
    assert first_reached([], [], 0.5) is None
