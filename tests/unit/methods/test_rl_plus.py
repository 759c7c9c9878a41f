"""RL-PLUS: LUFFY's groups with another term for the teacher's tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.losses import Clip, example_tokens
from scope_rlvr.methods.guided.luffy import Luffy
from scope_rlvr.methods.guided.rl_plus import RlPlus
from tests.doubles import PROBLEM, PROMPT_IDS, ScriptedPolicy, ScriptedTeacher, credited, plain, sampled, toolbox

TRACE = "so\n\nanswer 7|"
BOTH = pytest.mark.parametrize("method", [RlPlus(), Luffy()], ids=["rl_plus", "luffy"])


def trained_group(method, *rollouts: str, teacher: ScriptedTeacher | None = None) -> Group:
    """One group of as many rows as there are rollouts and traces."""
    tools = toolbox(policy=ScriptedPolicy(rollouts), teacher=teacher or ScriptedTeacher([TRACE]))
    groups = method.sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], len(rollouts) + method.num_traces, tools)
    return method.edit_groups(groups, tools)[0]


@BOTH
def test_one_whole_trace_stands_beside_the_rollouts(method):
    group = trained_group(method, "answer 1|", "answer 7|", "bad|")
    assert [plain(m.rollout) for m in group.members] == ["answer 1|", "answer 7|", "bad|", TRACE]
    trace = group.members[-1]
    assert trace.rollout.token_ids == sampled(TRACE)
    assert trace.rollout.prompt_ids == PROMPT_IDS
    assert trace.role is Role.GUIDED
    assert set(trace.rollout.origin_T) == {Origin.TEACHER}
    streams = credited(method, [group])[0]
    assert [set(s.advantage_T) for s in streams] == [{-0.5}, {0.5}, {-0.5}, {0.5}]
    assert all(set(s.weight_T) == {1.0} for s in streams)


@BOTH
@pytest.mark.parametrize("reply", ["answer 1|", "answer 7", "answer ?|", "x" * 201 + "\nanswer 7|"])
def test_a_trace_that_is_not_right_or_does_not_fit_is_left_out(method, reply):
    group = trained_group(method, "answer 1|", "answer 7|", teacher=ScriptedTeacher([reply]))
    assert [plain(m.rollout) for m in group.members] == ["answer 1|", "answer 7|"]


def test_the_policy_must_be_left_a_rollout():
    with pytest.raises(ValueError, match="num_traces 4 leaves none of 4"):
        RlPlus(num_traces=4).sample([Group(PROBLEM, ())], 4, toolbox())


def test_a_teacher_that_repeats_itself_gives_one_trace():
    group = trained_group(RlPlus(num_traces=3), "bad|", "bad|")
    assert [plain(m.rollout) for m in group.members] == ["bad|", "bad|", TRACE]
    other = trained_group(RlPlus(num_traces=3), "bad|", teacher=ScriptedTeacher([TRACE, "answer 7|", "answer 1|"]))
    assert [plain(m.rollout) for m in other.members] == ["bad|", TRACE, "answer 7|"]


@pytest.mark.parametrize(
    ("prob", "old", "advantage", "loss"),
    [
        (0.5, 0.5, 1.0, -(0.5**0.5) * 2.0 / 2.5),
        (0.25, 0.5, 0.75, -0.75 * 0.75**0.5 * 1.0 / 2.5),
        (0.96, 1.0, 1.0, -0.2 * 3.84 / 4.0),
        (0.5, 0.5, 0.0, 0.0),
    ],
)
def test_the_loss_of_a_teacher_token(prob, old, advantage, loss):
    tokens = replace(example_tokens(prob, advantage=advantage), old_logp_BT=torch.tensor([[old]]).log())
    assert RlPlus().token_loss(tokens, Clip()).item() == pytest.approx(loss, abs=1e-6)


def test_the_bonus_itself_has_no_gradient():
    tokens = replace(example_tokens(0.25), logp_BT=torch.tensor([[0.25]]).log().requires_grad_())
    loss = RlPlus().token_loss(tokens, Clip())
    (gradient,) = torch.autograd.grad(loss.sum(), tokens.logp_BT)
    assert gradient.item() == pytest.approx(loss.item())  # d/dlogp of c·π is c·π


def test_tokens_of_the_policy_keep_the_clipped_surrogate():
    tokens = replace(
        example_tokens(0.9), is_teacher_BT=torch.tensor([[False]]), old_logp_BT=torch.tensor([[0.5]]).log()
    )
    assert RlPlus().token_loss(tokens, Clip()).item() == pytest.approx(-1.2)
