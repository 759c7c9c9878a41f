"""Where a failure is cut when no scorer is asked."""

from __future__ import annotations

import random

import pytest

from scope_rlvr.salvage.cuts import uncertain_token


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
