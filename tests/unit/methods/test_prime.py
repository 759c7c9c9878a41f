"""PRIME's sums: leave-one-out of steps and of outcomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.formulas.advantages import Baseline
from scope_rlvr.methods import Grpo, Prime
from tests.doubles import TableScorer, toolbox
from tests.unit.methods.crediting import credited, is_silent, runs

FAILURE = "good 1\n\nbad 2\n\nanswer 3|"  # steps of 8, 7 and 9 tokens with the scores 0.9, 0.1 and 0.9
RIGHT = "answer 7|"  # 0.9
MEAN = 1.9 / 3


def test_steps_are_compared_with_the_mean_step_of_the_others():
    _, (failure, right) = credited(Prime(), FAILURE, RIGHT)
    # Less 0.9: 0, -0.8, 0; and -1 for the outcome.
    assert runs(failure.advantage_T) == [(-1.8, 15), (-1, 9)]
    assert runs(right.advantage_T) == [(round(0.9 - MEAN + 1, 6), 9)]
    assert set(failure.weight_T) == set(right.weight_T) == {1.0}


def test_each_rollout_weighs_the_same_in_the_baseline_however_many_steps_it_has():
    _, streams = credited(Prime(), FAILURE, RIGHT, "bad|")
    assert streams[2].advantage_T[0] == pytest.approx(0.1 - (MEAN + 0.9) / 2 - 0.5)
    assert streams[1].advantage_T[0] == pytest.approx(0.9 - (MEAN + 0.1) / 2 + 1)


def test_the_weight_scales_the_steps_alone():
    _, (failure, _) = credited(Prime(process_weight=0.25), FAILURE, RIGHT)
    assert runs(failure.advantage_T) == [(-1.2, 15), (-1, 9)]
    texts = (FAILURE, RIGHT, "bad|")
    plain = credited(Grpo(baseline=Baseline.LEAVE_ONE_OUT), *texts)[1]
    assert credited(Prime(process_weight=0), *texts)[1] == plain


@pytest.mark.parametrize("outcome", ["answer 7|", "answer 3|"])
def test_flat_outcomes_leave_the_steps(outcome):
    _, (good, bad) = credited(Prime(), "good\n\n" + outcome, "bad\n\n" + outcome)
    assert runs(good.advantage_T) == [(0.8, 6), (0.4, 9)]  # 0.9 and 0.9 against 0.5
    assert runs(bad.advantage_T) == [(-0.8, 5), (0, 9)]  # 0.1 and 0.9 against 0.9
    _, streams = credited(Prime(drop_flat_groups=True), outcome, outcome)
    assert is_silent(streams)


def test_a_rollout_without_scores_keeps_the_outcome_and_enters_no_baseline():
    scorer = TableScorer(distort=lambda scores: scores if len(scores) == 1 else None)
    _, streams = credited(Prime(), FAILURE, RIGHT, "bad|", tools=toolbox(step_scorer=scorer))
    assert runs(streams[0].advantage_T) == [(-0.5, 24)]
    assert runs(streams[1].advantage_T) == [(1.8, 9)]
    assert runs(streams[2].advantage_T) == [(-1.3, 4)]


def test_the_only_one_with_scores_has_no_process_part():
    scorer = TableScorer(distort=lambda scores: scores if len(scores) == 3 else None)
    _, streams = credited(Prime(), FAILURE, RIGHT, tools=toolbox(step_scorer=scorer))
    assert [runs(s.advantage_T) for s in streams] == [[(-1, 24)], [(1, 9)]]


def test_unknown_verdicts_take_no_part():
    _, streams = credited(Prime(), FAILURE, "bad\n\nanswer ?|", RIGHT)
    assert is_silent(streams[1:2])
    assert runs(streams[0].advantage_T) == [(-1.8, 15), (-1, 9)]


def test_a_truncated_failure_is_scored_like_any_other():
    _, (failure, _) = credited(Prime(), "good 1\n\nbad", RIGHT)
    assert runs(failure.advantage_T) == [(-1.8, 11)]


@given(st.lists(st.sampled_from([RIGHT, "bad|", "good|"]), min_size=2, max_size=6))
def test_rollouts_of_one_step_have_advantages_that_sum_to_zero(texts):
    _, streams_G = credited(Prime(), *texts)
    assert sum(s.advantage_T[0] for s in streams_G) == pytest.approx(0, abs=1e-9)


def test_after_the_first_wrong_step_nothing_may_be_paid():
    _, (failure, right) = credited(Prime(paid_steps="nothing_after_error"), FAILURE, RIGHT)
    assert runs(failure.advantage_T) == [(-1.8, 15), (-1, 9)]
    assert runs(right.advantage_T) == [(1.4, 9)]  # 0.9 against (0.9 + 0.1) / 2
