"""SFT, SFT then GRPO, and ReLIFT: when the policy samples, whom it imitates, and what that is worth."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip, Tokens
from scope_rlvr.methods import Method, ReLift, Sft, SftThenGrpo
from scope_rlvr.methods.loss import Objective
from scope_rlvr.methods.method import SideUpdate
from scope_rlvr.teachers.solutions import SolutionTeacher
from tests.doubles import ScriptedPolicy, ScriptedTeacher, credited, plain, toolbox

TRACE = "so\n\nanswer 7|"


def problems(*names: str) -> list[Group]:
    return [Group(Problem(name, f"Q{name}", "7"), (), prompt_ids=(1, ord(name))) for name in names]


def stepped(method: Method, groups: list[Group], tools: Toolbox, num_rollouts: int = 2) -> list[Group]:
    return method.edit_groups(method.sample(groups, num_rollouts, tools), tools)


def test_sft_samples_nothing_and_imitates_one_trace_a_problem():
    policy = ScriptedPolicy()
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([TRACE]))
    groups = stepped(Sft(), problems("a", "b"), tools)
    assert policy.num_calls == 0
    assert [[plain(m.rollout) for m in g.members] for g in groups] == [[TRACE], [TRACE]]
    assert tools.tokens == {"teacher": 2 * len(TRACE)}
    for streams_G in credited(Sft(), groups):
        assert [(set(s.advantage_T), set(s.weight_T)) for s in streams_G] == [({1.0}, {1.0})]


def test_a_wrong_trace_is_not_imitated():
    groups = stepped(Sft(), problems("a", "b"), toolbox(teacher=ScriptedTeacher(["answer 1|", TRACE])))
    assert [len(g.members) for g in groups] == [0, 1]


def test_the_loss_of_imitation_is_minus_log_pi():
    logp_BT = torch.log(torch.tensor([[0.5]]))
    tokens = Tokens(logp_BT, logp_BT, torch.ones(1, 1), torch.tensor([[True]]), *torch.zeros(3, 1, 1))
    assert Sft().token_loss(tokens, Clip()).item() == pytest.approx(0.6931, abs=1e-4)


def test_sft_then_grpo_changes_over_once():
    method = SftThenGrpo(sft_share=0.5)
    seen = []
    for step in range(1, 5):
        policy = ScriptedPolicy(["answer 7|", "b|"])
        tools = toolbox(policy=policy, teacher=ScriptedTeacher([TRACE]), step=step, num_steps=4)
        (group,) = stepped(method, problems("a"), tools)
        seen.append((method.stage(step, 4), policy.num_calls, [m.role for m in group.members]))
    assert seen == [(0, 0, [Role.GUIDED])] * 2 + [(1, 1, [Role.SAMPLED] * 2)] * 2


def test_sft_then_grpo_credits_rollouts_as_grpo_does():
    tools = toolbox(policy=ScriptedPolicy(["answer 7|", "b|"]), step=2, num_steps=2)
    (streams,) = credited(SftThenGrpo(), stepped(SftThenGrpo(), problems("a"), tools))
    assert [s.advantage_T[0] for s in streams] == [0.5, -0.5]


def aside(method: ReLift, groups: list[Group], tools: Toolbox) -> list[SideUpdate]:
    return method.side_updates(stepped(method, groups, tools), tools)


def test_relift_imitates_what_nobody_solved_beside_the_step_as_soon_as_it_is_as_much_as_a_step():
    policy = ScriptedPolicy(["a|", "b|", "answer 7|", "c|", "d|", "e|", "f|", "g|", "answer 7|", "h|", "i|", "j|"])
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([TRACE]))
    method = ReLift(sft_rate=2.0)
    assert aside(method, problems("a", "b"), tools) == []
    # What a checkpoint keeps is all that the method remembers.
    tools = replace(tools, memory=json.loads(json.dumps(tools.memory)))
    (update,) = aside(method, problems("c", "d"), tools)
    # Of a, c and d the newest two, in the order of their step.
    assert [g.problem.id for g in update.groups] == ["c", "d"]
    assert [g.prompt_ids for g in update.groups] == [(1, ord("c")), (1, ord("d"))]
    assert [[(m.role, plain(m.rollout)) for m in g.members] for g in update.groups] == [[(Role.GUIDED, TRACE)]] * 2
    assert update.rate == 2.0
    (update,) = aside(method, problems("e", "f"), tools)
    assert [g.problem.id for g in update.groups] == ["f", "a"]
    assert tools.memory == {"hardest": []}
    assert policy.num_calls == 3


def test_relift_weighs_all_tokens_of_all_traces_alike():
    tools = toolbox(policy=ScriptedPolicy(["a|"]), teacher=ScriptedTeacher([TRACE]))
    (update,) = aside(ReLift(), problems("a", "b"), tools)
    for streams_G in credited(update.method, list(update.groups)):
        assert [(set(s.advantage_T), set(s.weight_T)) for s in streams_G] == [({1.0}, {1.0})]
    run = Objective(100, Normalisation.GROUP_STD, Aggregation.SEQUENCE_MEAN, kl=0.5)
    assert run.of(ReLift()).of(update.method).aggregation is Aggregation.TOKEN_MEAN
    assert run.of(ReLift()).of(update.method).entropy == 0.001
    assert run.of(ReLift()) == Objective(100, Normalisation.NONE, Aggregation.MAX_LENGTH, kl=0.0, entropy=0.001)


def test_the_steps_own_credit_is_that_of_grpo_without_division():
    groups = stepped(ReLift(), problems("a"), toolbox(policy=ScriptedPolicy(["answer 7|", "b|"])))
    assert [s.advantage_T[0] for s in credited(ReLift(), groups)[0]] == [0.5, -0.5]


def test_relift_remembers_all_of_a_problem():
    solution = "so\n\nanswer 7"
    unsolved = Problem("a", "Qa", "7", "here", 3, solution, context=(("system", "Be brief."), ("user", "")))
    policy = ScriptedPolicy(["a|", "b|", "answer 7|", "c|", "d|", "e|", "answer 7|", "f|"])
    tools = toolbox(policy=policy, teacher=SolutionTeacher())
    assert aside(ReLift(), [Group(unsolved, (), prompt_ids=(1, 5)), *problems("z")], tools) == []
    (update,) = aside(ReLift(), problems("b", "c"), replace(tools, memory=json.loads(json.dumps(tools.memory))))
    recalled = update.groups[1]
    assert recalled.problem == unsolved
    assert plain(recalled.members[0].rollout) == f"{solution}|"


def test_relift_does_not_remember_what_the_teacher_cannot_solve_for_ever():
    tools = toolbox(policy=ScriptedPolicy(["a|"]), teacher=ScriptedTeacher(["answer 1|"]))
    (update,) = aside(ReLift(), problems("a"), tools)
    assert [g.members for g in update.groups] == [()]
    assert tools.memory == {"hardest": []}


def test_the_learning_rate_is_multiplied_while_imitating_and_warms_up_again_after():
    method = SftThenGrpo(sft_share=0.5, sft_rate=3.0)
    assert [method.learning_rate_factor(step, 8) for step in range(1, 9)] == [3.0] * 4 + [0.2, 0.4, 0.6, 0.8]
    assert Sft().learning_rate_factor(1, 8) == 1.0
