"""Losses in the place of the clipped surrogate: numbers by hand, gradients against the formula, and GRPO where they are neutral."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scope_rlvr.core.groups import Streams
from scope_rlvr.formulas.losses import Clip, Tokens, clipped_policy_loss
from scope_rlvr.methods import METHODS, Grpo
from scope_rlvr.methods.parts.base import Loss
from scope_rlvr.methods.registry import PARTS
from tests.unit.methods.test_confidence_parts import credit, tokens_of
from tests.unit.methods.test_outcome_parts import RIGHT, UNKNOWN, WRONG, member

LOSSES = [kind for kind in PARTS if issubclass(PARTS[kind], Loss)]


def gradient(loss_BT: Tensor, tokens: Tokens) -> list[list[float]]:
    (found,) = torch.autograd.grad((loss_BT * tokens.weight_BT).sum(), tokens.logp_BT)
    return found.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_is_finite_where_nothing_was_marked_and_where_nothing_counts(kind: str) -> None:
    method = Grpo(parts=[kind])
    (plain,) = credit(Grpo(), [member(RIGHT, 1)])
    for weight in (0.0, 1.0):
        silent = Streams(plain.advantage_T, (weight,), plain.origin_T, plain.behaviour_logprob_T)
        assert torch.isfinite(method.token_loss(tokens_of([silent]), Clip())).all()


# --- Lp-Reg -----------------------------------------------------------------------------------------------------------


def test_a_rare_token_that_the_filter_keeps_is_held_and_not_pushed_away() -> None:
    policy, filtered = (-4.0, -0.1), (-3.9, -0.05)
    failure = member(WRONG, policy_logprob=policy, filtered_logprob=filtered)
    dropped = member(WRONG, policy_logprob=(-5.0, -0.1), filtered_logprob=(-1e4, -0.05))
    success = member(RIGHT, policy_logprob=(-9.0, -9.0), filtered_logprob=(-8.0, -8.0))
    method = METHODS["lp_reg"](share=0.5, normalisation="none")
    streams = credit(method, [failure, dropped, success, member(UNKNOWN)])
    assert [s.extras["spared"] for s in streams] == [(1, 0), (0, 0), (0, 0), (0, 0)]
    tokens = tokens_of(streams[:1], logp=-4.0, old=-4.0)
    loss_BT = method.token_loss(tokens, Clip(low=1, high=9))
    kl = math.exp(0.1) - 0.1 - 1
    assert loss_BT[0].tolist() == pytest.approx([1 / 3 + kl, 1 / 3])
    # −Â·∇ρ is +⅓, and the divergence pulls the other way: 1 − π_f/π.
    assert gradient(loss_BT, tokens)[0] == pytest.approx([1 / 3 + 1 - math.exp(0.1), 1 / 3])


# --- ETR and AEPO -----------------------------------------------------------------------------------------------------


def ratios(*ratio: float, advantage: float = 1.0) -> Tokens:
    (one,) = credit(Grpo(), [member(RIGHT, len(ratio))])
    tokens = tokens_of([one])
    changes = {"logp_BT": torch.tensor([ratio]).log().requires_grad_(), "old_logp_BT": torch.zeros(1, len(ratio))}
    return Tokens(
        **{n: getattr(tokens, n) for n in ("is_teacher_BT", "teacher_logp_BT", "weight_BT", "entropy_BT")},
        **changes,
        advantage_BT=torch.full((1, len(ratio)), advantage),
        extras={"pass_rate": torch.full((1, len(ratio)), 0.5)},
    )


def test_the_clip_of_etr_is_wider_where_half_is_solved_and_advantages_are_large() -> None:
    method, tokens = Grpo(parts=[{"kind": "elastic_clip", "by_advantage": 0.5, "by_variance": 1.0}]), ratios(1.2, 3.0)
    high = 1 + 0.2 * (1 + 0.5 * math.tanh(1) + 1.0)
    assert method.token_loss(tokens, Clip())[0].tolist() == pytest.approx([-1.2, -high])
    wide = ratios(0.01, advantage=-9.0)
    assert method.token_loss(wide, Clip(low=0.9))[0].tolist() == pytest.approx([0.09]), "no lower bound is left"


def test_the_pass_rate_is_that_of_known_verdicts() -> None:
    streams = credit(Grpo(parts=["elastic_clip"]), [member(RIGHT), member(WRONG), member(WRONG), member(UNKNOWN)])
    assert streams[0].extras["pass_rate"] == pytest.approx((1 / 3, 1 / 3))


def test_above_the_upper_bound_aepo_keeps_the_gradient_of_the_bound() -> None:
    method, tokens = Grpo(parts=["rescaled_clip"]), ratios(0.5, 1.1, 3.0)
    loss_BT = method.token_loss(tokens, Clip())
    assert loss_BT[0].tolist() == pytest.approx([-0.5, -1.1, -1.2])
    assert gradient(loss_BT, tokens)[0] == pytest.approx([-0.5, -1.1, -1.2])
    pushed = ratios(0.5, 1.1, 3.0, advantage=-1.0)
    same = clipped_policy_loss(pushed.logp_BT, pushed.old_logp_BT, pushed.advantage_BT, Clip())
    assert torch.equal(method.token_loss(pushed, Clip()), same)


@pytest.mark.parametrize(
    "part",
    [
        {"kind": "elastic_clip", "by_advantage": 0, "by_variance": 0},
        {"kind": "rare_tokens", "share": 0},
        "rescaled_clip",
        "covariance_penalty",
    ],
)
def test_before_the_policy_has_moved_or_where_they_are_neutral_losses_are_grpos(part: object) -> None:
    members = [member(RIGHT, policy_logprob=(-0.5, -0.5), filtered_logprob=(-1e4, -1e4))] * 2 + [member(WRONG)]
    method = Grpo(parts=[part])
    ours, plain = tokens_of(credit(method, members)), tokens_of(credit(Grpo(), members))
    loss_BT = method.token_loss(ours, Clip())
    assert gradient(loss_BT, ours) == gradient(Grpo().token_loss(plain, Clip()), plain)


# --- PACS and ROVER ---------------------------------------------------------------------------------------------------


def pacs_of_a_whole_group(log_ratio_GT: Tensor, label_G: Tensor, beta: float) -> Tensor:
    """The released loss, with all rows of a group at hand."""
    score_G = beta * log_ratio_GT.sum(-1)
    others_G = (score_G.sum() - score_G) / (len(score_G) - 1)
    num_right = label_G.sum()
    balance_G = torch.where(label_G > 0, num_right, len(label_G) - num_right)
    weight_G = len(label_G) / (2 * balance_G) if 0 < num_right < len(label_G) else torch.ones_like(label_G)
    return torch.nn.functional.binary_cross_entropy_with_logits(score_G - others_G, label_G, weight=weight_G)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=6), st.floats(0.1, 3))
def test_the_first_gradient_of_pacs_is_that_of_the_whole_group(labels: Sequence[bool], beta: float) -> None:
    method = METHODS["pacs"](beta=beta)
    tokens = tokens_of(credit(method, [member(RIGHT if label else WRONG) for label in labels]))
    ours = gradient(method.token_loss(tokens, Clip()) / 2, tokens)  # the mean over a rollout's two tokens
    log_ratio = torch.zeros(len(labels), 2, requires_grad=True)
    pacs_of_a_whole_group(log_ratio, torch.tensor(labels, dtype=torch.float), beta).backward()
    assert log_ratio.grad is not None
    torch.testing.assert_close(torch.tensor(ours) / len(labels), log_ratio.grad, atol=1e-6, rtol=1e-5)


def test_pacs_by_hand_and_what_does_not_count() -> None:
    method = METHODS["pacs"]()
    streams = credit(method, [member(RIGHT), member(WRONG), member(UNKNOWN)])
    tokens = tokens_of(streams, logp=-0.25)
    right, wrong, unknown = method.token_loss(tokens, Clip())[:, 0].tolist()
    # s = 2 · 0.25, w = 1, and the others' w·(½ − r) is ½ for the right one and −½ for the wrong one.
    assert right == pytest.approx(math.log1p(math.exp(0.5)) - 0.5 - 0.25)
    assert wrong == pytest.approx(math.log1p(math.exp(0.5)) + 0.25)
    assert unknown == 0
    flat = tokens_of(credit(method, [member(RIGHT), member(RIGHT)]))
    assert gradient(method.token_loss(flat, Clip()), flat) == [[0, 0], [0, 0]]


def test_the_first_gradient_of_rover_is_that_of_reinforce() -> None:
    method = METHODS["rover"]()
    streams = credit(
        method, [member(RIGHT, old_self_certainty=(1.0, 2.0)), member(WRONG, old_self_certainty=(1.0, 2.0))]
    )
    tokens = tokens_of(streams)
    still = Tokens(
        **{**vars_of(tokens), "extras": {**tokens.extras, "self_certainty": tokens.extras["old_self_certainty"]}}
    )
    assert gradient(method.token_loss(still, Clip()), still) == [[-1, -1], [1, 1]], "−2Â"
    moved = Tokens(
        **{**vars_of(tokens), "extras": {**tokens.extras, "self_certainty": torch.tensor([[9.0, 1.5], [9.0, 1.5]])}}
    )
    # At the first token the target is Â and the mean log-ratio at the second one: 2 − 1.5.
    assert method.token_loss(moved, Clip())[0].tolist() == pytest.approx([(0.5 + 0.5) ** 2, 0.25])


def vars_of(tokens: Tokens) -> dict[str, object]:
    return {name: getattr(tokens, name) for name in Tokens.__slots__}
