"""Advantages for any rewards."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scope_rlvr.formulas.advantages import Baseline, Normalisation, centred_rewards, normalise

REWARD = st.floats(-4, 4, allow_subnormal=False)
REWARDS = st.lists(st.none() | REWARD, max_size=12)
BASELINES = st.sampled_from(list(Baseline))
MODERATE = settings(max_examples=200, deadline=None)


def centred(rewards, baseline):
    return centred_rewards(rewards, baseline, sampled_rewards=rewards)


def close(values):
    return pytest.approx(values, abs=1e-9)


@MODERATE
@given(REWARDS, BASELINES)
def test_advantages_sum_to_zero_and_unknown_ones_are_zero(rewards, baseline):
    advantages = centred(rewards, baseline)
    assert len(advantages) == len(rewards)
    assert math.fsum(advantages) == pytest.approx(0, abs=1e-9)
    assert all(a == 0 for a, r in zip(advantages, rewards, strict=True) if r is None)


@MODERATE
@given(REWARDS, BASELINES, st.data())
def test_unknown_verdicts_have_no_influence(rewards, baseline, data):
    known = [r for r in rewards if r is not None]
    without = centred(known, baseline)
    with_unknown = centred(rewards, baseline)
    assert tuple(a for a, r in zip(with_unknown, rewards, strict=True) if r is not None) == without
    for how in Normalisation:
        scaled = normalise([with_unknown], [rewards], how)[0]
        assert (
            tuple(a for a, r in zip(scaled, rewards, strict=True) if r is not None)
            == normalise([without], [known], how)[0]
        )


@MODERATE
@given(REWARDS, BASELINES, REWARD)
def test_advantages_do_not_depend_on_where_zero_is(rewards, baseline, shift):
    moved = [None if r is None else r + shift for r in rewards]
    assert centred(moved, baseline) == close(centred(rewards, baseline))


@MODERATE
@given(REWARDS, BASELINES, st.randoms(use_true_random=False))
def test_the_order_in_a_group_means_nothing(rewards, baseline, rng):
    order = list(range(len(rewards)))
    rng.shuffle(order)
    shuffled = centred([rewards[i] for i in order], baseline)
    assert shuffled == close([centred(rewards, baseline)[i] for i in order])


@MODERATE
@given(REWARDS)
def test_leave_one_out_is_the_group_mean_stretched(rewards):
    count = sum(r is not None for r in rewards)
    assume(count > 1)
    stretched = [count / (count - 1) * a for a in centred(rewards, Baseline.GROUP_MEAN)]
    assert centred(rewards, Baseline.LEAVE_ONE_OUT) == close(stretched)


@MODERATE
@given(REWARDS, REWARDS)
def test_the_sampled_baseline_moves_all_rewards_by_one_number(rewards, sampled):
    known = [r for r in sampled if r is not None]
    assume(known)
    baseline = math.fsum(known) / len(known)
    expected = [0.0 if r is None else r - baseline for r in rewards]
    assert centred_rewards(rewards, Baseline.SAMPLED_ONLY, sampled) == close(expected)


@MODERATE
@given(st.lists(REWARDS, max_size=4), st.sampled_from(list(Normalisation)))
def test_normalising_keeps_signs_and_order_within_a_group(rewards_PG, normalisation):
    advantages_PG = [centred(rewards, Baseline.GROUP_MEAN) for rewards in rewards_PG]
    for before, after in zip(advantages_PG, normalise(advantages_PG, rewards_PG, normalisation), strict=True):
        assert [math.copysign(1, a) for a in before] == [math.copysign(1, a) for a in after]
        assert sorted(range(len(before)), key=before.__getitem__) == sorted(range(len(after)), key=after.__getitem__)


@MODERATE
@given(REWARDS, st.floats(0.1, 10))
def test_dividing_by_the_deviation_forgets_the_unit_of_reward(rewards, unit):
    known = [r for r in rewards if r is not None]
    assume(len(known) > 1 and max(known) - min(known) > 1)
    scaled = [None if r is None else unit * r for r in rewards]

    def advantages(values):
        return normalise([centred(values, Baseline.GROUP_MEAN)], [values], Normalisation.GROUP_STD)[0]

    assert advantages(scaled) == pytest.approx(advantages(rewards), rel=0.02)  # up to the floor of the deviation
