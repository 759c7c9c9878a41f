"""VPPO: which tokens of a failure are its good prefix, and what every token gets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.types import Outcome
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.methods import Grpo, Vppo
from scope_rlvr.run.config import RunConfig
from scope_rlvr.scorers.settings import ScorerSection
from tests.doubles import TableScorer, toolbox
from tests.unit.methods.crediting import credited, is_silent, runs

FAILURE = "good 1\n\nbad 2\n\nanswer 3|"  # 24 tokens, the first 8 before the first wrong step; the prompt has 2
RIGHT = "answer 7|"


def test_the_good_prefix_ends_as_many_tokens_before_the_first_wrong_step_as_the_prompt_has():
    _, (failure, right) = credited(Vppo(), FAILURE, RIGHT)
    # Means of the credit: 0.5 * 6 / 24 = 0.125 and 1; the baseline is 0.5625.
    assert runs(failure.advantage_T) == [(-0.0625, 6), (-0.5625, 18)]
    assert runs(right.advantage_T) == [(0.4375, 9)]
    assert set(failure.weight_T) == set(right.weight_T) == {1.0}


@pytest.mark.parametrize(("cut_back", "num_good"), [(0, 8), (3, 5), (8, 0), (50, 0)])
def test_how_far_it_is_cut_back_is_an_option(cut_back, num_good):
    _, (failure, _) = credited(Vppo(cut_back_tokens=cut_back), FAILURE, RIGHT)
    baseline = (0.5 * num_good / 24 + 1) / 2
    expected = [(0.5 - baseline, num_good)] * bool(num_good) + [(-baseline, 24 - num_good)]
    assert runs(failure.advantage_T) == [(round(a, 6), n) for a, n in expected]


def test_alpha_is_an_option():
    _, (failure, _) = credited(Vppo(prefix_credit=1, cut_back_tokens=2), FAILURE, RIGHT)
    assert runs(failure.advantage_T) == [(0.375, 6), (-0.625, 18)]


def test_a_group_without_a_right_rollout_still_teaches():
    _, (one, other) = credited(Vppo(cut_back_tokens=0), FAILURE, "bad 1\n\nanswer 3|")
    assert runs(one.advantage_T) == [(0.416667, 8), (-0.083333, 16)]  # the baseline is 0.5 * 8 / 24 / 2
    assert runs(other.advantage_T) == [(-0.083333, 16)]


def test_where_most_are_right_the_prefix_is_pushed_away_unless_only_its_positive_part_counts():
    texts = [FAILURE, RIGHT, RIGHT, RIGHT]
    baseline = (0.125 + 3) / 4
    _, streams = credited(Vppo(), *texts)
    assert runs(streams[0].advantage_T) == [(round(0.5 - baseline, 6), 6), (round(-baseline, 6), 18)]
    _, positive = credited(Vppo(positive_prefix=True), *texts)
    assert runs(positive[0].advantage_T) == [(0, 6), (round(-baseline, 6), 18)]
    assert positive[1:] == streams[1:]


def unscored(scores: tuple[float, ...]) -> None:
    return None


@pytest.mark.parametrize(
    ("failure", "tools"),
    [
        (FAILURE, {"step_scorer": TableScorer(distort=unscored)}),
        ("good 1\n\nanswer 3|", {}),  # the scorer finds nothing wrong
        ("bad 1\n\nanswer 3|", {}),  # the first step is wrong
    ],
)
def test_without_a_good_prefix_it_is_grpo(failure: str, tools: dict[str, Any]):
    _, streams = credited(Vppo(cut_back_tokens=0), failure, RIGHT, RIGHT, tools=toolbox(**tools))
    _, plain = credited(Grpo(), failure, RIGHT, RIGHT)
    for one, other in zip(streams, plain, strict=True):
        assert one.advantage_T == pytest.approx(other.advantage_T)
        assert one.weight_T == other.weight_T


def test_a_truncated_failure_keeps_its_good_prefix():
    edited, (failure, _) = credited(Vppo(cut_back_tokens=0), "good 1\n\nbad 2", RIGHT)
    assert edited.members[0].rollout.is_truncated
    assert [n for _, n in runs(failure.advantage_T)] == [8, 5]


def test_all_right_teaches_nothing_and_can_be_dropped():
    _, streams = credited(Vppo(), RIGHT, "good\n\n" + RIGHT)
    assert all(set(s.advantage_T) == {0.0} and set(s.weight_T) == {1.0} for s in streams)
    _, streams = credited(Vppo(drop_flat_groups=True), RIGHT, "good\n\n" + RIGHT)
    assert is_silent(streams)


def test_unknown_verdicts_are_not_scored_and_enter_no_baseline():
    scorer = TableScorer()
    edited, streams = credited(Vppo(), FAILURE, "answer ?|", RIGHT, tools=toolbox(step_scorer=scorer))
    assert edited.members[1].verdict.outcome is Outcome.UNKNOWN
    assert len(scorer.solutions) == 2
    assert is_silent(streams[1:2])
    assert runs(streams[0].advantage_T) == [(-0.0625, 6), (-0.5625, 18)]


def test_the_deviation_is_that_of_the_mean_credit():
    _, streams = credited(Vppo(), FAILURE, RIGHT, normalisation=Normalisation.GROUP_STD)
    scale = 0.875 / 2**0.5 + 1e-4
    assert streams[1].advantage_T[0] == pytest.approx(0.4375 / scale)
    assert streams[0].advantage_T[0] == pytest.approx(-0.0625 / scale)


def test_the_mean_of_the_others_as_baseline():
    _, (failure, right) = credited(Vppo(baseline=Baseline.LEAVE_ONE_OUT), FAILURE, RIGHT)
    assert runs(right.advantage_T) == [(0.875, 9)]
    assert runs(failure.advantage_T) == [(-0.5, 6), (-1.0, 18)]


texts = st.lists(
    st.sampled_from([FAILURE, RIGHT, "bad|", "good\n\nanswer ?|", "good\n\ngood\n\nbad"]), min_size=2, max_size=6
)


@given(texts, st.floats(0, 1), st.integers(0, 30), st.booleans())
def test_right_rollouts_are_never_pushed_away_and_good_prefixes_fare_better_than_what_follows(
    texts, alpha, cut_back, positive
):
    method = Vppo(prefix_credit=alpha, cut_back_tokens=cut_back, positive_prefix=positive)
    edited, streams_G = credited(method, *texts)
    for member, streams in zip(edited.members, streams_G, strict=True):
        if member.verdict.is_right:
            assert min(streams.advantage_T) >= -1e-9
        assert list(streams.advantage_T) == sorted(streams.advantage_T, reverse=True)
        if positive and not member.verdict.is_right and method.own_parts[0]._num_good_tokens(member):
            assert streams.advantage_T[0] >= 0


def test_it_asks_for_a_scorer_and_for_nothing_else():
    method = Vppo()
    assert (method.needs_step_scorer, method.needs_teacher) == (True, False)
    plan = RunConfig(method=method).plan()[0]
    assert "scorer embedded:step_scorer" in plan
    assert "teacher" not in plan
    with pytest.raises(ValueError, match=r"needs a scorer and scorer.model is 'none'; name a model folder there \["):
        RunConfig(method=method, scorer=ScorerSection(model="none"))
