"""PURE: the worst step gets the credit, and the others' worth a token is the baseline."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.formulas.advantages import Baseline, Normalisation, whitened
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods import Grpo, Pure
from scope_rlvr.methods.parts.estimators import min_form
from tests.doubles import TableScorer, group, toolbox
from tests.unit.methods.crediting import credited, is_silent, pays, runs

FAILURE = "good 1\n\nbad 2\n\nanswer 3|"  # steps of 8, 7 and 9 tokens, worth 0.8, -0.8 and 0.8
RIGHT = "answer 7|"  # 9 tokens, worth 0.8
SHARP = Pure(temperature=0.01, whiten=False)  # the minimum, to all digits that are looked at


def test_the_weights_are_a_softmax_of_what_the_steps_lack():
    weights = [math.exp(-r / 0.5) for r in (0.8, -0.8, 0.4)]
    expected = [r * w / sum(weights) for r, w in zip((0.8, -0.8, 0.4), weights, strict=True)]
    assert min_form([0.9, 0.1, 0.7], temperature=0.5) == pytest.approx(expected)


def test_a_low_temperature_pays_the_minimum_where_it_is():
    assert min_form([0.9, 0.1, 0.7], temperature=0.01) == pytest.approx([0, -0.8, 0], abs=1e-9)
    assert min_form([0.9, 0.9], temperature=0.01) == pytest.approx([0.4, 0.4])
    assert min_form([], temperature=0.1) == []


def test_a_token_gets_what_is_paid_from_its_step_on_less_the_others_worth():
    _, (failure, right) = credited(SHARP, FAILURE, RIGHT)
    # The other's worth a token is 0.8 / 9 and -0.8 / 24. Failure: (0, -0.8, 0) less 8, 7, 9 times that, from the end
    # -0.8, -0.8 - 0.8 - 0.622222 and so on; and -1 for the outcome. Right: 0.8 + 9 * 0.8 / 24 + 1.
    assert runs(failure.advantage_T) == [(-3.933333, 7), (0, 1), (-3.222222, 6), (0, 1), (-1.8, 8), (0, 1)]
    assert runs(right.advantage_T) == [(2.1, 8), (0, 1)]
    assert set(failure.weight_T) == set(right.weight_T) == {1.0}


def test_where_a_response_ends_does_not_train_whether_the_policy_ended_it_or_not():
    _, streams = credited(SHARP, FAILURE, RIGHT, "good\n\nbad")
    assert all(s.advantage_T[-1] == 0 != s.advantage_T[-2] for s in streams)


def test_all_other_advantages_of_the_batch_are_whitened():
    groups = [group(FAILURE, RIGHT), group(RIGHT, "bad|")]
    method, tools = Pure(temperature=0.01), toolbox()
    prepared = method.prepare(groups, tools)
    streams_PG = method.credit(prepared, pays(prepared), Normalisation.NONE)
    # As above: -3.9333 seven times, -3.2222 six times, -1.8 and 2.1 eight times. Second group: 0.8 + 9 * 0.8 / 4 + 1 = 3.6
    # eight times, and -0.8 - 4 * 0.8 / 9 - 1 = -2.1556 three times. Mean of the 40:
    # (-27.5333 - 19.3333 - 14.4 + 16.8 + 28.8 - 6.4667) / 40 = -0.553333.
    # Mean square: (108.2978 + 62.2963 + 25.92 + 35.28 + 103.68 + 13.9393) / 40 = 8.735333.
    mean, deviation = -0.553333, math.sqrt(8.735333 - 0.553333**2)
    expected = [[(-3.933333, 7), (0, 1), (-3.222222, 6), (0, 1), (-1.8, 8), (0, 1)], [(2.1, 8), (0, 1)]]
    expected += [[(3.6, 8), (0, 1)], [(-2.155556, 3), (0, 1)]]
    for streams, of_rollout in zip([s for streams_G in streams_PG for s in streams_G], expected, strict=True):
        scaled = [((a - mean) / deviation if a else 0, count) for a, count in of_rollout]
        assert runs(streams.advantage_T) == [(pytest.approx(a, abs=1e-5), count) for a, count in scaled]


def test_one_advantage_alone_is_no_deviation():
    assert whitened([[[0.5, 0.5], [0.0]]]) == [[[0.0, 0.0], [0.0]]]
    assert whitened([[[0.0]], []]) == [[[0.0]], []]


def test_the_objective_is_that_of_the_released_code():
    assert Pure().fixed == {
        "normalisation": Normalisation.NONE,
        "aggregation": Aggregation.SEQUENCE_MEAN,
        "clip": Clip(low=0.2, high=0.2),
        "kl": 0.001,
        "entropy": 0.0,
    }


def test_step_ends_may_train():
    _, (failure, right) = credited(Pure(temperature=0.01, train_step_ends=True, whiten=False), FAILURE, RIGHT)
    assert runs(failure.advantage_T) == [(-3.933333, 8), (-3.222222, 7), (-1.8, 9)]
    assert runs(right.advantage_T) == [(2.1, 9)]


def test_the_outcome_weight_scales_the_outcome_alone():
    _, (failure, right) = credited(Pure(temperature=0.01, outcome_weight=0, whiten=False), FAILURE, RIGHT)
    assert [a for a, _ in runs(failure.advantage_T)[::2]] == [-2.933333, -2.222222, -0.8]
    assert runs(right.advantage_T) == [(1.1, 8), (0, 1)]


def test_the_baseline_of_three_pools_the_two_others():
    _, streams = credited(Pure(temperature=0.01, outcome_weight=0, whiten=False), RIGHT, RIGHT, "bad|")
    assert streams[0].advantage_T[0] == pytest.approx(0.8 - 9 * (0.8 - 0.8) / 13)
    assert streams[2].advantage_T[0] == pytest.approx(-0.8 - 4 * 1.6 / 18)


def test_equal_rollouts_have_nothing_between_them():
    for text in (RIGHT, "bad|"):
        _, streams = credited(Pure(drop_flat_groups=True), text, text)
        assert is_silent(streams) or all(abs(a) < 1e-12 for s in streams for a in s.advantage_T)


def test_a_rollout_without_scores_keeps_the_outcome_and_enters_no_baseline():
    scorer = TableScorer(distort=lambda scores: scores if len(scores) == 1 else None)
    _, streams = credited(SHARP, FAILURE, RIGHT, "bad|", tools=toolbox(step_scorer=scorer))
    assert runs(streams[0].advantage_T) == [(-0.5, 24)]
    assert runs(streams[1].advantage_T) == [(round(0.8 + 9 * 0.8 / 4 + 1, 6), 8), (0, 1)]
    assert runs(streams[2].advantage_T) == [(round(-0.8 - 4 * 0.8 / 9 - 0.5, 6), 3), (0, 1)]


def test_the_only_one_with_scores_has_no_process_part():
    scorer = TableScorer(distort=lambda scores: scores if len(scores) == 3 else None)
    _, streams = credited(SHARP, FAILURE, RIGHT, tools=toolbox(step_scorer=scorer))
    assert {a for a, _ in runs(streams[0].advantage_T)} == {-1, 0}
    assert runs(streams[1].advantage_T) == [(1, 9)]


def test_without_any_scores_it_is_leave_one_out():
    tools = toolbox(step_scorer=TableScorer(distort=lambda _: None))
    texts = (FAILURE, RIGHT, "answer ?|", RIGHT)
    _, plain = credited(Grpo(baseline=Baseline.LEAVE_ONE_OUT), *texts)
    assert credited(SHARP, *texts, tools=tools)[1] == plain


def test_unknown_verdicts_take_no_part():
    _, streams = credited(SHARP, FAILURE, "bad\n\nanswer ?|", RIGHT)
    assert is_silent(streams[1:2])
    assert runs(streams[2].advantage_T) == [(2.1, 8), (0, 1)]


def test_a_truncated_failure_is_scored_like_any_other():
    _, (failure, _) = credited(SHARP, "good 1\n\nbad", RIGHT)
    assert [count for _, count in runs(failure.advantage_T)] == [7, 1, 2, 1]


def test_after_the_first_wrong_step_nothing_may_be_paid():
    _, (failure, right) = credited(
        Pure(temperature=0.01, paid_steps="nothing_after_error", whiten=False), FAILURE, RIGHT
    )
    # As if the failure had its first 15 tokens only: 0.8 / 9 a token of the right one, -0.8 / 15 of the failure.
    assert runs(failure.advantage_T) == [(-3.133333, 7), (0, 1), (-2.422222, 6), (0, 1), (-1, 8), (0, 1)]
    assert runs(right.advantage_T) == [(2.28, 8), (0, 1)]


def test_normalisation_divides_by_the_deviation_of_the_mean_advantages():
    method = Pure(temperature=0.01, train_step_ends=True, whiten=False)
    _, raw = credited(method, RIGHT, "bad|")
    _, scaled = credited(method, RIGHT, "bad|", normalisation=Normalisation.GROUP_STD)
    scale = (raw[0].advantage_T[0] - raw[1].advantage_T[0]) / 2**0.5 + 1e-4
    assert scaled[0].advantage_T[0] == pytest.approx(raw[0].advantage_T[0] / scale)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.01, 10))
def test_the_sum_lies_between_the_minimum_and_the_mean(scores, temperature):
    rewards = [2 * score - 1 for score in scores]
    total = sum(min_form(scores, temperature))
    assert min(rewards) - 1e-9 <= total <= sum(rewards) / len(rewards) + 1e-9
