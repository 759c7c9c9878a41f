"""Calibration error and pooled adjacent violators on numbers that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from scope_rlvr.core.types import Problem
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.salvage.rules import CalibrationMap
from scope_rlvr.scorer_lab.bench import ScoredSet
from scope_rlvr.scorer_lab.reliability import LabelledScores, calibrated_elsewhere, isotonic_map, reliability


def test_calibration_error_by_hand():
    # Bin [0.2, 0.3): 0.2 and 0.28, one right: |0.5 - 0.24|. Bin [0.9, 1]: 0.9, 0.96, 1.0, two right: |2/3 - 0.95333|.
    rows = [LabelledScores((0.2, 0.96), (False, True)), LabelledScores((0.28, 0.9, 1.0), (True, True, False))]
    found = reliability(rows)
    assert [(b.low, b.high, b.num_steps) for b in found.bins if b.num_steps] == [(0.2, 0.3, 2), (0.9, 1.0, 3)]
    assert found.error.value == pytest.approx((2 * 0.26 + 3 * (2.86 / 3 - 2 / 3)) / 5)
    assert found.num_steps == 5


def test_a_bin_begins_where_it_says():
    found = reliability([LabelledScores(tuple(k / 10 for k in range(11)), (True,) * 11)])
    assert [b.num_steps for b in found.bins] == [1] * 9 + [2]


def test_scores_that_mean_what_they_say_have_no_error():
    rows = [LabelledScores((0.75,) * 4, (True, True, True, False)), LabelledScores((0.0, 1.0), (False, True))]
    assert reliability(rows).error.value == pytest.approx(0.0)


@pytest.mark.parametrize("score", [-0.1, 1.1])
def test_what_is_no_probability_has_no_reliability(score):
    with pytest.raises(ValueError, match=r"lies in \[0, 1\]"):
        reliability([LabelledScores((score,), (True,))])


def test_steps_that_count_end_with_the_first_wrong_one():
    problem = Problem("p", "?", "")
    solutions = (LabelledSolution(problem, ("a", "b", "c"), 1), LabelledSolution(problem, ("a", "b"), None))
    rows = ScoredSet("made", (*solutions, solutions[0]), ((0.9, 0.2, 0.7), (0.8, 0.6), None)).labelled_scores()
    assert rows == [LabelledScores((0.9, 0.2), (True, False)), LabelledScores((0.8, 0.6), (True, True))]


@pytest.mark.parametrize(
    ("scores", "is_right", "points"),
    [
        # Rising already: nothing is pooled.
        ([0.1, 0.5, 0.9], [0, 0, 1], [(0.1, 0), (0.5, 0), (0.9, 1)]),
        # One violator: 1, 0 become 1/2, 1/2.
        ([0.1, 0.2], [1, 0], [(0.1, 0.5), (0.2, 0.5)]),
        # Pooling goes on backwards: 1/2, 1 pooled with 0, 0 becomes 2/5 and then takes the 1 in front of it: 3/6.
        ([0.1, 0.2, 0.2, 0.3, 0.4, 0.4], [1, 1, 0, 1, 0, 0], [(0.1, 0.5), (0.4, 0.5)]),
        # Equal scores are one point with their share: 1/3, then 1.
        ([0.3, 0.3, 0.3, 0.8], [1, 0, 0, 1], [(0.3, 1 / 3), (0.8, 1)]),
        ([0.7], [1], [(0.7, 1)]),
    ],
)
def test_pooled_adjacent_violators_by_hand(scores, is_right, points):
    found = isotonic_map(scores, [bool(right) for right in is_right])
    # Equal neighbours pool, so a level stretch is its two ends.
    merged = [points[0]]
    for score, share in points[1:]:
        if len(merged) > 1 and merged[-1][1] == merged[-2][1] == share:
            merged.pop()
        merged.append((score, share))
    assert found.scores == tuple(score for score, _ in merged)
    assert found.probabilities == pytest.approx([share for _, share in merged])


def test_order_of_the_steps_does_not_matter():
    scores, is_right = [0.4, 0.1, 0.9, 0.3], [True, False, True, True]
    assert isotonic_map(scores, is_right) == isotonic_map(scores[::-1], is_right[::-1])


def test_a_map_between_its_points():
    found = isotonic_map([0.2, 0.4, 0.6], [False, True, True])
    assert found == CalibrationMap(scores=(0.2, 0.4, 0.6), probabilities=(0.0, 1.0, 1.0))
    assert found.probability(0.3) == pytest.approx(0.5)


def test_no_step_no_map():
    with pytest.raises(ValueError, match="at least one"):
        isotonic_map([], [])


def test_calibration_mends_scores_that_do_not_mean_what_they_say():
    # The score says 0.9 for what is right half of the time, 0.8 for what never is.
    rng = np.random.default_rng(0)
    rows = [LabelledScores((0.9, 0.8), (bool(rng.random() < 0.5), False)) for _ in range(400)]
    before, after = reliability(rows).error.value, reliability(calibrated_elsewhere(rows)).error.value
    assert before == pytest.approx(0.6, abs=0.05)
    assert after < 0.05


def test_rows_are_calibrated_by_maps_that_have_not_seen_them():
    # Only the one row knows a right step; a map that had seen it would call its score right.
    rows = [LabelledScores((0.9,), (True,)), *[LabelledScores((0.5,), (False,))] * 9]
    assert calibrated_elsewhere(rows)[0].scores == (0.0,)
    assert [row.is_right for row in calibrated_elsewhere(rows)] == [row.is_right for row in rows]
