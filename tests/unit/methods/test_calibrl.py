"""CalibRL: which rollouts are compared with the trace, and how they pull."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.methods import CalibRl, Grpo
from scope_rlvr.methods.parts.calibration import ExpertCalibration, example
from tests.doubles import ScriptedTeacher
from tests.unit.methods.crediting import credited
from tests.unit.methods.scoring import Reader, reading_toolbox

TRACE = "so\nanswer 7|"  # 12 tokens


def compared(*texts: str, trace: str = TRACE):
    policy = Reader({"logprob": lambda prompt, char: -1.0 if char == "7" else -0.2})
    tools = reading_toolbox(teacher=ScriptedTeacher([trace]), readers={"policy": policy})
    return credited(CalibRl(), *texts, tools=tools)


def test_each_token_is_beside_the_one_of_the_trace_as_far_as_that_goes():
    _, (right, wrong, unknown) = compared("answer 7|", "a rather long wrong one|", "answer ?|")
    assert right.extras["expert_sign"] == (1.0,) * 9
    assert right.extras["expert_logprob"] == pytest.approx((-0.2,) * 9)
    assert wrong.extras["expert_sign"] == (-1.0,) * 12 + (0.0,) * 12
    assert wrong.extras["expert_logprob"][10:12] == pytest.approx((-1.0, -0.2))
    assert set(unknown.extras["expert_sign"]) == {0.0}


def test_credit_is_grpo_s_and_the_trace_joins_nothing():
    found, streams = compared("answer 7|", "no|")
    assert len(found.members) == 2
    plain = credited(Grpo(), "answer 7|", "no|")[1]
    assert [s.advantage_T for s in streams] == [s.advantage_T for s in plain]
    assert [s.weight_T for s in streams] == [s.weight_T for s in plain]


def test_without_a_right_trace_nothing_is_compared():
    _, streams = compared("answer 7|", "no|", trace="answer 1|")
    assert {sign for s in streams for sign in s.extras["expert_sign"]} == {0.0}
    assert ExpertCalibration().loss(example(-2.0, 0.0, 0.0)).item() == 0.0


@pytest.mark.parametrize(
    ("logp", "sign", "pull"),
    [(-2.0, 1.0, -0.5), (-0.5, 1.0, -0.25), (-2.0, -1.0, 0.25), (-0.5, -1.0, 0.5)],
)
def test_the_wrong_side_of_the_expert_pulls_twice_as_hard(logp: float, sign: float, pull: float):
    tokens = example(logp, expert=-1.0, sign=sign)
    tokens.logp_BT.requires_grad_()
    ExpertCalibration().loss(tokens).sum().backward()
    assert tokens.logp_BT.grad.item() == pytest.approx(pull)


@given(st.floats(-5, 0), st.floats(-5, 0), st.sampled_from([1.0, -1.0]))
def test_where_nothing_is_to_be_gained_nothing_is_compared(logp: float, expert: float, sign: float):
    assert ExpertCalibration().loss(example(logp, expert, sign, advantage=0.0)).item() == 0.0
