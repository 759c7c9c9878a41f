"""Guide-GRPO: what takes a failed group's place, under which prompt, and how its tokens are weighed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip, ShapedRatio, Tokens, clipped_policy_loss
from scope_rlvr.methods.guided.guide import Guide
from tests.doubles import LOGPROB, PROMPT_IDS, ScriptedPolicy, ScriptedTeacher, credited, group, plain, sampled, toolbox

TRACE = "step by step\n\nanswer 7|"  # 23 tokens: a hint of 11
WRONG, RIGHT, UNKNOWN = "\nanswer 1|", "\nanswer 7|", "\nanswer ?|"


def edited(*texts: str, policy: ScriptedPolicy, trace: str = TRACE, method: Guide | None = None, **parts) -> Group:
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([trace]), **parts)
    return (method or Guide()).edit_groups([group(*texts)], tools)[0]


def test_hinted_rollouts_train_under_the_plain_prompt_with_the_probabilities_they_had():
    policy = ScriptedPolicy([WRONG, RIGHT])
    before = group("a|", "b|")
    after = edited("a|", "b|", policy=policy)
    assert policy.prefixes == [(*PROMPT_IDS, *sampled("step by ste"))] * 2
    assert [m.rollout.prompt_ids for m in after.members] == [PROMPT_IDS] * 2
    assert {m.role for m in after.members} == {Role.GUIDED}
    for member in after.members:
        assert set(member.rollout.origin_T) == {Origin.TEACHER}
        assert set(member.rollout.logprob_T[11:]) == {LOGPROB}
    assert after.replaced == before.members


def test_a_response_begins_with_the_hint_it_goes_on_from():
    texts = ["p\n\nanswer 1|", "p\n\nanswer 7|"]
    policy = ScriptedPolicy(texts)
    tools = toolbox(policy=policy, teacher=ScriptedTeacher([TRACE]), max_response_tokens=30)
    after = Guide().edit_groups([group("a|", "b|")], tools)[0]
    assert [plain(m.rollout) for m in after.members] == [f"step by ste{text}" for text in texts]
    assert [m.rollout.token_ids for m in after.members] == [sampled(f"step by ste{text}") for text in texts]
    assert policy.budgets == [19, 19]


def test_the_hint_does_not_train():
    streams = credited(Guide(), [edited("a|", "b|", policy=ScriptedPolicy([WRONG, RIGHT]))])[0]
    assert [s.advantage_T for s in streams] == [(0.0,) * 11 + (-0.5,) * 10, (0.0,) * 11 + (0.5,) * 10]
    assert [s.weight_T for s in streams] == [(0.0,) * 11 + (1.0,) * 10] * 2


def test_the_objective_is_that_of_the_released_code():
    assert Guide().fixed == {
        "normalisation": Normalisation.GROUP_STD,
        "aggregation": Aggregation.TOKEN_MEAN,
        "clip": Clip(low=0.2, high=0.2),
        "kl": 0.0,
        "entropy": 0.0,
    }
    after = edited("a|", "b|", policy=ScriptedPolicy([WRONG, RIGHT]))
    streams = Guide().credit([after], [[0.0, 1.0]], Normalisation.GROUP_STD)[0]
    # 0.5 over the deviation of 0 and 1, the square root of a half.
    assert [s.advantage_T[-1] for s in streams] == pytest.approx([-0.5 / (0.5**0.5 + 1e-4), 0.5 / (0.5**0.5 + 1e-4)])


def test_wrong_hinted_rollouts_are_pushed_away():
    after = edited("a|", "b|", policy=ScriptedPolicy([WRONG, RIGHT]))
    streams = credited(Guide(teacher_weight=0.5), [after])[0]
    assert [set(s.advantage_T[11:]) for s in streams] == [{-0.25}, {0.25}]


def test_tokens_count_as_the_policys():
    tools = toolbox(policy=ScriptedPolicy([RIGHT]), teacher=ScriptedTeacher([TRACE]))
    Guide().edit_groups([group("a|", "b|")], tools)
    assert tools.tokens == {"teacher": 23, "continuation": 20}


def test_a_group_of_right_hinted_rollouts_counts_nowhere():
    after = edited("a|", "b|", policy=ScriptedPolicy([RIGHT]))
    assert all(set(s.weight_T) == {0.0} for s in credited(Guide(), [after])[0])


def test_mixin_keeps_plain_failures():
    before = group("a|", "b|", "c|")
    policy = ScriptedPolicy([WRONG, RIGHT, UNKNOWN])
    after = edited("a|", "b|", "c|", policy=policy, method=Guide(mixin=True))
    assert [plain(m.rollout) for m in after.members] == ["a|", f"step by ste{RIGHT}", "c|"]
    assert after.members[::2] == before.members[::2]
    assert after.replaced == before.members[1:2]
    streams = credited(Guide(mixin=True), [after])[0]
    assert [s.advantage_T[-1] for s in streams] == pytest.approx([-1 / 3, 2 / 3, -1 / 3])


def test_a_hinted_rollout_of_unknown_verdict_trains_nothing():
    after = edited("a|", "b|", "c|", policy=ScriptedPolicy([WRONG, RIGHT, UNKNOWN]))
    streams = credited(Guide(), [after])[0]
    assert [s.advantage_T[-1] for s in streams] == [-0.5, 0.5, 0.0]
    assert set(streams[2].weight_T) == {0.0}


@pytest.mark.parametrize("continuation", [WRONG, UNKNOWN, "no end"])
def test_where_the_hint_does_not_help_the_group_stays(continuation):
    assert edited("a|", "b|", policy=ScriptedPolicy([continuation])) == group("a|", "b|")


@pytest.mark.parametrize("trace", [WRONG, "answer 7", UNKNOWN])
def test_without_a_verified_trace_there_is_no_hint(trace):
    assert edited("a|", policy=ScriptedPolicy([RIGHT]), trace=trace) == group("a|")


@pytest.mark.parametrize("texts", [(RIGHT, "a|"), (RIGHT, RIGHT), (UNKNOWN,)])
def test_other_groups_cost_nothing(texts):
    policy = ScriptedPolicy([RIGHT])
    assert edited(*texts, policy=policy) == group(*texts)
    assert policy.num_calls == 0


def test_another_template_is_read_as_text():
    seen: list[str] = []

    def read(problem, text):
        seen.append(text)
        return (7, 8)

    policy = ScriptedPolicy([RIGHT])
    after = edited("a|", policy=policy, method=Guide(template="Hint: {hint}. {prompt}"), prompt_reader=read)
    assert seen == ["Hint: step by ste. Q"]
    assert policy.prefixes == [(7, 8)]
    assert after.members[0].rollout.prompt_ids == PROMPT_IDS
    assert after.members[0].rollout.token_ids == sampled(RIGHT)
    assert after.members[0].num_shared_tokens == 0


# --- loss -----------------------------------------------------------------------------------------------------------


def tokens_of(ratios: list[list[float]], is_hinted: list[list[bool]], advantage: float = 1.0) -> Tokens:
    """Tokens with these ratios to what they were sampled with, 0.5 each; π_old is 0.4."""
    ratio_BT = torch.tensor(ratios)
    ones_BT = torch.ones_like(ratio_BT)
    logp_BT = torch.log(0.5 * ratio_BT).requires_grad_()
    half_BT = torch.log(0.5 * ones_BT)
    is_hinted_BT = torch.tensor(is_hinted)
    teacher_logp_BT = torch.where(is_hinted_BT, half_BT, 0.0)
    return Tokens(
        logp_BT, torch.log(0.4 * ones_BT), advantage * ones_BT, is_hinted_BT, teacher_logp_BT, ones_BT, 0 * ones_BT
    )


@pytest.mark.parametrize("advantage", [1.0, -0.5])
def test_the_ratio_is_shaped_by_its_own_quantile(advantage):
    # The 0.9-quantile of (0.2, 1.0, 1.2) lies four fifths of the way from 1.0 to 1.2.
    loss_BT = Guide().token_loss(tokens_of([[0.2, 1.0, 1.2]], [[True] * 3], advantage), Clip())
    expected = [-advantage * rho / (rho + 1.16) for rho in (0.2, 1.0, 1.2)]
    assert loss_BT[0].tolist() == pytest.approx(expected)


def test_the_quantile_has_no_gradient():
    tokens = tokens_of([[0.2, 1.0, 1.2]], [[True] * 3])
    (gradient_BT,) = torch.autograd.grad(Guide().token_loss(tokens, Clip()).sum(), tokens.logp_BT)
    assert gradient_BT[0].tolist() == pytest.approx([-rho * 1.16 / (rho + 1.16) ** 2 for rho in (0.2, 1.0, 1.2)])


def test_the_quantile_is_at_least_the_floor():
    loss_BT = ShapedRatio(floor=1e-4).loss(tokens_of([[1e-6, 1e-6]], [[True] * 2]), Clip())
    assert loss_BT[0].tolist() == pytest.approx([-1e-6 / (1e-6 + 1e-4)] * 2, rel=1e-4)


def test_a_hint_takes_no_part_in_the_quantile():
    tokens = tokens_of([[9.0, 0.2, 1.0, 1.2]], [[True] * 4])
    weight_BT = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    loss_BT = Guide().token_loss(replace(tokens, weight_BT=weight_BT), Clip())
    assert loss_BT[0, 1:].tolist() == pytest.approx([-rho / (rho + 1.16) for rho in (0.2, 1.0, 1.2)])


def test_each_response_has_its_own_quantile_so_that_a_batch_may_be_split():
    ratios = [[0.2, 1.0, 1.2], [3.0, 0.1, 0.7], [1.1, 1.0, 0.9]]
    is_hinted = [[True] * 3, [True, True, False], [False] * 3]
    whole = Guide().token_loss(tokens_of(ratios, is_hinted), Clip())
    parts = [Guide().token_loss(tokens_of([r], [h]), Clip()) for r, h in zip(ratios, is_hinted, strict=True)]
    assert torch.equal(whole, torch.cat(parts))
    gamma = 0.1 + 0.9 * 2.9
    assert whole[1, 0].item() == pytest.approx(-3 / (3 + gamma))


def test_the_policys_own_tokens_keep_the_clipped_surrogate():
    tokens = tokens_of([[1.5, 0.9]], [[False, True]])
    loss_BT = Guide().token_loss(tokens, Clip())
    assert loss_BT[0, 0] == clipped_policy_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, Clip())[0, 0]
    assert loss_BT[0, 1].item() == pytest.approx(-0.5)
    (gradient_BT,) = torch.autograd.grad(loss_BT.sum(), tokens.logp_BT)
    assert all(math.isfinite(g) for g in gradient_BT[0].tolist())
