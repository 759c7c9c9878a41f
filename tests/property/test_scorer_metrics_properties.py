"""What holds for every scorer and every label: of first-error figures, calibration and the search for a rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.scorer_lab.first_error import Prediction, harmonic_mean, judge
from scope_rlvr.scorer_lab.reliability import LabelledScores, isotonic_map, reliability
from scope_rlvr.scorer_lab.rule_search import LevelSearch, MistakeCosts, ScoredRow, cheapest, mean_cost, rule_kinds

indices = st.none() | st.integers(0, 6)
answers = st.lists(st.builds(Prediction, indices, indices, st.booleans()), min_size=1, max_size=30)
chances = st.floats(0, 1)
steps = st.lists(st.tuples(chances, st.booleans()), min_size=1, max_size=30)


@st.composite
def scored_rows(draw):
    scores = tuple(draw(st.lists(st.integers(0, 20).map(lambda k: k / 20), min_size=1, max_size=5)))
    return ScoredRow(scores, draw(st.none() | st.integers(0, len(scores) - 1)))


rows = st.lists(scored_rows(), min_size=1, max_size=12)


@given(answers)
def test_shares_of_a_sort_of_rows_sum_to_one(drawn):
    found = judge(drawn, num_resamples=5)
    assert found.num_wrong + found.num_right == len(drawn)
    for count, shares in ((found.num_wrong, found.wrong), (found.num_right, found.right)):
        if count:
            assert sum(share.value for share in shares.values()) == pytest.approx(1)
        else:
            assert all(share.value is None for share in shares.values())


@given(answers)
def test_f1_lies_between_the_accuracies_and_intervals_around_what_can_be(drawn):
    found = judge(drawn, num_resamples=20)
    if found.f1.value is not None:
        both = (found.accuracy_wrong.value, found.accuracy_right.value)
        assert min(both) - 1e-12 <= found.f1.value <= max(both) + 1e-12
        assert found.f1.value == pytest.approx(harmonic_mean(*both))
        assert 0 <= found.f1.interval[0] <= found.f1.interval[1] <= 1


@given(answers, st.randoms())
def test_the_order_of_rows_does_not_matter(drawn, rng):
    shuffled = rng.sample(drawn, len(drawn))
    one, other = judge(drawn, num_resamples=2), judge(shuffled, num_resamples=2)
    assert one.distances == other.distances
    assert one.f1.value == pytest.approx(other.f1.value) if one.f1.value is not None else other.f1.value is None


@given(answers)
def test_distances_count_every_row_in_which_a_wrong_step_was_found(drawn):
    found = judge(drawn, num_resamples=2)
    assert sum(found.distances.values()) == sum(a.first_wrong is not None and a.found is not None for a in drawn)


@given(steps)
def test_calibration_error_is_a_share_and_counts_every_step(drawn):
    scores, is_right = zip(*drawn, strict=True)
    found = reliability([LabelledScores(scores, is_right)], num_resamples=2)
    assert 0 <= found.error.value <= 1
    assert sum(b.num_steps for b in found.bins) == len(drawn)
    assert all(b.low <= b.mean_score <= b.high + 1e-12 for b in found.bins if b.num_steps)


@given(steps)
def test_an_isotonic_map_rises_keeps_the_mean_and_maps_again_to_itself(drawn):
    scores, is_right = zip(*drawn, strict=True)
    found = isotonic_map(scores, is_right)
    assert list(found.probabilities) == sorted(found.probabilities)
    mapped = [found.probability(score) for score in scores]
    # Least squares: the mean is kept, and no rising function that is constant does better.
    assert sum(mapped) == pytest.approx(sum(is_right), abs=1e-6)
    share = sum(is_right) / len(is_right)
    error = sum((m - r) ** 2 for m, r in zip(mapped, is_right, strict=True))
    assert error <= sum((share - r) ** 2 for r in is_right) + 1e-9


@given(rows, st.integers(0, 3))
def test_a_level_does_to_every_row_what_its_rule_does(drawn, which):
    search = LevelSearch(rule_kinds(0.0, 1.0)[which], drawn)
    costs = MistakeCosts(late=4.0, missed=2.0, false_alarm=0.5)
    for index, total in enumerate(search.totals(costs.of())):
        rule = search.rule(index)
        found = [Prediction(row.first_wrong, rule.first_wrong(row.scores)).outcome for row in drawn]
        assert total / len(drawn) == pytest.approx(mean_cost(found, costs))


@given(rows)
def test_a_higher_level_never_finds_a_later_step(drawn):
    for kind in rule_kinds(0.0, 1.0):
        search = LevelSearch(kind, drawn)
        rules = [search.rule(i) for i in range(len(search.levels_L))]
        for row in drawn:
            found = [rule.first_wrong(row.scores) for rule in rules]
            places = [len(row.scores) if k is None else k for k in found]
            assert places == sorted(places, reverse=True)


@given(rows, st.floats(0, 10))
def test_the_choice_costs_no_more_than_any_rule_that_was_tried(drawn, late):
    costs, kinds = MistakeCosts(late=late), rule_kinds(0.0, 1.0)
    choice = cheapest(kinds, drawn, costs, num_resamples=2)
    for kind in kinds:
        assert choice.cost.value <= LevelSearch(kind, drawn).totals(costs.of()).min() / len(drawn) + 1e-6
