"""From scores to the first wrong step, and from entropies to a token."""

from __future__ import annotations

import random

import pytest

from scope_rlvr.locate import Threshold, uncertain_token
from scope_rlvr.ports import DecisionRule


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
    rule: DecisionRule = Threshold(0.5)
    assert rule.first_wrong(scores) == expected


@pytest.mark.parametrize(("score", "accepted"), [(0.8, True), (0.79, False), (1.0, True)])
def test_a_step_passes_from_the_threshold_on(score, accepted):
    assert Threshold(0.8).accepts(score) is accepted


def test_a_larger_threshold_never_finds_a_later_step():
    scores = [0.95, 0.7, 0.85, 0.2]
    found = [Threshold(t / 100).first_wrong(scores) for t in range(1, 101)]
    known = [len(scores) if k is None else k for k in found]
    assert known == sorted(known, reverse=True)
    assert len(set(known)) == 4


def test_a_threshold_of_one_wants_certainty():
    assert Threshold(1.0).first_wrong([1.0, 0.999]) == 1


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, float("nan")])
def test_thresholds_outside_the_unit_interval_are_refused(threshold):
    with pytest.raises(ValueError, match=str(threshold)):
        Threshold(threshold)


def test_an_uncertain_token_is_drawn_evenly_among_the_most_uncertain():
    entropy_T = [5.0, 0.1, 3.0, 0.1, 2.0, 4.0]
    drawn = [uncertain_token(entropy_T, 3, random.Random(seed)) for seed in range(300)]
    assert set(drawn) == {2, 4, 5}
    assert all(70 < drawn.count(token) < 130 for token in (2, 4, 5))


def test_of_equal_entropies_the_earlier_comes_first():
    assert {uncertain_token([1.0] * 9, 2, random.Random(seed)) for seed in range(20)} == {1, 2}


@pytest.mark.parametrize("entropy_T", [[], [3.0]])
def test_where_nothing_lies_behind_a_token_there_is_none_and_nothing_is_drawn(entropy_T):
    rng, untouched = random.Random(0), random.Random(0)
    assert uncertain_token(entropy_T, 20, rng) == 0
    assert rng.random() == untouched.random()
