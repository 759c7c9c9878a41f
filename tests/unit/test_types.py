"""The nouns: segments partition a response, cuts keep ids, classes follow the verdicts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from scope_rlvr.core.groups import Group, GroupClass, Member, Role, Streams
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict

POLICY, TEACHER = Origin.POLICY, Origin.TEACHER
THREE_PARTS = Rollout(
    (1,), (Segment((5, 6), POLICY, (-0.1, -0.2)), Segment((7,), TEACHER), Segment((8, 9), POLICY, (-0.3, -0.4)))
)


def member(outcome: Outcome, role: Role = Role.SAMPLED) -> Member:
    return Member(Rollout((1,), (Segment((5,), POLICY),)), Verdict(outcome), role)


def test_tokens_origins_and_log_probabilities_run_over_the_segments_in_order():
    assert THREE_PARTS.token_ids == (5, 6, 7, 8, 9)
    assert THREE_PARTS.origin_T == (POLICY, POLICY, TEACHER, POLICY, POLICY)
    assert THREE_PARTS.logprob_T == (-0.1, -0.2, None, -0.3, -0.4)
    assert len(THREE_PARTS) == 5
    assert (THREE_PARTS.num_tokens_from(POLICY), THREE_PARTS.num_tokens_from(TEACHER)) == (4, 1)


@pytest.mark.parametrize("at", range(6))
def test_a_cut_keeps_ids_origins_and_log_probabilities(at):
    kept = THREE_PARTS.cut(at)
    assert kept.token_ids == THREE_PARTS.token_ids[:at]
    assert kept.origin_T == THREE_PARTS.origin_T[:at]
    assert kept.logprob_T == THREE_PARTS.logprob_T[:at]
    assert kept.prompt_ids == THREE_PARTS.prompt_ids
    assert all(len(segment) for segment in kept.segments)


@pytest.mark.parametrize("at", [-1, 6])
def test_a_cut_outside_the_response_is_refused(at):
    with pytest.raises(ValueError, match=f"5 tokens at token {at}"):
        THREE_PARTS.cut(at)


def test_a_cut_is_no_longer_truncated():
    assert not Rollout((1,), (Segment((5, 6), POLICY),), is_truncated=True).cut(1).is_truncated


def test_an_empty_segment_adds_nothing_but_the_truncation():
    longer = THREE_PARTS.then(Segment((), POLICY), is_truncated=True)
    assert longer.segments == THREE_PARTS.segments
    assert longer.is_truncated


def test_appending_leaves_the_original_alone():
    longer = THREE_PARTS.then(Segment((3,), TEACHER))
    assert (len(THREE_PARTS), longer.token_ids) == (5, (5, 6, 7, 8, 9, 3))
    with pytest.raises(FrozenInstanceError):
        longer.is_truncated = True


def test_a_segment_has_a_log_probability_for_each_token_or_none():
    with pytest.raises(ValueError, match="2 tokens came with 1"):
        Segment((5, 6), POLICY, (-0.1,))


def test_streams_are_of_one_length():
    with pytest.raises(ValueError, match=r"lengths \[1, 2\]"):
        Streams((0.5, 0.5), (1.0,), (POLICY, POLICY), (None, None))
    streams = Streams.of(THREE_PARTS, [0.5] * 5, [1.0] * 5)
    assert (streams.origin_T, streams.behaviour_logprob_T) == (THREE_PARTS.origin_T, THREE_PARTS.logprob_T)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([], GroupClass.UNUSABLE),
        ([member(Outcome.UNKNOWN)], GroupClass.UNUSABLE),
        ([member(Outcome.RIGHT), member(Outcome.UNKNOWN)], GroupClass.ALL_RIGHT),
        ([member(Outcome.WRONG), member(Outcome.UNKNOWN)], GroupClass.ALL_WRONG),
        ([member(Outcome.WRONG), member(Outcome.RIGHT)], GroupClass.MIXED),
        ([member(Outcome.WRONG), member(Outcome.RIGHT, Role.SALVAGED)], GroupClass.SALVAGED),
        ([member(Outcome.RIGHT), member(Outcome.RIGHT, Role.SALVAGED)], GroupClass.SALVAGED),
    ],
)
def test_the_class_of_a_group_follows_its_known_verdicts(members, expected):
    assert Group(Problem("p", "Q", "7"), tuple(members)).group_class is expected


def test_what_was_sampled_includes_the_failures_that_were_replaced():
    own, salvaged, replaced = member(Outcome.RIGHT), member(Outcome.RIGHT, Role.SALVAGED), member(Outcome.WRONG)
    group = Group(Problem("p", "Q", "7"), (own, salvaged), (replaced,))
    assert group.sampled == (own, replaced)
    assert group.num_sampled == 2
