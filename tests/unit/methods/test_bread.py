"""BREAD: which prefix is branched from, what the branch is made of, and what of it trains."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.methods.guided.bread import Bread
from tests.doubles import PROMPT_IDS, ScriptedPolicy, ScriptedTeacher, credited, group, plain, sampled, toolbox

TRACE = "one\n\ntwo\n\nthree\n\nanswer 7|"
WRONG, RIGHT = "answer 1|", "answer 7|"


def edited(*texts: str, policy: ScriptedPolicy, trace: str = TRACE, seed: int = 0, **settings) -> Group:
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([trace]), seed=seed)
    return Bread(**settings).edit_groups([group(*texts)], tools)[0]


def test_the_shortest_prefix_that_helps_replaces_a_failure():
    policy = ScriptedPolicy([WRONG, RIGHT])
    after = edited("a|", "b|", policy=policy)
    assert policy.prefixes == [(*PROMPT_IDS, *sampled("one\n\n")), (*PROMPT_IDS, *sampled("one\n\ntwo\n\n"))]
    place = next(i for i, m in enumerate(after.members) if m.role is Role.GUIDED)
    assert [plain(m.rollout) for m in after.replaced] == [("a|", "b|")[place]]
    assert len(after.members) == 2
    branch = after.members[place]
    assert branch.rollout.token_ids == sampled("one\n\ntwo\n\nanswer 7|")
    assert branch.rollout.origin_T == (Origin.TEACHER,) * 10 + (Origin.POLICY,) * 9
    streams = credited(Bread(), [after])[0]
    assert streams[place].advantage_T == (0.5,) * 19
    assert streams[place].weight_T == (0.0,) * 10 + (1.0,) * 9
    assert set(streams[1 - place].advantage_T) == {-0.5}


def test_the_prefix_trains_where_a_term_says_so():
    after = edited("a|", "b|", policy=ScriptedPolicy([RIGHT]))
    branch = next(s for s in credited(Bread(teacher_term="shaped"), [after])[0] if Origin.TEACHER in s.origin_T)
    assert set(branch.weight_T) == {1.0}


def test_where_no_prefix_helps_the_group_stays():
    policy = ScriptedPolicy([WRONG])
    assert edited("a|", "b|", policy=policy) == group("a|", "b|")
    assert [len(prefix) - 2 for prefix in policy.prefixes] == [5, 10, 17]


def test_unknown_is_not_right():
    assert edited("a|", policy=ScriptedPolicy(["answer ?|"])) == group("a|")


def test_several_continuations_of_one_prefix():
    policy = ScriptedPolicy([WRONG, RIGHT, WRONG])
    after = edited("a|", policy=policy, num_continuations=3)
    assert plain(after.members[0].rollout) == "one\n\nanswer 7|"
    assert len(policy.prefixes) == 3


@pytest.mark.parametrize("texts", [(RIGHT, "a|"), (RIGHT,), ("answer ?|",)])
def test_other_groups_cost_nothing(texts):
    policy = ScriptedPolicy([RIGHT])
    assert edited(*texts, policy=policy) == group(*texts)
    assert policy.num_calls == 0


@pytest.mark.parametrize("trace", [WRONG, "one\n\nanswer 7", "answer ?|", RIGHT])
def test_without_a_verified_trace_of_several_steps_the_group_stays(trace):
    policy = ScriptedPolicy([RIGHT])
    assert edited("a|", policy=policy, trace=trace) == group("a|")
    assert policy.num_calls == 0


def test_groups_are_searched_together_and_each_ends_where_it_succeeds():
    policy = ScriptedPolicy([WRONG, RIGHT, RIGHT])
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([TRACE]))
    after = Bread().edit_groups([group("a|"), group(RIGHT), group("b|")], tools)
    assert policy.num_calls == 2
    texts = [plain(g.members[0].rollout) for g in after]
    assert texts == ["one\n\ntwo\n\nanswer 7|", RIGHT, "one\n\nanswer 7|"]
    assert tools.tokens["continuation"] == 27


@given(st.lists(st.integers(1, 999), unique=True, max_size=60).map(sorted), st.integers(1, 12))
def test_thinned_anchors(anchors, max_anchors):
    kept = Bread(max_anchors=max_anchors).thinned(anchors)
    assert len(kept) <= max_anchors
    assert kept[:1] == anchors[:1]
    assert set(kept) <= set(anchors)
    assert len(anchors) > max_anchors or kept == anchors
