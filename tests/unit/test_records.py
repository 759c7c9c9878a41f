"""What the journal says of a rollout."""

from __future__ import annotations

import json

import pytest

from scope_rlvr.methods import Method, ProcessReward, Prof, Scope
from scope_rlvr.methods.step import edit_groups
from scope_rlvr.store.records import group_records
from tests.doubles import CharCodec, TableScorer, group, toolbox

FAILURE, RIGHT = "good 1\n\nbad 2\n\nanswer 3|", "answer 7|"


def records_of(method: Method, *texts: str, **parts) -> list[dict]:
    tools = toolbox(**parts)
    groups = method.prepare(edit_groups(method, [group(*texts)], tools), tools)
    rewards = [[member.verdict.pay for member in g.members] for g in groups]
    return [json.loads(json.dumps(record)) for record in group_records(1, groups, rewards, CharCodec())]


def test_what_a_scorer_said_is_kept_where_nothing_is_salvaged():
    failure, right = records_of(ProcessReward(), FAILURE, RIGHT)
    assert failure["scoring"] == {
        "steps": [
            {"text": "good 1\n\n", "start": 0, "end": 8},
            {"text": "bad 2\n\n", "start": 8, "end": 15},
            {"text": "answer 3", "start": 15, "end": 24},
        ],
        "step_scores": [0.9, 0.1, 0.9],
        "first_wrong_step": 1,
    }
    assert right["scoring"]["first_wrong_step"] is None
    assert failure["salvage"] is right["salvage"] is None


def test_where_scoring_failed_nothing_is_said():
    scorer = TableScorer(distort=lambda _: None)
    assert [record["scoring"] for record in records_of(ProcessReward(), FAILURE, RIGHT, step_scorer=scorer)] == [
        None
    ] * 2


@pytest.mark.parametrize(
    ("settings", "first_wrong_step"), [({}, 1), ({"cut": "random_step", "guards": {"low_score": False}}, None)]
)
def test_where_a_failure_was_cut_is_kept_apart_from_what_the_scorer_said(settings, first_wrong_step):
    *_, replaced = records_of(Scope(min_prefix_ratio=0, **settings), "good 1\n\nbad 2|")
    assert (replaced["salvage"]["first_wrong_step"], replaced["salvage"]["cut_step"]) == (first_wrong_step, 1)


def test_what_a_filter_dropped_keeps_its_scores():
    records = records_of(Prof(), RIGHT, "bad\n\nanswer 7|", FAILURE, "good\n\nanswer 3|")
    assert [record["role"] for record in records] == ["sampled", "sampled", "replaced", "replaced"]
    assert [record["reward"] for record in records] == [1.0, 0.0, None, None]
    assert all(record["scoring"]["step_scores"] for record in records)
