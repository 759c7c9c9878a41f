"""Critique-GRPO: what the policy is shown, which refinements join, and how they train."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.losses import Clip, example_tokens
from scope_rlvr.methods.guided.critique_grpo import CritiqueGrpo
from tests.doubles import LOGPROB, PROMPT_IDS, ScriptedPolicy, credited, group, plain, sampled, toolbox

WRONG, RIGHT = "answer 1|", "answer 7|"


def edited(*texts: str, script: list[str], seed: int = 0, **settings) -> tuple[Group, ScriptedPolicy, list[str]]:
    seen: list[str] = []

    def read(problem, text):
        seen.append(text)
        return (9, len(seen))

    policy = ScriptedPolicy(script)
    tools = toolbox(policy=policy, prompt_reader=read, seed=seed, teacher=None)
    return CritiqueGrpo(**settings).edit_groups([group(*texts)], tools)[0], policy, seen


def test_the_refinement_takes_the_place_of_its_failure():
    after, policy, seen = edited("so\nanswer 3|", RIGHT, "b|", script=[WRONG, f"then\n{RIGHT}"])
    before = group("so\nanswer 3|", RIGHT, "b|")
    assert [text.split("\n\n")[:3] for text in seen] == [
        ["Q", "A previous attempt:", "so\nanswer 3"],
        ["Q", "A previous attempt:", "b"],
    ]
    assert all("the right answer is 7." in text for text in seen)
    assert policy.prefixes == [(9, 1), (9, 2)]
    assert set(policy.budgets) == {200}
    assert after.members[:2] == before.members[:2]
    assert after.replaced == before.members[2:]
    refined = after.members[2]
    assert refined.rollout.prompt_ids == PROMPT_IDS
    assert refined.rollout.token_ids == sampled(f"then\n{RIGHT}")
    assert set(refined.rollout.origin_T) == {Origin.TEACHER}
    assert set(refined.rollout.logprob_T) == {LOGPROB}
    assert refined.role is Role.GUIDED
    streams = credited(CritiqueGrpo(), [after])[0]
    assert [s.advantage_T[0] for s in streams] == pytest.approx([-2 / 3, 1 / 3, 1 / 3])


def test_the_refined_token_has_the_shaped_loss():
    loss = CritiqueGrpo().token_loss(example_tokens(0.3, teacher=0.9, advantage=0.75), Clip())
    assert loss.item() == pytest.approx(-0.75 * 0.3 / 0.4)


@pytest.mark.parametrize(("allowed", "joined"), [(1, 1), (2, 2), (9, 4)])
def test_not_more_than_allowed_join(allowed, joined):
    after, policy, _ = edited("a|", "b|", "c|", "d|", script=[RIGHT], max_refinements=allowed)
    assert [m.role for m in after.members].count(Role.GUIDED) == len(after.replaced) == joined
    assert len(policy.prefixes) == 4


def test_any_right_refinement_may_be_the_one_that_joins():
    texts = ["a|", "b|", "c|", "d|"]
    assert {plain(edited(*texts, script=[RIGHT], seed=s)[0].replaced[0].rollout) for s in range(40)} == set(texts)


@pytest.mark.parametrize("refinement", [WRONG, "answer ?|", "answer 7"])
def test_a_refinement_that_is_not_right_does_not_join(refinement):
    assert edited("a|", RIGHT, script=[refinement])[0] == group("a|", RIGHT)


@pytest.mark.parametrize("texts", [(RIGHT, RIGHT), ("answer ?|", RIGHT)])
def test_only_failures_are_refined(texts):
    after, policy, _ = edited(*texts, script=[RIGHT])
    assert after == group(*texts)
    assert policy.num_calls == 0


def test_a_truncated_attempt_is_a_failure():
    after, _, seen = edited("cut off", script=[RIGHT], template="{attempt} -> {reference}")
    assert seen == ["cut off -> 7"]
    assert [plain(m.rollout) for m in after.members] == [RIGHT]


def test_words_in_an_attempt_are_not_filled_in():
    _, _, seen = edited("{reference}|", script=[WRONG], template="{prompt}: {attempt}")
    assert seen == ["Q: {reference}"]


def test_it_needs_no_teacher_and_must_show_the_attempt():
    assert not CritiqueGrpo().needs_teacher
    with pytest.raises(ValidationError):
        CritiqueGrpo(template="{prompt}")


def test_tokens_count_as_the_policys_used_or_not():
    tools = toolbox(policy=ScriptedPolicy([RIGHT]), prompt_reader=lambda problem, text: (9,))
    CritiqueGrpo().edit_groups([group("a|", "b|"), group("c|", RIGHT)], tools)
    assert tools.tokens == {"continuation": 27}
    assert tools.policy.num_calls == 1


@given(st.lists(st.sampled_from(["a|", RIGHT, "answer ?|", "cut"]), min_size=1, max_size=8), st.integers(1, 3))
def test_the_group_never_grows_and_nothing_is_lost(texts, max_refinements):
    after, _, _ = edited(*texts, script=[RIGHT, WRONG, RIGHT], max_refinements=max_refinements)
    assert len(after.members) == len(texts)
    assert sorted(map(str, after.sampled)) == sorted(map(str, group(*texts).members))
