"""The best rule and level: by hand, against trying every level, and how sure a choice is."""

from __future__ import annotations

import random

import pytest

from scope_rlvr.salvage.rules import ArgMin, Calibrated, CalibrationMap, Drop, Threshold, TwoInARow
from scope_rlvr.scorer_lab.first_error import Prediction, harmonic_mean, judge
from scope_rlvr.scorer_lab.rule_search import (
    LevelSearch,
    MistakeCosts,
    ScoredRow,
    best_f1,
    cheapest,
    kind_of,
    mean_cost,
    rule_kinds,
)

MAP = CalibrationMap(scores=(0.0, 0.5, 1.0), probabilities=(0.0, 0.8, 1.0))
RULES = [Threshold(), TwoInARow(), Drop(), Drop(first_below=0.3), ArgMin(), Calibrated(map=MAP)]


def random_rows(seed, count=40):
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        scores = tuple(round(rng.random(), 2) for _ in range(rng.randint(1, 6)))
        rows.append(ScoredRow(scores, rng.choice([None, *range(len(scores))])))
    return rows


def answers(rule, rows):
    return [Prediction(row.first_wrong, rule.first_wrong(row.scores)) for row in rows]


def f1_of(rule, rows):
    hits = {True: [], False: []}
    for row in rows:
        hits[row.first_wrong is None].append(rule.first_wrong(row.scores) == row.first_wrong)
    a, b = (sum(some) / len(some) for some in hits.values())
    return 2 * a * b / (a + b) if a + b else 0.0


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_a_curve_says_what_the_rule_does_at_every_level(rule):
    rows = random_rows(seed=1)
    costs = MistakeCosts(late=5.0, missed=2.0, false_alarm=0.5)
    search = LevelSearch(kind_of(rule, 0.0, 1.0), rows)
    assert len(search.levels_L) > 15
    for index, total in enumerate(search.totals(costs.of())):
        found = [prediction.outcome for prediction in answers(search.rule(index), rows)]
        assert total / len(rows) == pytest.approx(mean_cost(found, costs)), search.levels_L[index]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_no_level_has_a_higher_f1_than_the_best(rule):
    rows, kind = random_rows(seed=2), kind_of(rule, 0.0, 1.0)
    best = f1_of(best_f1(kind, rows), rows)
    low, high = (-1.0, 0.0) if rule.kind == "drop" else (0.0, 1.0)
    tried = [kind.rule(low + (high - low) * (k + 0.5) / 500) for k in range(500)]
    assert best == pytest.approx(max(f1_of(other, rows) for other in tried))


def test_the_best_threshold_by_hand():
    # Wrong steps score 0.2 and 0.35, right ones 0.6 and more: anything above 0.35 and up to 0.6 is right about all rows.
    rows = [ScoredRow((0.9, 0.2), 1), ScoredRow((0.35, 0.1), 0), ScoredRow((0.7, 0.6), None)]
    assert best_f1(kind_of(Threshold(), 0.0, 1.0), rows).threshold == pytest.approx(0.475)


def test_where_errors_cannot_be_avoided_costs_decide():
    # Below 0.5 the second row is cut too late; above 0.6 the first too early.
    rows = [ScoredRow((0.6, 0.3), 1), ScoredRow((0.7, 0.4), 0)]
    late_is_dear = cheapest(rule_kinds(0.0, 1.0)[:1], rows * 10, MistakeCosts(late=5.0), num_resamples=50)
    late_is_cheap = cheapest(rule_kinds(0.0, 1.0)[:1], rows * 10, MistakeCosts(late=0.2), num_resamples=50)
    assert late_is_dear.rule.threshold > 0.7
    assert late_is_dear.cost.value == pytest.approx(0.5)
    assert 0.4 < late_is_cheap.rule.threshold <= 0.6
    assert late_is_cheap.cost.value == pytest.approx(0.1)


def test_cost_of_missed_and_of_false_alarms():
    rows = [ScoredRow((0.4,), 0), ScoredRow((0.3,), None)]
    kinds = rule_kinds(0.0, 1.0)[:1]
    assert (
        cheapest(kinds, rows * 5, MistakeCosts(late=1, missed=3, false_alarm=1), num_resamples=20).rule.threshold > 0.4
    )
    assert (
        cheapest(kinds, rows * 5, MistakeCosts(late=1, missed=1, false_alarm=3), num_resamples=20).rule.threshold <= 0.3
    )


def test_another_kind_is_chosen_where_it_reads_better():
    # The level of the scores says nothing, their drop everything.
    rows = [ScoredRow((base, base - 0.02, base - 0.3), 2) for base in (0.4, 0.6, 0.8, 0.95)]
    rows += [ScoredRow((base, base - 0.01, base - 0.03), None) for base in (0.15, 0.35, 0.55, 0.9)]
    choice = cheapest(rule_kinds(0.0, 1.0), rows * 5, MistakeCosts(late=5.0), num_resamples=100)
    assert choice.rule.kind == "drop"
    assert choice.cost.value == pytest.approx(0.0)
    assert choice.rule.drop == pytest.approx(0.15, abs=0.1)
    assert choice.kind_shares["drop"] > 0.9
    assert sum(choice.kind_shares.values()) == pytest.approx(1.0)


def noisy_rows(seed, count):
    """Right steps score around 0.7, wrong ones around 0.4."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        num_steps = rng.randint(2, 6)
        first_wrong = rng.choice([None, *range(num_steps)])
        scores = [min(1, max(0, rng.gauss(0.4 if k == first_wrong else 0.7, 0.12))) for k in range(num_steps)]
        rows.append(ScoredRow(tuple(scores), first_wrong))
    return rows


def test_a_choice_on_few_rows_is_less_sure():
    few, many = (
        cheapest(rule_kinds(0.0, 1.0)[:1], noisy_rows(0, count), MistakeCosts(late=3.0), num_resamples=200)
        for count in (30, 800)
    )
    assert few.level_interval[1] - few.level_interval[0] > many.level_interval[1] - many.level_interval[0]
    assert few.cost.interval[1] - few.cost.interval[0] > many.cost.interval[1] - many.cost.interval[0]
    assert many.level_interval[0] <= many.rule.threshold <= many.level_interval[1]


def test_cost_elsewhere_is_what_new_rows_cost():
    """The cost on the rows chosen on is too good; the other one foretells new rows, on average over draws."""
    costs, here, elsewhere, fresh = MistakeCosts(late=3.0), [], [], []
    new_rows = noisy_rows(1000, 3000)
    for seed in range(12):
        choice = cheapest(rule_kinds(0.0, 1.0), noisy_rows(seed, 25), costs, num_resamples=60)
        here.append(choice.cost.value)
        elsewhere.append(choice.cost_elsewhere.value)
        fresh.append(mean_cost([prediction.outcome for prediction in answers(choice.rule, new_rows)], costs))
    mean_here, mean_elsewhere, mean_fresh = (sum(values) / 12 for values in (here, elsewhere, fresh))
    assert mean_here < mean_fresh
    assert abs(mean_elsewhere - mean_fresh) < abs(mean_here - mean_fresh)


def test_scores_without_bounds_and_without_steps_apart():
    rows = [ScoredRow((3.0, -2.0), 1), ScoredRow((4.0, 1.0), None)]
    assert best_f1(kind_of(Threshold()), rows).threshold == pytest.approx(-0.5)
    # Solutions of one step have no drop anywhere.
    lonely = [ScoredRow((0.4,), 0), ScoredRow((0.8,), None)]
    assert best_f1(kind_of(Drop()), lonely).first_wrong([0.4]) is None


def test_levels_stay_in_the_range_that_a_configuration_accepts():
    rows = [ScoredRow((0.0, 1.0), None), ScoredRow((1.0, 0.0), 1)]
    for kind in rule_kinds(0.0, 1.0):
        for index, level in enumerate(LevelSearch(kind, rows).levels_L):
            assert kind.low < level <= kind.high
            rule = LevelSearch(kind, rows).rule(index)
            assert type(rule).model_validate(rule.model_dump()) == rule


def test_a_rule_that_has_no_level_is_refused():
    with pytest.raises(ValueError, match="no level"):
        kind_of(Calibrated())


def test_f1_of_the_search_is_processbenchs():
    rows = random_rows(seed=3)
    rule = best_f1(kind_of(Threshold(), 0.0, 1.0), rows)
    found = judge(answers(rule, rows), num_resamples=2)
    assert found.f1.value == pytest.approx(harmonic_mean(found.accuracy_wrong.value, found.accuracy_right.value))
