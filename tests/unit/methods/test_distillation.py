"""Teachers that score: on-policy distillation, its variants, and the policy as its own teacher."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Streams
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import example_tokens
from scope_rlvr.methods import Grpo, IwOpd, Kdrl, OpdOnFailures, OpdThenGrpo, Sdpo, Srpo
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.methods.parts.distillation import EarlyTokens, TeacherKl
from scope_rlvr.methods.parts.self_teacher import SampleRouting
from tests.doubles import group
from tests.unit.methods.crediting import credited, is_silent, runs
from tests.unit.methods.scoring import Reader, Teacher, reading_toolbox

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"
"""Nine tokens each, all sampled with log-probability -0.5."""


# --- a teacher that scores --------------------------------------------------------------------------------------------


def test_only_failures_are_scored_and_train():
    teacher = Teacher(logprob=lambda char: -2.5 if char == "3" else -0.1)
    tools = reading_toolbox(teacher=teacher)
    _, (right, wrong, unknown) = credited(OpdOnFailures(), RIGHT, WRONG, UNKNOWN, tools=tools)
    assert teacher.scored == [WRONG]
    assert (tools.tokens["scored"], tools.tokens["teacher"]) == (9, 0)
    assert runs(wrong.advantage_T) == [(0.4, 7), (-2.0, 1), (0.4, 1)]
    assert is_silent((right, unknown))


def test_a_failure_that_the_teacher_could_not_score_does_not_train():
    _, streams = credited(OpdOnFailures(), WRONG, RIGHT, tools=reading_toolbox(teacher=Teacher(fails="3")))
    assert is_silent(streams)


def test_early_tokens_count_more():
    teacher = Teacher(logprob=lambda char: {"a": -1.5, "b": 0.5}.get(char, -0.5))
    _, (one, flat) = credited(IwOpd(), "ab|", "c|", tools=reading_toolbox(teacher=teacher))
    # a = (-1, 1, 0): sums before are 0, 1, 2 of 2.
    assert one.advantage_T == pytest.approx((-1.5, 1.25, 0.0))
    assert flat.advantage_T == (0.0, 0.0)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0, 2))
def test_early_factors_fall_and_keep_within_their_bounds(advantage_T: list[float], gamma: float):
    factors = EarlyTokens(gamma=gamma).factors(advantage_T)
    assert factors == sorted(factors, reverse=True)
    assert all(1 - 1e-9 <= factor <= 1 + gamma + 1e-9 for factor in factors)
    assert EarlyTokens(gamma=0.0).factors(advantage_T) == [1.0] * len(advantage_T)


def test_what_does_not_train_is_not_counted_before_a_token():
    (member,) = group("abc|").members
    streams = Streams.of(member.rollout, (9.0, 1.0, 1.0, 0.0), (0.0, 1.0, 1.0, 1.0))
    assert EarlyTokens(gamma=1.0).reshaped(group("abc|"), member, streams)[1:3] == [2.0, 1.5]


def test_distillation_first_then_grpo_without_a_teacher():
    method, teacher = OpdThenGrpo(opd_share=0.5), Teacher()
    first = reading_toolbox(teacher=teacher, step=1, num_steps=2)
    _, streams = credited(method, RIGHT, WRONG, UNKNOWN, tools=first)
    assert [runs(s.advantage_T) for s in streams] == [[(0.4, 9)]] * 3
    assert len(teacher.scored) == 3
    later = reading_toolbox(teacher=teacher, step=2, num_steps=2)
    _, streams = credited(method, RIGHT, WRONG, UNKNOWN, tools=later)
    assert streams == credited(Grpo(), RIGHT, WRONG, UNKNOWN)[1]
    assert len(teacher.scored) == 3
    assert (method.stage(1, 2), method.stage(2, 2)) == (0, 1)
    assert method.needs == {Need.TEACHER_SCORES}


def test_while_distilling_nobody_trains_as_in_grpo_where_the_teacher_failed():
    tools = reading_toolbox(teacher=Teacher(fails="a"), num_steps=4)
    assert is_silent(credited(OpdThenGrpo(), RIGHT, WRONG, tools=tools)[1])


# --- a penalty on the divergence --------------------------------------------------------------------------------------


def with_teacher(prob: float, teacher: float, is_scored: float = 1.0, is_teachers: bool = False):
    tokens = example_tokens(prob)
    logp_BT = tokens.logp_BT.clone().requires_grad_()
    extras = {"teacher_logprob": torch.log(torch.tensor([[teacher]])), "is_scored": torch.tensor([[is_scored]])}
    return replace(tokens, logp_BT=logp_BT, is_teacher_BT=torch.tensor([[is_teachers]]), extras=extras)


def test_the_penalty_has_the_gradient_of_the_divergence():
    # Over both tokens of a vocabulary of two, Σ π ∇(½ gap²) is ∇KL(π‖π_T).
    logit = torch.tensor(0.3, requires_grad=True)
    policy, teacher = torch.stack([logit, -logit]).log_softmax(0), torch.tensor([0.9, 0.1]).log()
    (exact,) = torch.autograd.grad((policy.exp() * (policy - teacher)).sum(), logit, retain_graph=True)
    weights = policy.exp().detach()
    (ours,) = torch.autograd.grad((weights * 0.5 * (policy - teacher) ** 2).sum(), logit, retain_graph=True)
    (naive,) = torch.autograd.grad((weights * (policy - teacher)).sum(), logit)
    assert ours.item() == pytest.approx(exact.item())
    assert naive.item() == pytest.approx(0.0, abs=1e-6)
    tokens = with_teacher(0.5, 0.25)
    loss = TeacherKl().loss(tokens)
    (gradient,) = torch.autograd.grad(loss.sum(), tokens.logp_BT)
    assert gradient.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("tokens", [with_teacher(0.5, 1.0, is_scored=0.0), with_teacher(0.5, 0.25, is_teachers=True)])
def test_what_the_teacher_did_not_score_or_wrote_itself_is_not_held_to_it(tokens):
    assert TeacherKl().loss(tokens).item() == 0.0


def test_the_penalty_falls_to_its_last_weight():
    term = TeacherKl(weight=5e-3, last_weight=1e-3, decay=1e-3)
    found = [term.weight_after({}, reading_toolbox(step=step)) for step in (1, 2, 4, 5, 99)]
    assert found == pytest.approx([5e-3, 4e-3, 2e-3, 1e-3, 1e-3])


def test_kdrl_scores_what_it_is_asked_to_and_credits_as_grpo():
    for only, scored in (("all", [RIGHT, WRONG]), ("wrong", [WRONG]), ("unsolved", [])):
        teacher = Teacher()
        _, streams = credited(Kdrl(only=only), RIGHT, WRONG, tools=reading_toolbox(teacher=teacher))
        assert teacher.scored == scored
        assert [set(s.extras["is_scored"]) for s in streams] == [{float(t in scored)} for t in (RIGHT, WRONG)]
        plain = credited(Grpo(), RIGHT, WRONG)[1]
        assert [s.advantage_T for s in streams] == [s.advantage_T for s in plain]


# --- the policy as its own teacher ------------------------------------------------------------------------------------


def self_teacher() -> Reader:
    """Finds a 3 unlikely, and is uncertain of it."""
    return Reader(
        {
            "logprob": lambda prompt, char: -2.5 if char == "3" else -0.1,
            "entropy": lambda prompt, char: math.log(2) if char == "3" else 0.0,
        }
    )


def test_a_right_sibling_is_shown_to_the_average_of_the_policies():
    average = self_teacher()
    tools = reading_toolbox(readers={"average": average})
    _, (first, wrong, second, unknown) = credited(Sdpo(), RIGHT, WRONG, "x\nanswer 7|", UNKNOWN, tools=tools)
    assert ["x\nanswer 7" in shown for shown, _ in average.texts] == [True, False, False]
    assert all("Q\n" in shown and "answer 7" in shown for shown, _ in average.texts)
    assert [text for _, text in average.texts] == [RIGHT, WRONG, "x\nanswer 7|"]
    assert runs(wrong.advantage_T) == [(0.4, 7), (-2.0, 1), (0.4, 1)]
    assert runs(first.advantage_T) == [(0.4, 9)]
    assert set(second.weight_T) == {1.0}
    assert is_silent((unknown,))


def test_without_a_right_sibling_nothing_is_distilled():
    average = self_teacher()
    _, streams = credited(Sdpo(), RIGHT, WRONG, tools=reading_toolbox(readers={"average": average}))
    assert is_silent(streams[:1])
    assert [text for _, text in average.texts] == [WRONG]
    _, streams = credited(Sdpo(), WRONG, WRONG, tools=reading_toolbox(readers={"average": average}))
    assert is_silent(streams)


def test_failures_are_routed_to_the_self_teacher():
    tools = reading_toolbox(readers={"average": self_teacher()})
    _, (right, wrong, unknown) = credited(Srpo(beta=1.0), RIGHT, WRONG, UNKNOWN, tools=tools)
    mean = (8 + 0.5) / 9
    assert runs(wrong.advantage_T) == [(round(0.4 / mean, 6), 7), (round(-1.0 / mean, 6), 1), (round(0.4 / mean, 6), 1)]
    assert runs(right.advantage_T) == [(0.5, 9)]
    assert is_silent((unknown,))


@pytest.mark.parametrize("texts", [(WRONG, WRONG), (RIGHT, RIGHT), (RIGHT, UNKNOWN)])
def test_without_a_mixed_group_routing_is_grpo(texts):
    tools = reading_toolbox(readers={"average": self_teacher()})
    assert credited(Srpo(), *texts, tools=tools)[1] == credited(Grpo(), *texts)[1]


def test_routed_and_other_advantages_keep_their_own_scale():
    tools = reading_toolbox(readers={"average": self_teacher()})
    _, (right, wrong) = credited(Srpo(beta=0.0), RIGHT, WRONG, tools=tools, normalisation=Normalisation.GROUP_STD)
    assert runs(right.advantage_T) == [(pytest.approx(0.5 / (math.sqrt(0.5) + 1e-4), abs=1e-6), 9)]
    assert runs(wrong.advantage_T)[1] == (-2.0, 1)


@given(st.lists(st.lists(st.floats(0, 3), min_size=1, max_size=4), min_size=1, max_size=4), st.floats(0, 3))
def test_certainty_is_one_on_average(entropy_NT: list[list[float]], beta: float):
    weights = [w for row in SampleRouting(beta=beta).certainty(entropy_NT) for w in row]
    assert sum(weights) / len(weights) == pytest.approx(1.0)
