"""ARPO: where rollouts branch, and how they end."""

from __future__ import annotations

from dataclasses import dataclass

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.steps import StepRule
from scope_rlvr.methods.exploration.arpo import Arpo
from tests.doubles import PROBLEM, PROMPT_IDS, ScriptedPolicy, plain, toolbox


@dataclass
class Policy(ScriptedPolicy):
    """Uncertain of what has a ``?`` in it."""

    def entropies(self, prompts, responses, temperature):
        return [tuple(9.0 if chr(token % (1 << 21)) == "?" else 0.1 for token in ids) for ids in responses]


def sampled(method: Arpo, script: list[str], num_rollouts: int = 2, **tools) -> Group:
    policy = Policy(script)
    return method.sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], num_rollouts, toolbox(policy=policy, **tools))[0]


def test_a_branch_begins_with_what_its_origin_had_written():
    script = ["a\n\n", "b?\n\n", "answer 7|", "answer 3|"]
    group = sampled(Arpo(threshold=0, slope=9), script)
    assert [plain(m.rollout) for m in group.members] == ["a\n\nb?\n\nanswer 7|", "a\n\nb?\n\nanswer 3|"]
    assert [m.role for m in group.members] == [Role.SAMPLED, Role.BRANCHED]
    assert [m.extras["branched_at"] for m in group.members] == [0.0, 7.0]
    assert [m.num_shared_tokens for m in group.members] == [0, 0]


def test_without_a_rise_of_entropy_the_rest_is_sampled_from_the_prompt():
    group = sampled(Arpo(threshold=0, slope=9), ["a\n\n", "answer 7|", "answer 3|"])
    assert [plain(m.rollout) for m in group.members] == ["a\n\nanswer 7|", "answer 3|"]
    assert [m.verdict.is_right for m in group.members] == [True, False]


def test_more_steps_than_are_told_apart_end_all_the_same():
    script = ["a\n\n", "b\n\n", "answer 7|", "answer 3|"]
    group = sampled(Arpo(first_share=1), script, steps=StepRule(max_steps=1))
    assert [plain(m.rollout) for m in group.members] == ["a\n\nanswer 7|", "b\n\nanswer 3|"]
    assert [m.rollout.is_truncated for m in group.members] == [False, False]


def test_the_budget_ends_a_response_for_good():
    group = sampled(Arpo(first_share=1), ["0123456789"], num_rollouts=1, max_response_tokens=4)
    (member,) = group.members
    assert (plain(member.rollout), member.rollout.is_truncated, member.verdict.is_right) == ("0123", True, False)
