"""The policy as its own corrector: reflection and retry, mending, interventions, explanations, starts of failures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin, Problem
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, example_tokens
from scope_rlvr.methods import FailurePrefix, Grpo, Int, R3l, Ssb, Tapo, Trd
from scope_rlvr.methods.correction.r3l import named_step
from scope_rlvr.methods.distillation.ssb import contrast
from tests.doubles import PROBLEM, PROMPT_IDS, ScriptedPolicy, ScriptedTeacher, group, plain
from tests.unit.methods.crediting import credited, is_silent, runs
from tests.unit.methods.scoring import chars, reading_toolbox

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"


def texts(found: Group) -> list[str]:
    return [plain(m.rollout) for m in found.members]


# --- R3L --------------------------------------------------------------------------------------------------------------


def test_an_attempt_is_criticised_and_tried_again_from_the_step_that_was_named():
    policy = ScriptedPolicy(["step 2: add again|", "two\n\nanswer 7|"])
    tools = reading_toolbox(policy=policy)
    found, (base, retry) = credited(R3l(), "one\n\ntoo\n\nanswer 3|", tools=tools)
    assert texts(found) == ["one\n\ntoo\n\nanswer 3|", "one\n\ntwo\n\nanswer 7|"]
    asked, tried = (chars(prefix) for prefix in policy.prefixes)
    assert "1. one\n\n2. too\n\n3. answer 3" in asked
    assert "is wrong" in asked
    assert "add again" in tried
    assert tried.endswith("one\n\n")
    member = found.members[1]
    assert (member.role, member.rollout.prompt_ids) == (Role.GUIDED, PROMPT_IDS)
    assert member.rollout.origin_T[:5] == (Origin.POLICY,) * 5
    assert set(member.rollout.origin_T[5:]) == {Origin.TEACHER}
    # a = ∓½: the success gets 1, the failure −½, neither on the five tokens before the step.
    assert base.weight_T[:5] == retry.weight_T[:5] == (0.0,) * 5
    assert set(base.advantage_T[5:]) == {-0.5}
    assert set(retry.advantage_T[5:]) == {1.0}


@pytest.mark.parametrize(("text", "step"), [("Step 1", 0), ("step 3.", 2), ("step 4", 0), ("step 0", 0), ("", 0)])
def test_a_reflection_names_a_step_that_there_is_or_the_first(text: str, step: int):
    assert named_step(text, 3) == step


def test_what_is_unknown_is_not_tried_again_and_trains_nothing():
    found, streams = credited(R3l(), UNKNOWN, tools=reading_toolbox())
    assert len(found.members) == 1
    assert is_silent(streams)


def test_half_of_a_group_explores():
    tools = reading_toolbox(policy=ScriptedPolicy([WRONG]))
    (sampled,) = R3l().sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], 5, tools)
    assert len(sampled.members) == 2, "each is tried again, and there are five rows"


@pytest.mark.parametrize(
    ("a", "reward", "expected"), [(0.5, 1.0, 1.0), (0.0, 1.0, 1.0), (0.2, 0.9, 0.6), (-0.2, 0.0, -0.2)]
)
def test_positives_are_amplified(a: float, reward: float, expected: float):
    assert R3l().amplified(a, reward) == pytest.approx(expected)


def test_the_loss_has_neither_ratio_nor_clip():
    tokens = example_tokens(0.5, advantage=2.0)
    assert R3l().token_loss(tokens, Clip()).item() == pytest.approx(torch.tensor(2.0).log().item())


# --- TAPO -------------------------------------------------------------------------------------------------------------


def test_a_failure_goes_on_behind_its_mistake_with_a_right_sibling_in_sight():
    policy = ScriptedPolicy(["no, two\n\nanswer 7|"])
    texts_ = ("one\n\ntwo\n\nanswer 7|", "one\n\ntoo\n\nanswer 3|")
    found, (right, wrong, mended) = credited(Tapo(), *texts_, tools=reading_toolbox(policy=policy))
    assert texts(found)[2] == "one\n\ntoo\n\nno, two\n\nanswer 7|"
    shown = chars(policy.prefixes[0])
    assert "one\n\ntwo\n\nanswer 7" in shown
    assert shown.endswith("one\n\ntoo\n\n")
    # The correction is compared with the mean of what was sampled, and does not raise it.
    assert set(right.advantage_T) == {0.5}
    assert set(wrong.advantage_T) == {-0.5}
    assert runs(mended.advantage_T) == [(0.0, 10), (0.5, len(texts(found)[2]) - 10)]
    assert mended.weight_T[:10] == (0.0,) * 10
    assert set(mended.weight_T[10:]) == {1.0}


@pytest.mark.parametrize(
    ("texts_", "settings", "reply"),
    [
        ((RIGHT, RIGHT), {}, RIGHT),
        ((WRONG, WRONG), {}, RIGHT),
        ((RIGHT, UNKNOWN), {}, RIGHT),
        ((RIGHT, WRONG), {"max_corrections": 0}, RIGHT),
        ((RIGHT, WRONG), {"high": 0.4}, RIGHT),
        ((RIGHT, WRONG), {}, WRONG),
        ((RIGHT, WRONG), {}, UNKNOWN),
    ],
)
def test_without_a_right_correction_it_is_grpo(texts_, settings, reply):
    tools = reading_toolbox(policy=ScriptedPolicy([reply]))
    assert credited(Tapo(**settings), *texts_, tools=tools) == credited(Grpo(), *texts_)


# --- InT --------------------------------------------------------------------------------------------------------------

SOLVED = Problem("p", "Q", "7", solution="one, two, 7")


def intervened(*script: str, step: int = 1, **settings):
    tools = reading_toolbox(policy=ScriptedPolicy(list(script)), step=step, num_steps=2)
    method = Int(**settings)
    (found,) = method.edit_groups([group("one\n\ntoo\n\nanswer 3|", RIGHT, problem=SOLVED)], tools)
    return method, found, tools.policy


def test_start_and_intervention_are_imitated_if_the_policy_can_go_on_from_them():
    method, found, policy = intervened("2\ntwo\n\n", RIGHT)
    assert texts(found) == ["one\n\ntwo\n\n"]
    assert len(found.replaced) == 2
    assert "one, two, 7" in chars(policy.prefixes[0])
    assert chars(policy.prefixes[1]).endswith("one\n\ntwo\n\n")
    (streams,) = method.credit([found], [[1.0]], Normalisation.NONE)[0]
    assert streams.advantage_T == (1.0,) * 10
    assert streams.weight_T == (1.0,) * 10
    assert streams.origin_T == (Origin.POLICY,) * 5 + (Origin.TEACHER,) * 5


@pytest.mark.parametrize("script", [("2\ntwo\n\n", WRONG), ("what?\n\n", RIGHT), ("9\ntwo\n\n", RIGHT), ("2|", RIGHT)])
def test_an_intervention_that_helps_nobody_or_cannot_be_read_is_thrown_away(script):
    _, found, _ = intervened(*script)
    assert found.members == ()


def test_of_several_tries_one_is_enough():
    assert texts(intervened("2\ntwo\n\n", WRONG, RIGHT, num_tries=2)[1]) == ["one\n\ntwo\n\n"]


def test_later_it_is_grpo_and_asks_nothing():
    method, found, policy = intervened("2\ntwo\n\n", step=2)
    assert policy.num_calls == 0
    assert found == group("one\n\ntoo\n\nanswer 3|", RIGHT, problem=SOLVED)
    assert method.credit([found], [[0.0, 1.0]], Normalisation.NONE) == Grpo().credit(
        [found], [[0.0, 1.0]], Normalisation.NONE
    )


# --- TRD and SSB ------------------------------------------------------------------------------------------------------


def test_a_rewrite_takes_the_place_of_the_failure_and_alone_trains():
    teacher = ScriptedTeacher(["two\n\nanswer 7|"])
    found, (right, rewrite) = credited(Trd(), RIGHT, "too\n\nanswer 3|", tools=reading_toolbox(teacher=teacher))
    assert texts(found) == [RIGHT, "two\n\nanswer 7|"]
    (request,) = teacher.requests
    assert "too\n\nanswer 3" in request.problem.prompt
    assert request.problem.prompt.endswith("Q")
    assert is_silent((right,))
    assert set(rewrite.advantage_T) == set(rewrite.weight_T) == {1.0}


@pytest.mark.parametrize("reply", [WRONG, UNKNOWN, "answer 7"])
def test_what_is_not_right_is_not_imitated(reply):
    tools = reading_toolbox(teacher=ScriptedTeacher([reply]))
    found, streams = credited(Trd(), WRONG, tools=tools)
    assert texts(found) == [WRONG]
    assert is_silent(streams)


def test_right_rollouts_are_rewritten_too_where_that_is_asked():
    teacher = ScriptedTeacher(["so\n\nanswer 7|"])
    found, _ = credited(Trd(rewritten="all"), RIGHT, UNKNOWN, tools=reading_toolbox(teacher=teacher))
    assert texts(found) == ["so\n\nanswer 7|"] * 2


def test_an_explanation_with_both_solutions_in_sight_is_imitated_without_them():
    policy = ScriptedPolicy(["I see\n\nanswer 7|"])
    texts_ = (RIGHT, "a\n\nanswer 3|", "b\n\nanswer 4|", "c\n\nanswer 4|")
    found, streams = credited(Ssb(), *texts_, tools=reading_toolbox(policy=policy))
    shown = chars(policy.prefixes[0])
    assert "answer 7" in shown
    assert "b\n\nanswer 4" in shown
    assert "answer 3" not in shown
    assert found.members[4].rollout.prompt_ids == PROMPT_IDS
    assert is_silent(streams[:4])
    assert set(streams[4].advantage_T) == {1.0}


@pytest.mark.parametrize("texts_", [(RIGHT, RIGHT), (WRONG,), (RIGHT, "no answer|"), (RIGHT, UNKNOWN)])
def test_without_both_there_is_nothing_to_compare(texts_):
    assert contrast(group(*texts_)) is None


# --- failure prefixes -------------------------------------------------------------------------------------------------


def stepped(method: FailurePrefix, memory: dict, *script: str) -> tuple[Group, ScriptedPolicy]:
    policy = ScriptedPolicy(list(script))
    tools = reading_toolbox(policy=policy, memory=memory)
    (found,) = method.sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], len(script), tools)
    method.learn([found], tools)
    return found, policy


def test_a_saturated_problem_begins_in_its_last_failure():
    method, memory = FailurePrefix(first_share=0.5), {}
    stepped(method, memory, RIGHT, "wrong one|")
    found, policy = stepped(method, memory, RIGHT, RIGHT)
    assert policy.prefixes == [PROMPT_IDS] * 2
    found, policy = stepped(method, memory, " oh\n\nanswer 7|", "ng\n\nanswer 3|")
    assert [chars(prefix[2:]) for prefix in policy.prefixes] == ["wrong"] * 2
    assert texts(found) == ["wrong oh\n\nanswer 7|", "wrongng\n\nanswer 3|"]
    assert {(m.role, m.num_shared_tokens) for m in found.members} == {(Role.BRANCHED, 5)}
    first, second = method.credit([found], [[1.0, 0.0]], Normalisation.NONE)[0]
    assert first.weight_T == (0.0,) * 5 + (1.0,) * 14
    assert (first.advantage_T[-1], second.advantage_T[-1]) == (0.5, -0.5)


def test_the_start_is_moved_to_where_half_of_the_rollouts_are_right():
    method, memory = FailurePrefix(first_share=0.5), {}
    stepped(method, memory, "wrong one|", RIGHT)
    stepped(method, memory, RIGHT, RIGHT)
    shares = []
    for script in ((RIGHT, RIGHT), (RIGHT, WRONG), (WRONG, WRONG)):
        stepped(method, memory, *(f"\n{text}" for text in script))
        shares.append(memory["failure_prefix"]["p"]["share"])
    assert shares == [0.6, 0.6, 0.5]


@given(st.floats(0.0, 0.9), st.floats(0, 1))
def test_a_share_is_a_share_or_none(share: float, rate: float):
    assert FailurePrefix().next_share(share, rate) == 0.0 or 0.1 <= FailurePrefix().next_share(share, rate) <= 0.9


def test_without_a_failure_it_is_grpo_and_old_problems_are_forgotten():
    method, memory = FailurePrefix(capacity=1), {"failure_prefix": {"old": {"failure": None, "share": 0.0}}}
    for _ in range(2):
        found, policy = stepped(method, memory, RIGHT, RIGHT)
        assert policy.prefixes == [PROMPT_IDS] * 2
    assert list(memory["failure_prefix"]) == ["p"]
    assert {m.role for m in found.members} == {Role.SAMPLED}
