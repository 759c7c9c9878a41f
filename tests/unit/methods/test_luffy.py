"""LUFFY: one trace beside seven rollouts, their advantages, and the shaped loss on the teacher's tokens."""

from __future__ import annotations

import pytest
import torch

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods.guided.luffy import Luffy
from tests.doubles import PROBLEM, ScriptedPolicy, ScriptedTeacher, credited, plain, toolbox

TRACE = "so\n\nanswer 7|"


def stepped(*texts: str, teacher: ScriptedTeacher | None = None, **settings: int) -> Group:
    method = Luffy(**settings)
    tools = toolbox(policy=ScriptedPolicy(texts), teacher=teacher or ScriptedTeacher([TRACE]))
    groups = method.sample([Group(PROBLEM, (), prompt_ids=(1, 2))], len(texts) + method.num_traces, tools)
    return method.edit_groups(groups, tools)[0]


def test_a_group_of_four_holds_three_rollouts_and_a_trace():
    group = stepped("a|", "answer 7|", "b|")
    assert [plain(m.rollout) for m in group.members] == ["a|", "answer 7|", "b|", TRACE]
    assert [m.role for m in group.members] == [Role.SAMPLED] * 3 + [Role.GUIDED]
    assert set(group.members[3].rollout.origin_T) == {Origin.TEACHER}
    assert group.members[3].rollout.prompt_ids == (1, 2)


def test_two_of_four_are_right_so_the_mean_is_a_half():
    streams = credited(Luffy(), [stepped("a|", "answer 7|", "b|")])[0]
    assert [s.advantage_T[0] for s in streams] == [-0.5, 0.5, -0.5, 0.5]
    assert all(set(s.weight_T) == {1.0} for s in streams)


def test_where_all_are_right_nobody_is_imitated():
    streams = credited(Luffy(), [stepped("answer 7|", "answer 7|")])[0]
    assert {a for s in streams for a in s.advantage_T} == {0.0}


@pytest.mark.parametrize("reply", ["answer 1|", "answer 7", "answer ?|"])
def test_a_trace_that_is_not_right_is_left_out(reply):
    assert len(stepped("a|", "b|", teacher=ScriptedTeacher([reply])).members) == 2


def test_the_policy_samples_fewer_rollouts_and_the_teacher_s_tokens_are_counted():
    tools = toolbox(policy=ScriptedPolicy(["ab|"]), teacher=ScriptedTeacher([TRACE]))
    Luffy().edit_groups(Luffy().sample([Group(PROBLEM, (), prompt_ids=(1,))], 4, tools), tools)
    assert tools.tokens == {"sampled": 9, "teacher": len(TRACE)}


def test_the_loss_is_shaped_on_the_teacher_s_tokens_and_clipped_on_the_others():
    logp_BT = torch.log(torch.tensor([[0.3, 0.3]]))
    tokens = Tokens(
        logp_BT=logp_BT,
        old_logp_BT=torch.log(torch.tensor([[0.2, 0.2]])),
        advantage_BT=torch.tensor([[0.5, 0.5]]),
        is_teacher_BT=torch.tensor([[True, False]]),
        teacher_logp_BT=torch.zeros(1, 2),
        weight_BT=torch.ones(1, 2),
        entropy_BT=torch.zeros(1, 2),
    )
    # 0.5 · 0.3 / 0.4 for the teacher's token; 0.5 · min(1.5, 1.2) for the policy's.
    assert Luffy().token_loss(tokens, Clip()).tolist() == [pytest.approx([-0.375, -0.6])]
