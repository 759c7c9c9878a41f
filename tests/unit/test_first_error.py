"""ProcessBench's figures on rows that were worked out by hand, on baselines, and against a computation of another kind."""

from __future__ import annotations

import statistics

import pytest

from scope_rlvr.core.types import Problem
from scope_rlvr.problems.labelled import LabelledSolution, read_labelled
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorer_lab.baselines import AlwaysNoneScorer, RandomScorer
from scope_rlvr.scorer_lab.bench import ScoredSet, bench, score_rows
from scope_rlvr.scorer_lab.first_error import Prediction, PredictionOutcome, harmonic_mean, judge
from tests.benchmark_data import benchmark_file


@pytest.mark.parametrize(
    ("first_wrong", "found", "is_scored", "outcome", "distance"),
    [
        (2, 2, True, PredictionOutcome.EXACT, 0),
        (2, 0, True, PredictionOutcome.EARLY, -2),
        (2, 5, True, PredictionOutcome.LATE, 3),
        (2, None, True, PredictionOutcome.MISSED, None),
        (2, None, False, PredictionOutcome.UNSCORED_WRONG, None),
        (None, None, True, PredictionOutcome.LEFT_ALONE, None),
        (None, 0, True, PredictionOutcome.FALSE_ALARM, None),
        (None, None, False, PredictionOutcome.UNSCORED_RIGHT, None),
    ],
)
def test_what_an_answer_comes_to(first_wrong, found, is_scored, outcome, distance):
    prediction = Prediction(first_wrong, found, is_scored)
    assert (prediction.outcome, prediction.distance) == (outcome, distance)


def test_confusion_by_hand():
    # Eight rows with a wrong step: 2 exact, 3 early (by 1, 1, 4), 1 late (by 2), 1 missed, 1 unscored.
    wrong = [
        *(Prediction(1, 1), Prediction(0, 0)),
        *(Prediction(3, 2), Prediction(1, 0), Prediction(5, 1)),
        Prediction(0, 2),
        Prediction(4, None),
        Prediction(2, None, is_scored=False),
    ]
    # Four without: 3 left alone, 1 false alarm.
    right = [Prediction(None, None)] * 3 + [Prediction(None, 0)]
    found = judge(wrong + right)
    assert (found.num_wrong, found.num_right) == (8, 4)
    shares = {name: share.value for name, share in (found.wrong | found.right).items()}
    assert shares == {
        "exact": 2 / 8,
        "too_early": 3 / 8,
        "too_late": 1 / 8,
        "missed": 1 / 8,
        "unscored_wrong": 1 / 8,
        "left_alone": 3 / 4,
        "false_alarm": 1 / 4,
        "unscored_right": 0,
    }
    assert found.distances == {-4: 1, -1: 2, 0: 2, 2: 1}
    assert found.f1.value == pytest.approx(2 * (1 / 4) * (3 / 4) / (1 / 4 + 3 / 4))
    low, high = found.f1.interval
    assert 0 <= low < found.f1.value < high <= 1


def test_rows_of_one_sort_leave_the_other_accuracy_and_f1_undefined():
    found = judge([Prediction(1, 1), Prediction(2, 0)])
    assert found.accuracy_wrong.value == 0.5
    assert (found.accuracy_right.value, found.f1.value, found.f1.interval) == (None, None, None)


def test_an_interval_covers_what_a_binomial_would():
    found = judge([Prediction(0, 0)] * 50 + [Prediction(1, 0)] * 50)
    low, high = found.accuracy_wrong.interval
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.02)
    assert high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.02)


def made_rows(count=60):
    """Solutions of one to seven steps, the first wrong one anywhere, or nowhere in a third of them."""
    rows = []
    for i in range(count):
        steps = tuple(f"step {k} of {i}" for k in range(1 + i % 7))
        first_wrong = None if i % 3 == 0 else i % len(steps)
        rows.append(LabelledSolution(Problem(f"made-{i}", "?", ""), steps, first_wrong))
    return tuple(rows)


def scored(scorer, rows):
    return ScoredSet("made", rows, tuple(score for some in score_rows(scorer, rows) for score in some))


def test_a_scorer_that_always_says_none_has_f1_zero():
    scorer = AlwaysNoneScorer()
    found = bench([scored(scorer, made_rows())], scorer.rule, "made").results[0].own
    assert (found.accuracy_right.value, found.accuracy_wrong.value, found.f1.value) == (1.0, 0.0, 0.0)
    assert found.f1.interval == (0.0, 0.0)
    assert found.wrong["missed"].value == 1.0


def analytic(rows):
    """Of S + 1 equally likely answers one is right: each accuracy is the mean of 1/(S + 1) over its rows."""
    with_wrong = [1 / (len(row.steps) + 1) for row in rows if row.first_wrong is not None]
    without = [1 / (len(row.steps) + 1) for row in rows if row.first_wrong is None]
    return statistics.fmean(with_wrong), statistics.fmean(without)


def assert_random_is_as_derived(rows, num_seeds):
    """The mean over seeds lies within four standard errors of the derived accuracies."""
    on_wrong, on_right = analytic(rows)
    drawn = [
        judge(scored(RandomScorer(seed), rows).predictions(RandomScorer.rule), num_resamples=2)
        for seed in range(num_seeds)
    ]
    for expected, of_rows, read in (
        (on_wrong, [r for r in rows if r.first_wrong is not None], lambda f: f.accuracy_wrong.value),
        (on_right, [r for r in rows if r.first_wrong is None], lambda f: f.accuracy_right.value),
    ):
        chances = [1 / (len(row.steps) + 1) for row in of_rows]
        error = (sum(p * (1 - p) for p in chances) / num_seeds) ** 0.5 / len(chances)
        assert abs(statistics.fmean(map(read, drawn)) - expected) < 4 * error
    mean_f1 = statistics.fmean(figures.f1.value for figures in drawn)
    assert mean_f1 == pytest.approx(harmonic_mean(on_wrong, on_right), abs=0.02)


def test_a_random_scorer_has_the_derived_accuracies():
    assert_random_is_as_derived(made_rows(2000), num_seeds=10)


def test_a_random_scorer_on_processbench():
    rows = read_labelled(benchmark_file("processbench_gsm8k.jsonl")).solutions
    assert round(harmonic_mean(*analytic(rows)), 3) == 0.172
    assert_random_is_as_derived(rows, num_seeds=5)


def test_f1_agrees_with_processbenchs_own_way_of_counting():
    """As their evaluation script does it: predictions and labels as numbers with -1, two means, in percent."""
    rows, scorer = made_rows(200), RandomScorer(3)
    sets = scored(scorer, rows)
    labels = [-1 if row.first_wrong is None else row.first_wrong for row in rows]
    predictions = [next((k for k, score in enumerate(s) if score < 0.5), -1) for s in sets.scores]
    hits = {True: [], False: []}
    for label, prediction in zip(labels, predictions, strict=True):
        hits[label == -1].append(float(label == prediction))
    acc1, acc2 = statistics.fmean(hits[False]) * 100, statistics.fmean(hits[True]) * 100
    found = bench([sets], Threshold(threshold=0.5), "made").results[0].own
    assert found.accuracy_wrong.value * 100 == pytest.approx(acc1)
    assert found.accuracy_right.value * 100 == pytest.approx(acc2)
    assert found.f1.value * 100 == pytest.approx(2 * acc1 * acc2 / (acc1 + acc2))


def test_rows_that_cannot_be_scored_are_wrong_answers():
    class Silent:
        rule = Threshold(threshold=0.5)

        def score(self, solutions):
            return [None if len(steps) == 1 else (0.0,) * (len(steps) + (len(steps) == 2)) for _, steps in solutions]

    rows = made_rows(21)
    found = bench([scored(Silent(), rows)], Silent.rule, "made").results[0]
    unscored = [row for row in rows if len(row.steps) <= 2]
    assert found.num_unscored == len(unscored)
    assert found.own.wrong["unscored_wrong"].value * found.own.num_wrong == pytest.approx(
        sum(row.first_wrong is not None for row in unscored)
    )
    # It calls the first step of everything else wrong.
    exact = sum(row.first_wrong == 0 for row in rows if len(row.steps) > 2)
    assert found.own.accuracy_wrong.value == pytest.approx(exact / found.own.num_wrong)
    assert found.own.accuracy_right.value == 0.0


def test_wrong_answers_are_a_figure_of_their_own():
    rows = tuple(
        LabelledSolution(Problem(str(i), "?", ""), ("a", "b"), k, is_answer_right=right)
        for i, (k, right) in enumerate([(0, False), (1, False), (0, True), (None, True)])
    )
    scores = ((0.1, 0.9), (0.1, 0.1), (0.9, 0.9), (0.9, 0.9))
    found = bench([ScoredSet("made", rows, scores)], Threshold(threshold=0.5), "made").results[0]
    assert found.own.accuracy_wrong.value == pytest.approx(1 / 3)
    assert found.on_wrong_answers.accuracy_wrong.value == 0.5
    assert found.on_wrong_answers.num_right == 0


def test_the_tuned_rule_comes_from_one_set_and_is_reported_on_all():
    right = LabelledSolution(Problem("r", "?", ""), ("a", "b"), None)
    wrong = LabelledSolution(Problem("w", "?", ""), ("a", "b"), 1)
    tuning = ScoredSet("tuning", (right, wrong), ((0.4, 0.3), (0.4, 0.1)))
    other = ScoredSet("other", (right, wrong), ((0.9, 0.25), (0.9, 0.15)))
    found = bench([other, tuning], Threshold(threshold=0.5), "tuning")
    assert found.tuned_rule.threshold == pytest.approx(0.2)
    assert [(r.name, r.own.f1.value, r.tuned.f1.value) for r in found.results] == [
        ("other", 0.0, 1.0),
        ("tuning", 0.0, 1.0),
    ]
    assert (found.mean_f1, found.mean_tuned_f1) == (0.0, 1.0)
