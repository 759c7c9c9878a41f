"""pass@k against enumeration, intervals against what they should cover."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.formulas.estimators import (
    bootstrap_interval,
    bootstrap_intervals,
    maj_at_k,
    pass_at_k,
    powers_of_two,
)

RIGHT, SILENT = "right", None


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


def votes_for_right(samples):
    """The chance that a vote among these samples is right, ties broken by lot."""
    counts = Counter(sample for sample in samples if sample is not SILENT)
    winners = [answer for answer, count in counts.items() if count == max(counts.values())]
    return (RIGHT in winners) / len(winners) if winners else 0.0


counts = st.tuples(st.integers(0, 4), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 2))


@given(counts.filter(lambda c: c[0] + sum(c[1]) + c[2] > 0))
def test_maj_at_k_is_the_mean_vote_of_all_subsets(drawn):
    num_right, num_wrong_A, num_silent = drawn
    wrong = [str(answer) for answer, count in enumerate(num_wrong_A) for _ in range(count)]
    samples = [RIGHT] * num_right + wrong + [SILENT] * num_silent
    for k in {1, 2, 3, len(samples) // 2, len(samples) - 1, len(samples)} & set(range(1, len(samples) + 1)):
        votes = [votes_for_right(chosen) for chosen in combinations(samples, k)]
        assert maj_at_k(num_right, num_wrong_A, num_silent, k) == pytest.approx(sum(votes) / len(votes), abs=1e-12)


def test_maj_at_k_of_one_sample_is_the_accuracy_and_of_two_with_all_answering_too():
    for k in (1, 2):
        assert maj_at_k(3, [2, 1, 1, 1], 0, k) == pytest.approx(3 / 8)


def test_a_vote_goes_to_the_most_frequent_answer_as_samples_grow():
    shares = [maj_at_k(400, [300, 300], 24, k) for k in (1, 16, 64, 256, 1000, 1024)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("k", [0, 5])
def test_maj_at_k_needs_k_samples(k):
    with pytest.raises(ValueError, match=f"maj@{k}"):
        maj_at_k(2, [1], 1, k)


@given(st.integers(1, 300))
def test_powers_of_two_end_with_the_number_itself(num_samples):
    ks = powers_of_two(num_samples)
    assert ks[0] == 1
    assert ks[-1] == num_samples
    assert all(b <= 2 * a for a, b in pairwise(ks))


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


DRAWS = {
    "uniform": (lambda rng: rng.random(60), 1 / 2),
    "success rates of eight samples": (lambda rng: rng.binomial(8, rng.beta(1, 2, 60)) / 8, 1 / 3),
}


@pytest.mark.parametrize("name", DRAWS)
def test_95_per_cent_intervals_cover_the_truth_within_binomial_error(name):
    (draw, truth), rng, num_sets = DRAWS[name], np.random.default_rng(5), 400
    intervals = [bootstrap_interval(draw(rng), num_resamples=1000, seed=i) for i in range(num_sets)]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert abs(covered - 0.95) < 3 * (0.95 * 0.05 / num_sets) ** 0.5


def test_many_measures_have_the_intervals_that_each_has_alone():
    values = np.random.default_rng(7).random((50, 3))
    values[::2, 1] = np.nan
    low, high = bootstrap_intervals(values)
    assert (low[0], high[0]) == bootstrap_interval(values[:, 0])
    assert (low[1], high[1]) == bootstrap_interval(values[:, 1])
    # Half the problems: a wider interval, around the mean of those that are defined.
    assert low[1] < np.nanmean(values[:, 1]) < high[1]
    assert high[1] - low[1] > high[0] - low[0]


def test_intervals_do_not_depend_on_how_many_draws_are_held_at_once(monkeypatch):
    values = np.random.default_rng(8).random((30, 2))
    whole = bootstrap_intervals(values)
    monkeypatch.setattr("scope_rlvr.formulas.estimators._DRAWS_AT_ONCE", 100)
    assert np.allclose(bootstrap_intervals(values), whole, rtol=1e-12)


def test_an_interval_agrees_with_resampling_by_hand():
    values = np.random.default_rng(9).random(20)
    draws = np.random.default_rng(0).integers(0, 20, (2000, 20))
    assert bootstrap_interval(values) == pytest.approx(np.quantile(values[draws].mean(axis=1), [0.025, 0.975]))
