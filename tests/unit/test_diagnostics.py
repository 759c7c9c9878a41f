"""Measures of a policy's reach: limits that must hold, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.formulas.diagnostics import (
    collapse_step,
    crossing,
    entropy_fit,
    shifts_by_start,
    support_change,
)
from scope_rlvr.formulas.estimators import pass_at_k

counts = st.integers(1, 8).flatmap(
    lambda n: st.lists(st.tuples(st.just(n), st.integers(0, n), st.integers(0, n)), min_size=1, max_size=12)
)


def two(rows):
    return [(n, before) for n, before, _ in rows], [(n, after) for n, _, after in rows]


@given(counts)
def test_every_problem_is_of_one_kind_and_swapping_the_policies_swaps_lost_and_found(rows):
    start, now = two(rows)
    change, back = support_change(start, now), support_change(now, start)
    assert change.kept + change.lost + change.found + change.neither == len(rows)
    assert (change.kept, change.lost, change.found) == (back.kept, back.found, back.lost)


@given(counts)
def test_a_policy_compared_with_itself_keeps_all_and_never_crosses(rows):
    start, _ = two(rows)
    change = support_change(start, start)
    assert (change.lost, change.found) == (0, 0)
    assert change.retention == 1 or math.isnan(change.retention)
    assert crossing(start, start) is None
    assert all(shift.before == shift.after for shift in shifts_by_start(start, start))


@given(counts)
def test_before_the_crossing_the_trained_policy_is_not_behind(rows):
    start, now = two(rows)
    found = crossing(start, now)
    last = rows[0][0] if found is None else found - 1
    for k in range(1, last + 1):
        before, after = (sum(pass_at_k(n, c, k) for n, c in policy) for policy in (start, now))
        assert before <= after + 1e-9


@given(counts)
def test_shifts_count_every_problem_once_and_average_to_the_whole(rows):
    start, now = two(rows)
    shifts = shifts_by_start(start, now)
    assert sum(s.num_problems for s in shifts) == len(rows)
    assert sum(s.num_problems * s.after for s in shifts) == pytest.approx(sum(c / n for n, c in now))


def test_what_was_not_sampled_alike_is_not_compared():
    for measure in (support_change, crossing, shifts_by_start):
        with pytest.raises(ValueError, match="not sampled equally often"):
            measure([(4, 1)], [(8, 1)])
        with pytest.raises(ValueError, match="not sampled equally often"):
            measure([(4, 1)], [(4, 1), (4, 0)])


def test_no_fit_without_movement():
    assert entropy_fit([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]) is None
    assert entropy_fit([1.0, 0.5], [0.1, 0.2]) is None
    with pytest.raises(ValueError, match="one entropy for each accuracy, got 2 and 1"):
        entropy_fit([1.0, 0.5], [0.1])


def test_a_collapse_is_of_a_stretch_of_steps():
    accuracy = [0.4, 0.0, 0.4, 0.0, 0.0]
    assert collapse_step(accuracy) == 2
    assert collapse_step(accuracy, stretch=2) == 5
