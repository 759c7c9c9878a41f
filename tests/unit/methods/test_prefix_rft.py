"""Prefix-RFT: how much of a trace is given, what the hybrid is made of, and which of its tokens train."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.losses import Clip, Tokens, clipped_policy_loss
from scope_rlvr.methods.guided.prefix_rft import PrefixRft
from tests.doubles import PROBLEM, PROMPT_IDS, ScriptedPolicy, ScriptedTeacher, credited, plain, sampled, toolbox

TRACE = "so and so\nanswer 7|"  # 19 tokens


def half(**settings: float) -> PrefixRft:
    """Always half of the trace: 9 of 19 tokens."""
    return PrefixRft(**({"low_start": 0.5, "low_end": 0.5, "high": 0.5} | settings))


def trained_group(method: PrefixRft, *rollouts: str, trace: str = TRACE, **parts) -> tuple[Group, ScriptedPolicy]:
    """One group of four rows; the last text is the continuation of the prefix."""
    policy = ScriptedPolicy(rollouts)
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([trace]), **parts)
    groups = method.sample([Group(PROBLEM, (), prompt_ids=PROMPT_IDS)], 4, tools)
    return method.edit_groups(groups, tools)[0], policy


def test_the_hybrid_is_the_prefix_with_its_own_ids_and_a_continuation():
    group, policy = trained_group(half(), "a|", "b|", "answer 7|", "\nanswer 7|")
    assert len(group.members) == 4
    hybrid = group.members[3]
    assert hybrid.role is Role.GUIDED
    assert policy.prefixes[3] == (*PROMPT_IDS, *sampled("so and so"))
    assert policy.budgets[3] == 200 - 9
    assert hybrid.rollout.token_ids == sampled("so and so\nanswer 7|")
    assert hybrid.rollout.origin_T == (Origin.TEACHER,) * 9 + (Origin.POLICY,) * 10
    streams = credited(half(), [group])[0]
    assert [set(s.advantage_T) for s in streams] == [{-0.5}, {-0.5}, {0.5}, {0.5}]


def test_a_wrong_hybrid_stays_and_its_prefix_is_not_pushed_away():
    group, _ = trained_group(half(), "answer 7|", "answer 7|", "answer 7|", "\nanswer 1|")
    streams = credited(half(), [group])[0]
    assert [set(s.advantage_T) for s in streams[:3]] == [{0.25}] * 3
    assert streams[3].advantage_T == (0.0,) * 9 + (-0.75,) * 10
    assert set(streams[3].weight_T) == {1.0}


def test_a_hybrid_of_unknown_verdict_counts_nowhere():
    group, _ = trained_group(half(), "a|", "a|", "answer 7|", "\nanswer ?|")
    streams = credited(half(), [group])[0]
    assert set(streams[3].weight_T) == {0.0}
    assert [s.advantage_T[0] for s in streams[:3]] == pytest.approx([-1 / 3, -1 / 3, 2 / 3])


@pytest.mark.parametrize("trace", ["answer 1|", "answer 7", "answer ?|"])
def test_without_a_verified_trace_there_is_one_rollout_less(trace):
    group, policy = trained_group(half(), "a|", "b|", "c|", trace=trace)
    assert [plain(m.rollout) for m in group.members] == ["a|", "b|", "c|"]
    assert len(policy.prefixes) == 3


@pytest.mark.parametrize(("share", "kept"), [(0.0, 1), (0.06, 1), (0.11, 2), (0.95, 18), (1.0, 18)])
def test_how_many_tokens_are_given(share, kept):
    group, _ = trained_group(half(low_start=share, low_end=share, high=share), "a|", "b|", "c|", "answer 7|")
    assert group.members[3].rollout.num_tokens_from(Origin.TEACHER) == kept


def test_the_lowest_share_falls_as_a_cosine():
    shares = [PrefixRft().lowest_share(step, 101) for step in range(1, 102)]
    assert (shares[0], shares[50], shares[100]) == pytest.approx((0.95, 0.5, 0.05))
    assert shares[25] == pytest.approx(0.05 + 0.9 * (1 + math.sqrt(0.5)) / 2)
    assert PrefixRft().lowest_share(1, 1) == 0.95


def test_shares_are_drawn_between_the_bounds_of_the_step():
    for seed in range(30):
        late, _ = trained_group(PrefixRft(high=0.5), "a|", "b|", "c|", "answer 7|", seed=seed, step=9, num_steps=9)
        assert 1 <= late.members[3].rollout.num_tokens_from(Origin.TEACHER) <= 9
        early, _ = trained_group(PrefixRft(low_start=0.8), "a|", "b|", "c|", "answer 7|", seed=seed, num_steps=9)
        assert 15 <= early.members[3].rollout.num_tokens_from(Origin.TEACHER) <= 18


# --- loss -----------------------------------------------------------------------------------------------------------


def tokens_of(is_teacher_BT, entropy_BT) -> Tokens:
    is_teacher_BT = torch.tensor(is_teacher_BT)
    ones_BT = torch.ones(is_teacher_BT.shape)
    logp_BT = torch.log(0.5 * ones_BT).requires_grad_()
    return Tokens(
        logp_BT, torch.log(0.4 * ones_BT), ones_BT, is_teacher_BT, 0 * ones_BT, ones_BT, torch.tensor(entropy_BT)
    )


def test_of_the_prefix_only_the_least_certain_tokens_train():
    tokens = tokens_of([[True] * 5 + [False] * 2, [True] * 2 + [False] * 5], [[0.1, 0.9, 0.5, 0.9, 0.2, 3, 0]] * 2)
    loss_BT = PrefixRft(top_entropy=0.4).token_loss(tokens, Clip(high=0.5))
    # Two of five, the earlier of equals first; one of two; all that the policy wrote. A ratio of 1.25 each.
    expected = [[0, 1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 1, 1, 1]]
    assert torch.allclose(loss_BT, -1.25 * torch.tensor(expected, dtype=torch.float))
    (gradient_BT,) = torch.autograd.grad(loss_BT.sum(), tokens.logp_BT)
    assert (gradient_BT != 0).tolist() == [[bool(x) for x in row] for row in expected]


def test_all_or_nothing_of_the_prefix_may_train():
    tokens = tokens_of([[True, True, False]], [[0.1, 0.2, 0.3]])
    assert (PrefixRft(top_entropy=0).token_loss(tokens, Clip()) != 0).tolist() == [[False, False, True]]
    clipped_BT = clipped_policy_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, Clip())
    assert torch.equal(PrefixRft(top_entropy=1).token_loss(tokens, Clip()), clipped_BT)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.floats(0, 1), st.randoms(use_true_random=False))
def test_the_number_of_training_tokens_and_their_entropy(is_teacher, share, rng):
    entropy = [rng.randrange(100) / 100 for _ in is_teacher]
    loss = PrefixRft(top_entropy=share).token_loss(tokens_of([is_teacher], [entropy]), Clip())[0]
    kept = [e for e, t, x in zip(entropy, is_teacher, loss, strict=True) if t and x]
    spared = [e for e, t, x in zip(entropy, is_teacher, loss, strict=True) if t and not x]
    assert len(kept) == math.ceil(share * sum(is_teacher) - 1e-9)
    assert not kept or not spared or min(kept) >= max(spared)
