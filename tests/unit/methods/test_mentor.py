"""MENTOR: where the teacher puts a token in, and what a mixed rollout is worth."""

from __future__ import annotations

import pytest

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.methods import Grpo, Mentor
from tests.doubles import PROBLEM, PROMPT_IDS, SAMPLED, ScriptedPolicy, ScriptedTeacher, group, plain, toolbox
from tests.doubles import credited as credited_groups


class Unsure(ScriptedPolicy):
    """Uncertain before every X."""

    def entropies(self, prompts, responses, temperature):
        return [tuple(2.0 if token % SAMPLED == ord("X") else 0.1 for token in ids) for ids in responses]


def mixed(script: list[str], teacher: list[str], step: int = 1, num_rollouts: int = 4, **settings):
    tools = toolbox(policy=Unsure(script), teacher=ScriptedTeacher(teacher), step=step)
    method = Mentor(**({"num_points": 1} | settings))
    (found,) = method.sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], num_rollouts, tools)
    return method, found, tools


def test_the_teacher_writes_one_token_where_the_policy_is_least_certain():
    method, found, tools = mixed(["answer 3|"] * 2 + ["aXb|"] * 2 + ["\nanswer 7|", "\nanswer 3|"], ["T"])
    assert [plain(m.rollout) for m in found.members[2:]] == ["aT\nanswer 7|", "aT\nanswer 3|"]
    assert [m.role for m in found.members] == [Role.SAMPLED] * 2 + [Role.GUIDED] * 2
    right = found.members[2].rollout
    assert right.origin_T[:3] == (Origin.POLICY, Origin.TEACHER, Origin.POLICY)
    assert (tools.tokens["teacher"], len(tools.teacher.requests)) == (2, 2)
    assert {request.max_tokens for request in tools.teacher.requests} == {1}
    own, _, better, worse = credited_groups(method, [found])[0]
    # Both own rollouts are wrong: a mixed right one is worth 1, a mixed wrong one nothing.
    assert set(own.advantage_T) == {0.0}
    assert set(better.advantage_T) == {1.0}
    assert set(worse.advantage_T) == {0.0}


def test_a_token_that_ends_the_response_ends_it():
    _, found, tools = mixed(["answer 3|"] * 2 + ["aXb|"] * 2, ["|"])
    assert [plain(m.rollout) for m in found.members[2:]] == ["a|", "a|"]
    assert not any(m.rollout.is_truncated for m in found.members)
    assert tools.policy.num_calls == 2


def test_one_place_after_another():
    _, found, _ = mixed(["answer 3|"] * 2 + ["X1|"] * 2 + ["X2|"] * 2 + ["|"] * 2, ["S", "S", "T", "T"], num_points=2)
    assert plain(found.members[2].rollout) == "ST|"


@pytest.mark.parametrize("settings", [{"least_entropy": 3.0}, {"num_points": 1}])
def test_where_nothing_is_critical_or_the_teacher_fails_rollouts_stay(settings):
    script = ["answer 3|"] * 2 + (["aXb|"] * 2 if "least_entropy" in settings else ["ab|"] * 2)
    _, found, _ = mixed(script, ["T"], **settings)
    assert Origin.TEACHER not in found.members[2].rollout.origin_T


def test_the_weight_falls_and_then_nothing_is_mixed():
    assert Mentor(num_guided_steps=3).expert_weight(2) == pytest.approx(0.5)
    method, found, _ = mixed(["answer 3|", "answer 7|", "answer 3|", "answer 3|"], ["T"], step=120)
    assert {m.role for m in found.members} == {Role.SAMPLED}
    assert credited_groups(method, [found]) == credited_groups(Grpo(), [found])


def test_without_a_share_it_is_grpo():
    method, found, _ = mixed(["answer 3|", "answer 7|", "answer 3|", "answer 3|"], ["T"], mixed_share=0.0)
    assert credited_groups(method, [found]) == credited_groups(
        Grpo(), [group(*[plain(m.rollout) for m in found.members])]
    )
