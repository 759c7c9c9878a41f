"""GSPO: one ratio for a response, whatever the tokens that carry its gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip, Tokens, aggregate
from scope_rlvr.methods import Grpo, Gspo
from tests.unit.methods.crediting import credited

WIDE = Clip(low=0.9, high=100.0)


def tokens_of(
    now: list[list[float]], old: list[list[float]], advantage: list[float], weight: list[list[int]]
) -> Tokens:
    """Probabilities by row, one advantage a row."""
    logp_BT = torch.log(torch.tensor(now, dtype=torch.float64)).requires_grad_()
    weight_BT = torch.tensor(weight, dtype=torch.float64)
    advantage_BT = torch.tensor(advantage, dtype=torch.float64)[:, None].expand_as(weight_BT)
    zero_BT = torch.zeros_like(weight_BT)
    return Tokens(
        logp_BT=logp_BT,
        old_logp_BT=torch.log(torch.tensor(old, dtype=torch.float64)),
        advantage_BT=advantage_BT,
        is_teacher_BT=zero_BT.bool(),
        teacher_logp_BT=zero_BT,
        weight_BT=weight_BT,
        entropy_BT=zero_BT,
    )


def total(loss_BT: Tensor, weight_BT: Tensor) -> Tensor:
    return aggregate(
        loss_BT,
        weight_BT,
        Aggregation.SEQUENCE_MEAN,
        num_rows=(weight_BT.sum(1) > 0).sum(),
        num_tokens=weight_BT.sum(),
        max_length=10,
    )


def direct(tokens: Tokens, clip: Clip) -> Tensor:
    """The objective as it is printed: a mean over sequences with weight."""
    losses = []
    for row in range(len(tokens.weight_BT)):
        counts = tokens.weight_BT[row] > 0
        if counts.any():
            ratio = torch.exp((tokens.logp_BT - tokens.old_logp_BT)[row][counts].mean())
            advantage = tokens.advantage_BT[row][0]
            losses.append(-torch.minimum(ratio * advantage, ratio.clamp(1 - clip.low, 1 + clip.high) * advantage))
    return torch.stack(losses).mean()


def test_the_paper_fixes_the_objective():
    gspo = Gspo()
    assert (gspo.normalisation, gspo.aggregation) == (Normalisation.GROUP_STD, Aggregation.SEQUENCE_MEAN)
    assert gspo.clip == Clip(low=3e-4, high=4e-4)


def test_the_ratio_is_the_geometric_mean_over_the_tokens_that_count():
    # Ratios 2 and 8 have the geometric mean 4; the third token is padding.
    tokens = tokens_of([[0.5, 0.8, 0.9]], [[0.25, 0.1, 0.1]], [0.5], [[1, 1, 0]])
    loss_BT = Gspo().token_loss(tokens, WIDE)
    assert loss_BT[0, :2].tolist() == pytest.approx([-2, -2])
    (gradient,) = torch.autograd.grad(total(loss_BT, tokens.weight_BT), tokens.logp_BT)
    assert gradient[0].tolist() == pytest.approx([-1, -1, 0])  # -4 * 0.5 / 2 tokens


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "pulls"),
    [
        (1.0, 1.0005, -1.0004, False),  # above the clip
        (1.0, 1.0003, -1.0003, True),
        (1.0, 0.5, -0.5, True),  # a good response that became unlikely
        (-1.0, 0.9995, 0.9997, False),  # below the clip
        (-1.0, 0.9998, 0.9998, True),
        (-1.0, 2.0, 2.0, True),  # a bad response that became likely
    ],
)
def test_the_whole_response_is_clipped_or_not(advantage, ratio, loss, pulls):
    # Two tokens that moved apart, with the mean log ratio of the response.
    tokens = tokens_of([[0.2 * ratio, 0.1 * ratio]], [[0.1, 0.2]], [advantage], [[1, 1]])
    loss_BT = Gspo().token_loss(tokens, Clip(low=3e-4, high=4e-4))
    assert loss_BT[0].tolist() == pytest.approx([loss, loss])
    (gradient,) = torch.autograd.grad(loss_BT.sum(), tokens.logp_BT)
    assert (gradient != 0).all() if pulls else (gradient == 0).all()


def test_fresh_rollouts_have_the_gradient_of_grpo():
    old = [[0.3, 0.5, 0.2], [0.9, 0.1, 0.4]]
    gradients = []
    for method in (Gspo(), Grpo()):
        tokens = tokens_of(old, old, [0.7, -0.7], [[1, 1, 1], [1, 1, 0]])
        loss = total(method.token_loss(tokens, Clip(low=3e-4, high=4e-4)), tokens.weight_BT)
        gradients.append(torch.autograd.grad(loss, tokens.logp_BT)[0])
    assert torch.allclose(*gradients)


def test_a_row_without_weight_changes_nothing_even_if_a_token_is_impossible():
    tokens = tokens_of([[0.5, 0.5], [0.0, 0.5]], [[0.4, 0.5], [0.0, 0.5]], [1.0, 1.0], [[1, 1], [0, 0]])
    loss_BT = Gspo().token_loss(tokens, WIDE)
    assert torch.isfinite(loss_BT).all()
    loss = total(loss_BT, tokens.weight_BT)
    assert loss.item() == pytest.approx(-math.sqrt(1.25))
    assert torch.autograd.grad(loss, tokens.logp_BT)[0][1].tolist() == [0, 0]


def test_credit_is_that_of_grpo():
    texts = ("answer 7|", "answer 3|", "answer ?|", "answer")
    assert credited(Gspo(), *texts, normalisation=Normalisation.GROUP_STD) == credited(
        Grpo(), *texts, normalisation=Normalisation.GROUP_STD
    )


probabilities = st.lists(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), min_size=3, max_size=3)


@given(probabilities, probabilities, st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.floats(0, 0.9))
def test_value_and_gradient_are_those_of_the_printed_objective(now, old, advantage, clip):
    weight = [[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]]
    bounds, tokens = Clip(low=clip, high=clip), tokens_of(now, old, advantage, weight)
    loss, expected = total(Gspo().token_loss(tokens, bounds), tokens.weight_BT), direct(tokens, bounds)
    assert torch.allclose(loss, expected)
    (gradient,) = torch.autograd.grad(loss, tokens.logp_BT, retain_graph=True)
    (printed,) = torch.autograd.grad(expected, tokens.logp_BT)
    weight_BT = tokens.weight_BT
    ratio_B = torch.exp(((tokens.logp_BT - tokens.old_logp_BT) * weight_BT).sum(1) / weight_BT.sum(1))
    is_on_the_edge = ((ratio_B - 1).abs() - clip).abs().min() < 1e-9
    assert is_on_the_edge or torch.allclose(gradient, printed, atol=1e-9)
