"""Step scores as rewards: what every token gets."""

from __future__ import annotations

from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.types import Outcome
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods import Grpo, ProcessReward
from tests.doubles import TableScorer, group, toolbox
from tests.unit.methods.crediting import credited, is_silent, pays, runs

FAILURE = "good 1\n\nbad 2\n\nanswer 3|"  # steps of 8, 7 and 9 tokens with the scores 0.9, 0.1 and 0.9
RIGHT = "answer 7|"  # one step of 9 tokens with the score 0.9
UNKNOWN = "bad\n\nanswer ?|"
POOL = [0.9, 0.1, 0.9, 0.9]
MEAN = 0.7


def test_a_token_gets_the_centred_scores_of_its_own_step_and_of_all_later_ones_and_the_outcome():
    _, (failure, right) = credited(ProcessReward(), FAILURE, RIGHT)
    # Centred: 0.2, -0.6, 0.2; from each step on: -0.2, -0.4, 0.2.
    assert runs(failure.advantage_T) == [(-0.7, 8), (-0.9, 7), (-0.3, 9)]
    assert runs(right.advantage_T) == [(0.7, 9)]
    assert set(failure.weight_T) == set(right.weight_T) == {1.0}


def test_the_weight_scales_the_scores_alone():
    _, (failure, right) = credited(ProcessReward(process_weight=0.5), FAILURE, RIGHT)
    assert runs(failure.advantage_T) == [(-0.6, 8), (-0.7, 7), (-0.4, 9)]
    assert runs(right.advantage_T) == [(0.6, 9)]


def test_scores_and_outcomes_have_each_their_own_deviation():
    _, (failure, right) = credited(ProcessReward(), FAILURE, RIGHT, normalisation=Normalisation.GROUP_STD)
    outcome, step = 0.5 / (0.5**0.5 + 1e-4), 0.2 / (stdev(POOL) + 1e-4)
    assert right.advantage_T[0] == pytest.approx(outcome + step)
    assert failure.advantage_T[0] == pytest.approx(-outcome - step)
    assert failure.advantage_T[8] == pytest.approx(-outcome - 2 * step)


def test_the_deviation_of_the_batch_is_that_of_all_scores():
    method, tools = ProcessReward(), toolbox()
    groups = method.prepare([group(FAILURE, RIGHT), group("bad|", RIGHT)], tools)
    streams = method.credit(groups, pays(groups), Normalisation.BATCH_STD)
    outcome, scale = 0.5 / (stdev([0, 1, 0, 1]) + 1e-4), stdev([*POOL, 0.1, 0.9]) + 1e-4
    assert streams[0][1].advantage_T[0] == pytest.approx(outcome + 0.2 / scale)
    assert streams[1][1].advantage_T[0] == pytest.approx(outcome + 0.4 / scale)


@pytest.mark.parametrize("outcome", ["answer 7|", "answer 3|"])
def test_flat_outcomes_leave_the_scores(outcome):
    _, (good, bad) = credited(ProcessReward(), "good\n\n" + outcome, "bad\n\n" + outcome)
    assert runs(good.advantage_T) == [(0.4, 6), (0.2, 9)]
    assert runs(bad.advantage_T) == [(-0.4, 5), (0.2, 9)]


def test_equal_scores_and_outcomes_are_a_flat_group():
    _, streams = credited(ProcessReward(drop_flat_groups=True), RIGHT, RIGHT)
    assert is_silent(streams)


def test_a_rollout_without_scores_keeps_the_outcome_and_takes_no_part_in_the_pool():
    scorer = TableScorer(distort=lambda scores: scores if len(scores) == 1 else None)
    _, streams = credited(ProcessReward(), FAILURE, RIGHT, "bad|", tools=toolbox(step_scorer=scorer))
    assert runs(streams[0].advantage_T) == [(-0.333333, 24)]
    assert runs(streams[1].advantage_T) == [(round(2 / 3 + 0.4, 6), 9)]
    assert runs(streams[2].advantage_T) == [(round(-1 / 3 - 0.4, 6), 4)]


@pytest.mark.parametrize("normalisation", list(Normalisation))
def test_without_any_scores_it_is_grpo(normalisation):
    tools = toolbox(step_scorer=TableScorer(distort=lambda _: None))
    _, streams = credited(ProcessReward(), FAILURE, RIGHT, UNKNOWN, tools=tools, normalisation=normalisation)
    _, plain = credited(Grpo(), FAILURE, RIGHT, UNKNOWN, normalisation=normalisation)
    assert streams == plain


def test_unknown_verdicts_take_no_part():
    edited, streams = credited(ProcessReward(), FAILURE, UNKNOWN, RIGHT)
    assert edited.members[1].verdict.outcome is Outcome.UNKNOWN
    assert is_silent(streams[1:2])
    assert runs(streams[0].advantage_T) == [(-0.7, 8), (-0.9, 7), (-0.3, 9)]


@given(st.lists(st.sampled_from([FAILURE, RIGHT, UNKNOWN, "good\n\nbad\n\ngood"]), min_size=1, max_size=6))
def test_the_scores_paid_in_a_group_sum_to_zero(texts):
    method = ProcessReward()
    edited, streams_G = credited(method, *texts)
    _, outcome_G = credited(Grpo(), *texts)
    first = [s.advantage_T[0] - o.advantage_T[0] for s, o in zip(streams_G, outcome_G, strict=True)]
    assert sum(first) == pytest.approx(0, abs=1e-9)
    assert [len(s.advantage_T) for s in streams_G] == [len(m.rollout) for m in edited.members]


def test_after_the_first_wrong_step_nothing_may_be_paid():
    _, (failure, right) = credited(ProcessReward(paid_steps="nothing_after_error"), FAILURE, RIGHT)
    # Of 0.9, 0.1 and 0.9 the last is left out, so that the mean is 1.9 / 3: centred 0.266667, -0.533333.
    assert runs(failure.advantage_T) == [(-0.766667, 8), (-1.033333, 7), (-0.5, 9)]
    assert runs(right.advantage_T) == [(0.766667, 9)]


def test_what_a_scorer_says_after_an_error_changes_nothing_then():
    method = ProcessReward(paid_steps="nothing_after_error")
    for normalisation in Normalisation:
        found = []
        for later in (0.0, 0.4, 1.0):
            tools = toolbox(step_scorer=TableScorer({"answer 3": later}))
            found.append(credited(method, FAILURE, RIGHT, tools=tools, normalisation=normalisation)[1])
        assert found[0] == found[1] == found[2]


def test_without_an_error_all_is_paid():
    texts = ("good 1\n\nanswer 3|", RIGHT)
    assert credited(ProcessReward(paid_steps="nothing_after_error"), *texts) == credited(ProcessReward(), *texts)
