"""The loss of a micro-batch by hand: what enters it, what divides it, and what is left out of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from scope_rlvr.core.groups import Streams
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.losses import Aggregation, SamplerCorrection
from scope_rlvr.methods import Grpo, Method, Scope
from scope_rlvr.methods.loss import BatchLoss, Counts, Objective, batch_loss, needs_advantage, stream_tensors, tokens_of


def row(advantage: float, *, weight: float = 1.0, num_tokens: int = 2, origin: Origin = Origin.POLICY, **extras: Any):
    values = {name: (value,) * num_tokens for name, value in extras.items()}
    return Streams(
        (advantage,) * num_tokens, (weight,) * num_tokens, (origin,) * num_tokens, (-0.5,) * num_tokens, values
    )


def loss_of(
    rows: list[Streams | None],
    logp_BT: torch.Tensor,
    objective: Objective,
    method: Method | None = None,
    ref_logp_BT: torch.Tensor | None = None,
) -> BatchLoss:
    names = tuple(dict.fromkeys(name for r in rows if r is not None for name in r.extras))
    streams = stream_tensors(rows, logp_BT.size(1), names)
    weight_BT = streams["token_weights"]
    return batch_loss(
        method or Grpo(),
        tokens_of({"logprob": logp_BT, "entropy": torch.full_like(logp_BT, 0.3)}, streams),
        objective,
        Counts((weight_BT.sum(1) > 0).sum(), weight_BT.sum()),
        entropy_BT=torch.full_like(logp_BT, 0.3),
        is_response_BT=torch.tensor(
            [[r is not None and t < len(r.weight_T) for t in range(logp_BT.size(1))] for r in rows]
        ),
        sampler_logp_BT=streams["behaviour_logps"],
        ref_logp_BT=ref_logp_BT,
    )


def test_every_addend_by_hand():
    logp_BT = torch.full((1, 2), -0.5)
    objective = Objective(10, aggregation=Aggregation.TOKEN_MEAN, kl=0.5, entropy=0.1)
    method = Grpo(parts=[{"kind": "anchor", "weight": 2.0}])
    found = loss_of([row(0.75, anchor_logprob=-1.0)], logp_BT, objective, method, torch.full((1, 2), -0.25))
    # k3 of a ratio is ratio - log ratio - 1.
    kl, anchor = math.exp(0.25) - 0.25 - 1, math.exp(-0.5) + 0.5 - 1
    assert found.loss.item() == pytest.approx(-0.75 + 0.5 * kl - 0.1 * 0.3 + 2.0 * anchor, abs=1e-6)


@pytest.mark.parametrize("aggregation", list(Aggregation))
@pytest.mark.parametrize("method", [Grpo(parts=["anchor"]), Scope(parts=["anchor"], teacher_term="teacher_ratio")])
def test_what_counts_nowhere_cannot_make_the_loss_overflow(aggregation: Aggregation, method: Method):
    # A padded row, an unknown verdict and an empty slot, all of them as unlikely as can be.
    rows = [row(0.5, num_tokens=1, anchor_logprob=-1.0), row(0.0, weight=0.0, anchor_logprob=-1.0), None]
    least = torch.tensor([[-1.0, -300.0], [-300.0, -300.0], [-300.0, -300.0]], requires_grad=True)
    objective = Objective(
        2, aggregation=aggregation, kl=0.1, correction=(SamplerCorrection.SEQUENCE_TRUNCATE, 0.0, math.inf)
    )
    alone = torch.tensor([[-1.0]], requires_grad=True)
    ref_BT = torch.tensor([[-1.5, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = [
        loss_of(rows, least, objective, method, ref_BT),
        loss_of(rows[:1], alone, objective, method, ref_BT[:1, :1]),
    ]
    for one in found:
        one.loss.backward()
    torch.testing.assert_close(found[0].loss, found[1].loss)
    torch.testing.assert_close(least.grad[0, :1], alone.grad[0])
    assert not least.grad[0, 1:].any()
    assert not least.grad[1:].any()


@pytest.mark.parametrize(
    ("method", "objective", "expected"),
    [
        (Grpo(), Objective(10), True),
        (Scope(), Objective(10), True),
        (Scope(teacher_term="shaped"), Objective(10), True),
        (Grpo(parts=["sequence_ratio"]), Objective(10), True),
        (Grpo(), Objective(10, kl=0.1), False),
        (Grpo(), Objective(10, entropy=0.1), False),
        (Grpo(parts=["entropy_smoothing"]), Objective(10), False),
        (Grpo(parts=["rare_tokens"]), Objective(10), True),
        (Grpo(parts=["elastic_clip"]), Objective(10), True),
        (Grpo(parts=["covariance_penalty"]), Objective(10), False),
        (Grpo(parts=["label_likelihood"]), Objective(10), False),
        (Grpo(parts=["uniform_value"]), Objective(10), False),
    ],
)
def test_what_is_learned_without_an_advantage(method: Method, objective: Objective, expected: bool):
    assert needs_advantage(method, objective) is expected


def test_a_loss_that_forgets_the_advantage_learns_from_every_token():
    class Imitation(Grpo):
        def token_loss(self, tokens, clip):
            return torch.where(tokens.is_teacher_BT, -tokens.logp_BT, super().token_loss(tokens, clip))

    class FromAnExtra(Grpo):
        def token_loss(self, tokens, clip):
            return tokens.extras["surprise"] * tokens.advantage_BT

    assert not needs_advantage(Imitation(), Objective(10))
    assert not needs_advantage(FromAnExtra(), Objective(10))
