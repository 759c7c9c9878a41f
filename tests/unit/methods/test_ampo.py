"""AMPO: which groups are helped, which rollouts are replaced, and what the newcomers earn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Outcome
from scope_rlvr.methods.guided.ampo import Ampo
from tests.doubles import ScriptedTeacher, credited, group, plain, toolbox

TRACES = ("so\n\nanswer 7|", "or\n\nanswer 7|")


def edited(*texts: str, teacher: ScriptedTeacher | None = None, seed: int = 0, **settings: int) -> Group:
    tools = toolbox(teacher=teacher or ScriptedTeacher(TRACES), seed=seed)
    return Ampo(**settings).edit_groups([group(*texts)], tools)[0]


def test_two_traces_replace_two_of_four_failures():
    after = edited("a|", "b|", "c|", "d|")
    guided = [i for i, m in enumerate(after.members) if m.role is Role.GUIDED]
    assert len(guided) == 2
    assert {plain(after.members[i].rollout) for i in guided} == set(TRACES)
    assert sorted(plain(m.rollout) for m in after.replaced) == [f"{'abcd'[i]}|" for i in guided]
    streams = credited(Ampo(), [after])[0]
    assert [s.advantage_T[0] for s in streams] == [0.5 if i in guided else -0.5 for i in range(4)]


def test_any_failure_may_be_the_one_that_is_replaced():
    places = {
        edited("a|", "b|", "c|", "d|", seed=seed, num_traces=1).replaced[0].rollout.token_ids for seed in range(40)
    }
    assert len(places) == 4


def test_a_greedy_teacher_replaces_one_failure():
    after = edited("a|", "b|", "c|", teacher=ScriptedTeacher(TRACES[:1]))
    assert [m.role for m in after.members].count(Role.GUIDED) == len(after.replaced) == 1


@pytest.mark.parametrize("texts", [("answer 7|", "a|"), ("answer 7|", "answer 7|"), ("answer ?|", "answer ?|")])
def test_other_groups_are_left_alone_and_cost_nothing(texts):
    teacher = ScriptedTeacher(TRACES)
    assert edited(*texts, teacher=teacher) == group(*texts)
    assert teacher.num_calls == 0


@pytest.mark.parametrize("reply", ["answer 1|", "answer 7", "answer ?|"])
def test_a_teacher_that_fails_changes_nothing(reply):
    assert edited("a|", "b|", teacher=ScriptedTeacher([reply])) == group("a|", "b|")


def test_an_unknown_verdict_is_not_a_failure_and_a_truncated_one_is():
    after = edited("answer ?|", "cut off")
    assert [plain(m.rollout) for m in after.members] == ["answer ?|", TRACES[0]]
    assert [plain(m.rollout) for m in after.replaced] == ["cut off"]


def test_groups_of_a_step_keep_their_order():
    groups = [group("answer 7|"), group("a|"), group("answer 7|"), group("b|")]
    after = Ampo(num_traces=1).edit_groups(groups, toolbox(teacher=ScriptedTeacher(TRACES)))
    assert [plain(g.members[0].rollout) for g in after] == ["answer 7|", TRACES[0], "answer 7|", TRACES[1]]


@given(st.lists(st.sampled_from(["a|", "answer 7|", "answer ?|", "cut"]), min_size=1, max_size=8), st.integers(1, 3))
def test_the_group_never_grows_and_nothing_is_lost(texts, num_traces):
    before, after = group(*texts), edited(*texts, num_traces=num_traces)
    assert len(after.members) == len(before.members)
    assert sorted(map(str, after.sampled)) == sorted(map(str, before.members))
    assert all(m.verdict.outcome is Outcome.WRONG for m in after.replaced)
