"""Credit from hidden states and gradients, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict
from scope_rlvr.formulas.features import effective_rank, rank_dynamics
from scope_rlvr.methods import Grpo
from scope_rlvr.methods.parts.gradient_novelty import novelty
from scope_rlvr.methods.parts.hidden import influences
from tests.doubles import credited, toolbox

R, W, U = Outcome.RIGHT, Outcome.WRONG, Outcome.UNKNOWN


def member(outcome: Outcome, *ids: int, **extras: Any) -> Member:
    return Member(Rollout((1,), (Segment(ids, Origin.POLICY, (-0.5,) * len(ids)),)), Verdict(outcome), extras=extras)


def group(*members: Member) -> Group:
    return Group(Problem("p", "?", "7"), members)


# --- effective rank ---------------------------------------------------------------------------------------------------


def test_growth_of_the_rank_by_hand():
    states = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    ranks = [effective_rank(states[:n]) for n in (2, 3, 4)]
    growth = [ranks[1] - ranks[0], ranks[2] - (ranks[0] + ranks[1]) / 2]
    assert ranks[0] == pytest.approx(1)
    assert ranks[2] == pytest.approx(2)
    assert rank_dynamics(states, stride=1) == pytest.approx((2.0, sum(growth) / 2, growth[1] - growth[0]))


@given(st.integers(0, 6), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_a_rank_lies_between_none_and_all(length, width, stride, seed):
    states = torch.randn(length, width, generator=torch.Generator().manual_seed(seed))
    rank, growth, change = rank_dynamics(states, stride)
    assert 0 <= rank <= min(max(0, length - 1), width) + 1e-6
    assert math.isfinite(growth)
    assert math.isfinite(change)


def test_the_first_step_has_no_bonus_and_later_ones_compare_with_the_steps_before():
    method, tools = Grpo(parts=["hidden_rank_bonus"]), toolbox()
    first = group(member(R, 5, 6, rank_dynamics=(10.0, 2.0, 1.0)), member(W, 5, rank_dynamics=(10.0, 2.0, 1.0)))
    assert credited(method, method.prepare([first], tools)) == credited(Grpo(), [first])
    assert tools.memory["hidden_rank_bonus"] == [10.0, 2.0, 1.0]
    later = group(member(R, 5, 6, rank_dynamics=(12.0, 2.0, 1.0)), member(W, 5, rank_dynamics=(20.0, 4.0, 1.0)))
    streams = credited(method, method.prepare([later], tools))[0]
    assert streams[0].advantage_T == pytest.approx([0.5 + math.tanh(0.2) / 2] * 2)
    assert streams[1].advantage_T == pytest.approx([-0.5 + 0.25]), "at most half of the advantage"
    assert tools.memory["hidden_rank_bonus"] == pytest.approx([0.7 * 10 + 0.3 * 16, 0.7 * 2 + 0.3 * 3, 1.0])


def test_a_flat_group_stays_flat_whatever_its_ranks():
    method, tools = Grpo(parts=["hidden_rank_bonus"]), toolbox(memory={"hidden_rank_bonus": [1.0, 1.0, 1.0]})
    flat = group(member(R, 5, rank_dynamics=(9.0, 9.0, 9.0)), member(R, 5, rank_dynamics=(1.0, 1.0, 1.0)))
    assert not any(any(s.advantage_T) for s in credited(method, method.prepare([flat], tools))[0])


# --- influence --------------------------------------------------------------------------------------------------------


def top(*tokens: int) -> torch.Tensor:
    """Distributions that are sure of one token each."""
    return torch.tensor([[[0.0], [float(token)]] for token in tokens])


def states(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows)


def test_influence_is_the_product_of_two_likenesses():
    right = ((0, 2), torch.tensor([[[math.log(0.5)], [1.0]], [[math.log(0.5)], [1.0]]]), states((1.0, 0.0), (0.0, 2.0)))
    wrong = ((0,), torch.tensor([[[math.log(0.5)], [1.0]]]), states((1.0, 1.0)))
    # g = e0 − ½e1 and e2 − ½e1; h as written: s = Σ_u (g·g_u)(h·h_u).
    found = influences([right, wrong], [True, False])
    assert found[0] == pytest.approx((1.25 * 1, 1.25 * 4), abs=1e-6)
    assert found[1] == pytest.approx((1.25 * 1 + 0.25 * 2,), abs=1e-6)


def read(outcome: Outcome, *pairs: tuple[int, tuple[float, ...]]) -> Member:
    """Tokens that surprise a model sure of token 9, with their hidden states."""
    ids, rows = [token for token, _ in pairs], [row for _, row in pairs]
    return member(outcome, *ids, influence_top=top(*[9] * len(ids)), influence_states=torch.tensor(rows))


def shared() -> Group:
    """The wrong rollouts share a token in a like state, and have one in a state of their own."""
    right = read(R, (5, (1.0, 0.0)), (5, (1.0, 0.0)))
    return group(right, *[read(W, (5, (1.1, 0.0)), (6, (0.0, 1.0)))] * 3)


def test_what_right_rollouts_share_is_pushed_less_in_wrong_ones():
    # g·g_u = 2 for equal tokens, 1 otherwise: s = 4, 4 in the right one, 4.4 and 0 in the wrong ones; the threshold is 4.
    method = Grpo(parts=["negative_influence"])
    right, *wrong = credited(method, method.prepare([shared()], toolbox()))[0]
    assert right.advantage_T == (0.75, 0.75)
    assert wrong[0].advantage_T == pytest.approx([-0.25 * 2 * 0.25, -0.25])


def test_tokens_without_influence_do_not_move_and_the_others_tilt():
    method = Grpo(parts=[{"kind": "token_hidden_reward", "tilt": 0.2, "beta": 0.9}])
    right, *wrong = credited(method, method.prepare([shared()], toolbox()))[0]
    assert right.advantage_T == pytest.approx([0.75 * 1.2] * 2)
    assert wrong[0].advantage_T == pytest.approx([-0.25 * 0.8, 0.0])
    explores = Grpo(parts=[{"kind": "token_hidden_reward", "tilt": -0.2, "beta": 0.9}])
    assert credited(explores, explores.prepare([shared()], toolbox()))[0][0].advantage_T == pytest.approx([0.6] * 2)


@pytest.mark.parametrize("kind", ["token_hidden_reward", "negative_influence"])
def test_flat_groups_and_unknown_verdicts_have_no_influence(kind: str):
    method = Grpo(parts=[kind])
    flat = group(read(R, (5, (1.0, 0.0))), read(R, (6, (1.0, 0.0))), read(U, (7, (1.0, 0.0))))
    (found,) = method.prepare([flat], toolbox())
    assert not any("influence" in m.extras or "influence_states" in m.extras for m in found.members)
    assert not any(any(s.advantage_T) for s in credited(method, [found])[0])


# --- novelty of gradients ---------------------------------------------------------------------------------------------


def paid(*members: Member, **options: Any) -> list[float]:
    (found,) = Grpo(parts=[{"kind": "gradient_novelty", **options}]).prepare([group(*members)], toolbox())
    return [m.verdict.pay for m in found.members]


def test_novel_gradients_are_paid_more():
    members = [
        member(outcome, 5, output_gradient=gradient)
        for outcome, gradient in ((R, (1.0, 0.0)), (R, (1.0, 0.0)), (W, (0.0, 1.0)), (U, (9.0, 9.0)))
    ]
    # Scaled novelty 0, 0, 1.
    assert paid(*members, strength=0.5) == [1.0, 1.0, 0.25, None]
    explained = paid(*members, strength=0.6, rule="as_explained")
    assert explained[:3] == pytest.approx([1 - 0.6 / 3 / 2, 1 - 0.6 / 3 / 2, 0 - 0.6 * 2 / 3 / 2])
    assert paid(*members, strength=0) == [1.0, 1.0, 0.0, None]
    assert paid(members[0], strength=0.5) == [1.0], "alone, nothing is novel"


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=0, max_size=6), st.integers(0, 63))
def test_novelty_is_scaled_and_finite(features, bits):
    rewards = [float(bits >> i & 1) for i in range(len(features))]
    found = novelty([list(f) for f in features], rewards)
    assert len(found) == len(features)
    assert all(0 <= value <= 1 for value in found)
    if any(found):
        assert (min(found), max(found)) == (0, 1)
