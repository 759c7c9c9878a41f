"""From the scores of steps to the first wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.salvage.rules import ArgMin, Calibrated, CalibrationMap, Drop, Threshold, TwoInARow


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], None),
        ([0.5, 0.5], None),
        ([0.5, 0.49], 1),
        ([0.49, 0.1, 0.9], 0),
        ([0.9, 0.4, 0.0], 1),  # the first, not the lowest
    ],
)
def test_the_first_step_below_the_threshold_is_wrong(scores, expected):
    rule: DecisionRule = Threshold(threshold=0.5)
    assert rule.first_wrong(scores) == expected


@pytest.mark.parametrize(("score", "accepted"), [(0.8, True), (0.79, False), (1.0, True)])
def test_a_step_passes_from_the_threshold_on(score, accepted):
    assert Threshold(threshold=0.8).accepts([score]) is accepted


def test_a_larger_threshold_never_finds_a_later_step():
    scores = [0.95, 0.7, 0.85, 0.2]
    found = [Threshold(threshold=t / 100).first_wrong(scores) for t in range(1, 101)]
    known = [len(scores) if k is None else k for k in found]
    assert known == sorted(known, reverse=True)
    assert len(set(known)) == 4


def test_a_threshold_of_one_wants_certainty():
    assert Threshold(threshold=1.0).first_wrong([1.0, 0.999]) == 1


def test_a_fall_from_the_step_before_is_wrong_and_the_first_step_has_none_before_it():
    rule: DecisionRule = Drop(drop=0.2)
    assert rule.first_wrong([0.1, 0.0, -0.1, -0.4, 0.9]) == 3
    assert rule.first_wrong([0.1, 0.3, 0.6]) is None
    assert rule.first_wrong([]) is None
    assert (rule.accepts([0.0]), rule.accepts([0.9, 0.71]), rule.accepts([0.9, 0.69])) == (True, True, False)
    assert (Drop(first_below=0.3).first_wrong([0.2, 0.9]), Drop(first_below=0.2).first_wrong([0.2, 0.9])) == (0, None)


def test_the_lowest_step_is_wrong_the_earliest_of_equals():
    rule: DecisionRule = ArgMin()
    assert rule.first_wrong([0.9, 0.3, 0.3, 0.8]) == 1
    assert rule.first_wrong([]) is None
    assert ArgMin(below=0.3).first_wrong([0.9, 0.3]) is None
    assert (rule.accepts([0.0]), rule.accepts([0.5, 0.5]), rule.accepts([0.5, 0.4])) == (True, True, False)
    assert (ArgMin(below=0.3).accepts([0.5, 0.4]), ArgMin(below=0.3).accepts([0.2])) == (True, False)


def test_one_low_step_alone_is_noise_unless_it_is_the_last():
    rule: DecisionRule = TwoInARow(threshold=0.5)
    assert rule.first_wrong([0.4, 0.6, 0.4, 0.4]) == 2
    assert rule.first_wrong([0.4, 0.6, 0.9]) is None
    assert rule.first_wrong([0.9, 0.4]) == 1
    assert (rule.accepts([0.9, 0.5]), rule.accepts([0.9, 0.4])) == (True, False)


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 1))
def test_two_in_a_row_never_finds_an_earlier_step_than_the_threshold(scores, threshold):
    one = Threshold(threshold=threshold).first_wrong(scores)
    two = TwoInARow(threshold=threshold).first_wrong(scores)
    assert two is None or (one is not None and one <= two)


MAP = CalibrationMap(scores=(0.2, 0.4, 0.8), probabilities=(0.1, 0.5, 0.9))


@pytest.mark.parametrize(
    ("score", "probability"), [(0.0, 0.1), (0.2, 0.1), (0.3, 0.3), (0.4, 0.5), (0.6, 0.7), (0.8, 0.9), (9.0, 0.9)]
)
def test_a_calibration_is_straight_between_its_points_and_flat_outside(score, probability):
    assert MAP.probability(score) == pytest.approx(probability)


@given(st.floats(-1, 2), st.floats(-1, 2))
def test_a_calibration_never_turns_two_scores_round(one, other):
    low, high = sorted((one, other))
    assert MAP.probability(low) <= MAP.probability(high) + 1e-12


def test_a_calibrated_rule_compares_probabilities():
    rule: DecisionRule = Calibrated(map=MAP, threshold=0.6)
    assert rule.first_wrong([0.8, 0.55, 0.45, 0.9]) == 2
    assert rule.accepts([0.1, 0.7])
    with pytest.raises(ValueError, match="calibrate the scorer first"):
        Calibrated().first_wrong([0.5])


@pytest.mark.parametrize(
    ("points", "part"),
    [
        ({"scores": (0.1, 0.2), "probabilities": (0.5,)}, "one for each"),
        ({"scores": (0.2, 0.2), "probabilities": (0.1, 0.5)}, "rise"),
        ({"scores": (0.1, 0.2), "probabilities": (0.5, 0.4)}, "must not fall"),
        ({"scores": (), "probabilities": ()}, "at least 1"),
        ({"scores": (0.1,), "probabilities": (1.5,)}, "less than or equal to 1"),
    ],
)
def test_what_is_no_calibration_is_refused(points, part):
    with pytest.raises(ValueError, match=part):
        CalibrationMap(**points)
