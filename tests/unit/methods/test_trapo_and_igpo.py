"""TRAPO and IGPO: how much of a trace a group is given, and what of it trains."""

from __future__ import annotations

import pytest
import torch

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods import Igpo, Trapo
from tests.doubles import PROBLEM, PROMPT_IDS, ScriptedPolicy, ScriptedTeacher, credited, group, plain, toolbox

TRACE = "one\n\ntwo\n\nanswer 7|"  # 19 tokens
RIGHT, WRONG = "answer 7|", "answer 1|"


def sampled(script: list[str], num_rollouts: int = 8, trace: str = TRACE) -> tuple[Group, ScriptedPolicy]:
    policy = ScriptedPolicy(script)
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([trace]))
    return Trapo().sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], num_rollouts, tools)[0], policy


def starts(found: Group) -> list[int]:
    return [m.rollout.num_tokens_from(Origin.TEACHER) for m in found.members]


def test_a_failing_group_is_given_more_and_more():
    found, _ = sampled([WRONG])
    assert starts(found) == [0, 0, 0, 0, 4, 4, 9, 19]
    assert [m.role for m in found.members] == [Role.SAMPLED] * 4 + [Role.GUIDED] * 4
    assert plain(found.members[7].rollout) == TRACE
    assert found.members[7].verdict.is_right
    assert not found.members[7].rollout.is_truncated


def test_a_good_group_goes_on_alone():
    found, _ = sampled([RIGHT])
    assert starts(found) == [0] * 8
    assert {m.role for m in found.members} == {Role.SAMPLED}


def test_the_thresholds_are_shares_of_what_was_tried_so_far():
    # Two of four are no reason for help, three of six are, and so is anything but seven of seven.
    found, _ = sampled([RIGHT, RIGHT, WRONG, WRONG, RIGHT, WRONG, RIGHT])
    assert starts(found) == [0, 0, 0, 0, 0, 0, 9, 19]


def test_without_a_verified_trace_it_samples_as_grpo():
    found, policy = sampled([WRONG], trace="answer 1|")
    assert starts(found) == [0] * 8
    assert set(policy.prefixes) == {PROMPT_IDS}


@pytest.mark.parametrize("num_rollouts", [2, 3])
def test_a_small_group_has_no_parts(num_rollouts: int):
    assert starts(sampled([WRONG], num_rollouts)[0]) == [0] * num_rollouts


def test_a_group_of_four_has_a_part_for_each_amount_of_help():
    assert starts(sampled([WRONG], 4)[0]) == [0, 4, 9, 19]


def test_a_start_is_imitated_once_whatever_came_of_it():
    found, _ = sampled([WRONG])
    streams = credited(Trapo(), [found])[0]
    quarter, again, half, whole = streams[4:]
    assert quarter.advantage_T == (1.0,) * 4 + (-0.125,) * 9
    assert quarter.weight_T == (1.0,) * 13
    assert again.weight_T == (0.0,) * 4 + (1.0,) * 9
    assert half.advantage_T[:9] == (1.0,) * 9
    assert whole.advantage_T == (1.0,) * 19
    assert streams[0].advantage_T == (-0.125,) * 9


# --- IGPO -------------------------------------------------------------------------------------------------------------


def injected(*texts: str, script: list[str], **settings) -> Group:
    tools = toolbox(policy=ScriptedPolicy(script), teacher=ScriptedTeacher([TRACE]))
    return Igpo(**settings).edit_groups([group(*texts)], tools)[0]


def test_right_completions_replace_failures():
    found = injected("a|", "b|", "c|", script=[RIGHT, WRONG], low=0.5, high=0.5)
    (newcomer,) = [m for m in found.members if m.role is Role.GUIDED]
    assert plain(newcomer.rollout) == TRACE[:9] + RIGHT
    assert len(found.members) == 3
    assert len(found.replaced) == 1


@pytest.mark.parametrize(
    ("texts", "settings"), [((RIGHT, "a|"), {}), (("a|",), {"max_injections": 0}), (("answer ?|",), {})]
)
def test_other_groups_stay(texts, settings):
    assert injected(*texts, script=[RIGHT], **settings) == group(*texts)


def test_a_wrong_completion_never_joins():
    assert injected("a|", script=[WRONG, "answer ?|"]) == group("a|")


def test_of_the_injected_part_only_the_least_certain_tokens_train():
    ones = torch.ones(1, 6)
    tokens = Tokens(
        logp_BT=-ones, old_logp_BT=-ones, advantage_BT=ones,
        is_teacher_BT=torch.tensor([[True] * 5 + [False]]), teacher_logp_BT=0 * ones, weight_BT=ones,
        entropy_BT=torch.tensor([[0.1, 0.9, 0.2, 0.3, 0.4, 0.0]]),
    )  # fmt: skip
    assert Igpo().token_loss(tokens, Clip()).tolist() == [[0.0, -1.0, 0.0, 0.0, 0.0, -1.0]]
