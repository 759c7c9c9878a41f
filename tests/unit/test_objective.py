"""Token losses: numbers by hand, gradient weights by table and by finite differences, sums over any split."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from scope_rlvr.formulas.losses import (
    Aggregation,
    Clip,
    Clipped,
    Masked,
    Mixture,
    NegativeLogLikelihood,
    Plain,
    Shaped,
    TeacherRatio,
    TeacherTerm,
    Tokens,
    Trust,
    aggregate,
    clipped_policy_loss,
    kl_penalty,
)

CLIP = Clip(low=0.2, high=0.3)


def tokens(prob: float, *, old: float | None = None, teacher: float = 1.0, advantage: float = 1.0) -> Tokens:
    def log(p: float) -> Tensor:
        return torch.tensor([[math.log(p)]], dtype=torch.float64)

    return Tokens(
        log(prob).requires_grad_(),
        log(prob if old is None else old),
        torch.tensor([[advantage]], dtype=torch.float64),
        torch.tensor([[True]]),
        log(teacher),
        weight_BT=torch.ones(1, 1),
        entropy_BT=torch.zeros(1, 1),
    )


def loss_and_weight(term, batch: Tokens, clip: Clip = CLIP) -> tuple[float, float]:
    """The loss, and what multiplies the gradient of log π in the ascent direction."""
    loss = term.loss(batch, clip)
    weight = -torch.autograd.grad(loss.sum(), batch.logp_BT)[0] if loss.requires_grad else torch.zeros(1, 1)
    return loss.item(), weight.item()


# --- numbers by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "batch", "expected"),
    [
        (Shaped(gamma=0.1), tokens(0.3), -0.75),
        (Shaped(gamma=0.1), tokens(0.3, advantage=0.5), -0.375),
        (Shaped(gamma=0.5), tokens(0.5), -0.5),
        (Plain(), tokens(0.3, advantage=2.0), -0.6),
        (TeacherRatio(max_ratio=2.0), tokens(0.3, teacher=0.6), -0.5),
        (TeacherRatio(max_ratio=2.0), tokens(0.9, teacher=0.3), -2.0),
        (Trust(floor=0.1), tokens(0.02), -0.2),
        (Trust(floor=0.1), tokens(0.4), -1.0),
        (Mixture(exponent=0.5), tokens(0.36, old=0.2), -(0.64**0.5) * 4 * 0.36 / 1.6),
        (Mixture(exponent=0.0), tokens(0.2), -0.8 / 1.6),
        (NegativeLogLikelihood(), tokens(0.5, advantage=3.0), 3 * math.log(2)),
        (Clipped(), tokens(0.5, old=0.4), -1.25),
        (Clipped(), tokens(0.6, old=0.4), -1.3),
        (Masked(), tokens(0.5), 0.0),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else None,
)
def test_terms_by_hand(term, batch, expected):
    assert loss_and_weight(term, batch)[0] == pytest.approx(expected)


PROBS = [0.001, 0.01, 0.05, 0.1, 0.3, 0.5, 0.9, 0.99]
GRADIENT_WEIGHTS = [
    (Plain(), [0.001, 0.01, 0.05, 0.10, 0.30, 0.50, 0.90, 0.99]),
    (TeacherRatio(), [0.001, 0.01, 0.05, 0.10, 0.30, 0.50, 0.90, 0.99]),
    (Shaped(gamma=0.1), [0.010, 0.083, 0.222, 0.250, 0.187, 0.139, 0.090, 0.083]),
    (Shaped(gamma=0.5), [0.002, 0.019, 0.083, 0.139, 0.234, 0.250, 0.230, 0.223]),
    (Mixture(exponent=0.5), [0.004, 0.039, 0.170, 0.292, 0.528, 0.566, 0.308, 0.100]),
    (Trust(floor=0.1), [0.010, 0.100, 0.500, 1, 1, 1, 1, 1]),
    (NegativeLogLikelihood(), [1] * 8),
    (Clipped(), [1] * 8),
    (Masked(), [0] * 8),
]


@pytest.mark.parametrize(("term", "expected"), GRADIENT_WEIGHTS, ids=lambda v: v.kind if hasattr(v, "kind") else None)
def test_gradient_weights_are_those_of_the_table(term, expected):
    weights = [loss_and_weight(term, tokens(prob))[1] for prob in PROBS]
    assert weights == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(("term", "_"), GRADIENT_WEIGHTS, ids=lambda v: v.kind if hasattr(v, "kind") else None)
@pytest.mark.parametrize("prob", [0.001, 0.04, 0.37, 0.85])
def test_gradients_agree_with_finite_differences(term, _, prob):
    batch, step = tokens(prob, old=0.9 * prob, teacher=0.7, advantage=1.7), 1e-6
    _, weight = loss_and_weight(term, batch)

    def moved(by: float) -> float:
        """The loss with log π moved, and everything that carries no gradient held where it is."""
        logp_BT = batch.logp_BT.detach() + by
        if isinstance(term, Trust):
            return -1.7 * (logp_BT.exp() / batch.logp_BT.exp().clamp(min=term.floor)).item()
        if isinstance(term, Mixture):
            novelty = (1 - prob) ** term.exponent
            return -1.7 * novelty * 4 * logp_BT.exp().item() / (3 * 0.9 * prob + 1)
        there = replace(batch, logp_BT=logp_BT)
        return term.loss(there, CLIP).item()

    assert weight == pytest.approx((moved(-step) - moved(step)) / (2 * step), abs=1e-6)


def test_shaping_pulls_most_where_the_probability_is_gamma():
    weights = {prob / 100: loss_and_weight(Shaped(gamma=0.2), tokens(prob / 100))[1] for prob in range(1, 100)}
    assert max(weights, key=weights.__getitem__) == 0.2
    assert weights[0.2] == pytest.approx(0.25)


def test_a_teacher_ratio_beyond_its_bound_stops_pulling():
    assert loss_and_weight(TeacherRatio(max_ratio=2.0), tokens(0.5, teacher=0.2)) == (-2.0, 0.0)


@pytest.mark.parametrize("term", [t for t, _ in GRADIENT_WEIGHTS], ids=lambda t: t.kind)
def test_no_advantage_no_pull(term):
    loss, weight = loss_and_weight(term, tokens(0.3, advantage=0.0))
    assert (loss, weight) == (0.0, 0.0)


@pytest.mark.parametrize("term", [t for t, _ in GRADIENT_WEIGHTS], ids=lambda t: t.kind)
def test_terms_work_token_by_token(term):
    probs = torch.tensor([[0.1, 0.5, 0.9], [0.3, 0.2, 0.7]], dtype=torch.float64)
    advantages = torch.tensor([[1.0, 0.5, 2.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    batch = Tokens(probs.log(), probs.log(), advantages, torch.ones(2, 3, dtype=torch.bool), *torch.zeros(3, 2, 3))
    whole = term.loss(batch, CLIP)
    assert whole.shape == (2, 3)
    for row in range(2):
        for column in range(3):
            one = tokens(probs[row, column].item(), advantage=advantages[row, column].item())
            assert whole[row, column].item() == pytest.approx(term.loss(one, CLIP).item())


def test_a_bare_name_stands_for_a_term_with_its_defaults():
    adapter = TypeAdapter(TeacherTerm)
    assert adapter.validate_python("shaped") == Shaped(gamma=0.1)
    assert adapter.validate_python({"kind": "trust", "floor": 0.2}) == Trust(floor=0.2)


# --- clipping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "weight"),
    [
        (1.0, 1.0, -1.0, 1.0),
        (1.0, -1.0, 1.0, -1.0),
        (1.29, 1.0, -1.29, 1.29),  # inside the upper bound
        (1.31, 1.0, -1.3, 0.0),  # over it: a good token stops pulling
        (1.31, -1.0, 1.31, -1.31),  # a bad one does not
        (0.81, -1.0, 0.81, -0.81),
        (0.79, -1.0, 0.8, 0.0),  # under the lower bound: a bad token stops pushing
        (0.79, 1.0, -0.79, 0.79),
        (3.0, -2.0, 6.0, -6.0),
        (0.01, -2.0, 1.6, 0.0),
    ],
)
def test_the_clip_stops_what_has_moved_far_enough(ratio, advantage, loss, weight):
    batch = tokens(0.2 * ratio, old=0.2, advantage=advantage)
    assert loss_and_weight(Clipped(), batch) == pytest.approx((loss, weight))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "weight"),
    [
        (9.9, -2.0, 19.8, -19.8),  # below the dual clip a bad token pushes with its ratio
        (10.1, -2.0, 20.0, 0.0),  # over it, it stops
        (10.1, 2.0, -2.6, 0.0),  # a good one has stopped at the upper bound
        (0.5, -2.0, 1.6, 0.0),
    ],
)
def test_a_dual_clip_bounds_what_a_bad_token_may_push(ratio, advantage, loss, weight):
    batch, clip = tokens(0.05 * ratio, old=0.05, advantage=advantage), Clip(low=0.2, high=0.3, dual=10)
    assert loss_and_weight(Clipped(), batch, clip) == pytest.approx((loss, weight))


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("ratio", [0.8, 1.3])
def test_at_the_bounds_the_loss_is_the_same_from_both_sides(ratio, advantage):
    old = torch.tensor([[0.0]], dtype=torch.float64)
    losses = [
        clipped_policy_loss(old + math.log(ratio) + by, old, torch.tensor([[advantage]]), CLIP).item()
        for by in (-1e-9, 0.0, 1e-9)
    ]
    assert losses == pytest.approx([-ratio * advantage] * 3)


def test_kl_is_zero_at_the_reference_and_unbiased():
    policy = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    reference = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    assert torch.all(kl_penalty(policy.log(), policy.log()) == 0)
    penalties = kl_penalty(policy.log(), reference.log())
    assert torch.all(penalties > 0)
    exact = (policy * (policy / reference).log()).sum()
    assert (policy * penalties).sum().item() == pytest.approx(exact.item())


# --- aggregation ----------------------------------------------------------------------------------------------------

LOSS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0], [6.0, 8.0, 9.0]])
WEIGHT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (Aggregation.MAX_LENGTH, (6 + 4 + 14) / (3 * 10)),
        (Aggregation.TOKEN_MEAN, (6 + 4 + 14) / 6),
        (Aggregation.SEQUENCE_MEAN, (2 + 4 + 7) / 3),
    ],
)
def test_aggregation_by_hand(how, expected):
    assert _aggregate(LOSS, WEIGHT, how).item() == pytest.approx(expected)


def _aggregate(loss_BT: Tensor, weight_BT: Tensor, how: Aggregation, whole_BT: Tensor = WEIGHT) -> Tensor:
    return aggregate(
        loss_BT,
        weight_BT,
        how,
        num_rows=(whole_BT.sum(1) > 0).sum().float(),
        num_tokens=whole_BT.sum(),
        max_length=10,
    )


@pytest.mark.parametrize("how", list(Aggregation))
@pytest.mark.parametrize("seed", range(8))
def test_any_split_in_any_order_adds_up_to_the_same_loss_and_gradient(how, seed):
    generator = torch.Generator().manual_seed(seed)
    num_rows, num_tokens = 12, 9
    logp_BT = torch.randn(num_rows, num_tokens, generator=generator, dtype=torch.float64)
    lengths = torch.randint(0, num_tokens + 1, (num_rows, 1), generator=generator)
    weight_BT = (torch.arange(num_tokens) < lengths).double()
    weight_BT[torch.randint(num_rows, (2,), generator=generator)] = 0.0

    def gradient(parts: list[Tensor]) -> tuple[float, Tensor]:
        variable = logp_BT.clone().requires_grad_()
        loss = sum(_aggregate(variable[part] ** 2, weight_BT[part], how, weight_BT) for part in parts)
        return loss.item(), torch.autograd.grad(loss, variable)[0]

    whole_loss, whole_gradient = gradient([torch.arange(num_rows)])
    order = torch.randperm(num_rows, generator=generator)
    cuts = torch.randint(0, num_rows + 1, (3,), generator=generator).sort().values.tolist()
    for parts in (
        list(order.split(1)),
        list(order.split(5)),
        [order[a:b] for a, b in zip([0, *cuts], [*cuts, num_rows], strict=True)],  # some may be empty
    ):
        loss, grad = gradient(parts)
        assert loss == pytest.approx(whole_loss, abs=1e-12)
        torch.testing.assert_close(grad, whole_gradient, atol=1e-12, rtol=0)


@pytest.mark.parametrize("how", list(Aggregation))
def test_rows_without_weight_and_padding_change_nothing(how):
    padded_loss = torch.cat([torch.full((2, 3), 5.0), LOSS])
    padded_weight = torch.cat([torch.zeros(2, 3), WEIGHT])
    assert _aggregate(padded_loss, padded_weight, how, padded_weight) == _aggregate(LOSS, WEIGHT, how)
    wide = torch.nn.functional.pad
    assert _aggregate(wide(LOSS, (0, 4), value=7.0), wide(WEIGHT, (0, 4)), how, wide(WEIGHT, (0, 4))) == _aggregate(
        LOSS, WEIGHT, how
    )


@pytest.mark.parametrize("how", list(Aggregation))
def test_a_batch_without_any_weight_is_zero_and_not_nan(how):
    nothing = torch.zeros_like(WEIGHT)
    assert _aggregate(LOSS, nothing, how, nothing).item() == 0.0


def test_only_max_length_depends_on_the_longest_allowed_response():
    counts: dict[str, Tensor] = {"num_rows": torch.tensor(3.0), "num_tokens": torch.tensor(6.0)}
    of: Callable[[Aggregation, int], float] = lambda how, length: aggregate(  # noqa: E731
        LOSS, WEIGHT, how, max_length=length, **counts
    ).item()
    assert of(Aggregation.MAX_LENGTH, 20) == pytest.approx(of(Aggregation.MAX_LENGTH, 10) / 2)
    assert of(Aggregation.TOKEN_MEAN, 20) == of(Aggregation.TOKEN_MEAN, 10)
    assert of(Aggregation.SEQUENCE_MEAN, 20) == of(Aggregation.SEQUENCE_MEAN, 10)
