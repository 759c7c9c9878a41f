"""From token streams to one number: the loss that every engine computes.

The loss is a sum over micro-batches that depends on nothing but the streams: its normalisers count the whole batch of an
optimiser step, so that splitting changes nothing but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from scope_rlvr.core.groups import Streams
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import (
    Aggregation,
    Clip,
    SamplerCorrection,
    Tokens,
    aggregate,
    kl_penalty,
    sampler_weights,
)
from scope_rlvr.formulas.readings import Detached, Entropy, LogitReducer, LogProb
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Loss, Term

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Objective:
    """What all methods of a comparison share, and how samples of another program are corrected.

    ``max_length`` is the longest allowed response, ``correction`` how the ratio of the trainer's to the sampler's
    probability is used, and its bounds.
    """

    max_length: int
    normalisation: Normalisation = Normalisation.NONE
    aggregation: Aggregation = Aggregation.MAX_LENGTH
    clip: Clip = field(default_factory=Clip)
    kl: float = 0.0
    entropy: float = 0.0
    corrects_kl: bool = False
    correction: tuple[SamplerCorrection, float, float] = (SamplerCorrection.NONE, 0.0, math.inf)

    def of(self, method: Method) -> Self:
        """The objective with what the method fixes in the place of what the run says."""
        return replace(self, **method.fixed)


def stream_tensors(rows: Sequence[Streams | None], num_tokens: int, extras: Sequence[str] = ()) -> dict[str, Tensor]:
    """The streams of some rows as ``(B, T)`` tensors, padded with zeros; ``None`` is an empty slot.

    ``extra/NAME`` are the further streams. A behaviour log-probability that nobody knows is not a number.
    """

    def padded(values: Callable[[Streams], Sequence[float]]) -> Tensor:
        data = torch.zeros(len(rows), num_tokens)
        for i, row in enumerate(rows):
            if row is not None:
                data[i, : len(row.weight_T)] = torch.tensor(values(row))
        return data

    return {
        "advantages": padded(lambda s: s.advantage_T),
        "token_weights": padded(lambda s: s.weight_T),
        "is_teacher": padded(lambda s: [origin is Origin.TEACHER for origin in s.origin_T]).bool(),
        "behaviour_logps": padded(lambda s: [torch.nan if p is None else p for p in s.behaviour_logprob_T]),
        **{f"extra/{name}": padded(lambda s, name=name: s.extras[name]) for name in extras},  # type: ignore[misc]
    }


def loss_reducers(method: Method, objective: Objective) -> tuple[LogitReducer, ...]:
    """What the loss needs of the policy's logits: the log-probability, the entropy (with a gradient where the loss wants
    one, else as a figure), and what the method's loss and terms ask for."""
    of_parts = {reducer.name: reducer for part in method.all_parts for reducer in part.reducers}
    entropy = Entropy() if objective.entropy != 0.0 else Detached(of=Entropy())
    return tuple(({LogProb().name: LogProb(), entropy.name: entropy} | of_parts).values())


def needs_advantage(method: Method, objective: Objective) -> bool:
    """Whether nothing is learned from tokens whose advantage is zero: no penalty, bonus or term counts them, and the token
    loss is zero there, as is its gradient.

    The token loss is tried out on some tokens, sampled ones and a teacher's, below, at and above the clip bounds. One that
    wants more than every method has is taken to learn from all tokens.
    """
    if objective.kl != 0.0 or objective.entropy != 0.0 or method.parts_of(Term):
        return False
    if any(part.learns_without_advantage for part in method.parts_of(Loss)):
        return False
    logp_BT = torch.tensor([[-3.0, -1.0, -0.5, -0.1]] * 2, requires_grad=True)
    sampled_BT = torch.full((2, 4), -0.7)
    tokens = Tokens(
        logp_BT=logp_BT,
        old_logp_BT=sampled_BT,
        advantage_BT=torch.zeros(2, 4),
        is_teacher_BT=torch.tensor([[False] * 4, [True] * 4]),
        teacher_logp_BT=sampled_BT,
        weight_BT=torch.ones(2, 4),
        entropy_BT=torch.ones(2, 4),
    )
    try:
        loss_BT = method.token_loss(tokens, objective.clip)
    except (LookupError, ValueError, TypeError, RuntimeError):
        return False
    if loss_BT.any() or not loss_BT.requires_grad:
        return not loss_BT.any()
    (gradient_BT,) = torch.autograd.grad(loss_BT.sum(), logp_BT)
    return not gradient_BT.any()


def tokens_of(kept: Mapping[str, Tensor], streams: Mapping[str, Tensor], old_logp_BT: Tensor | None = None) -> Tokens:
    """A micro-batch as losses see it: ``kept`` is what the reducers kept of the policy's logits, ``streams`` as
    :func:`stream_tensors` gives them. Without ``old_logp_BT`` the policy is the one that sampled."""
    logp_BT, is_teacher_BT = kept["logprob"], streams["is_teacher"]
    carried = {name.removeprefix("extra/"): t for name, t in streams.items() if name.startswith("extra/")}
    return Tokens(
        logp_BT=logp_BT,
        old_logp_BT=logp_BT.detach() if old_logp_BT is None else old_logp_BT,
        advantage_BT=streams["advantages"],
        is_teacher_BT=is_teacher_BT,
        teacher_logp_BT=torch.where(is_teacher_BT, streams["behaviour_logps"], 0.0).nan_to_num(0.0),
        weight_BT=streams["token_weights"],
        entropy_BT=kept["entropy"].detach(),
        extras=carried | {name: value for name, value in kept.items() if name != "logprob"},
    )


@dataclass(frozen=True)
class Counts:
    """The normalisers of one optimiser step: rows with any weight, and the sum of all weights."""

    num_rows: Tensor
    num_tokens: Tensor


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a micro-batch, and the parts of it that figures are made of, each ``(B, T)`` before weights."""

    loss: Tensor
    policy_BT: Tensor
    kl_BT: Tensor | None


def batch_loss(
    method: Method,
    tokens: Tokens,
    objective: Objective,
    counts: Counts,
    *,
    entropy_BT: Tensor,
    is_response_BT: Tensor,
    sampler_logp_BT: Tensor,
    ref_logp_BT: Tensor | None = None,
    term_weights: Mapping[str, float] | None = None,
) -> BatchLoss:
    """``Σ_t w_t (L_t + β·KL_t) / n − c·mean H + Σ_k λ_k · mean term_k`` over a micro-batch.

    ``L`` is the method's token loss, ``n`` the aggregation's normaliser, ``c`` the weight of the entropy ``entropy_BT``, which
    has a gradient where ``c`` is not 0, and ``λ_k`` the ``term_weights``. ``is_response_BT`` tells tokens from padding;
    ``sampler_logp_BT`` are the log-probabilities that tokens were sampled with.
    """

    def summed(values_BT: Tensor, how: Aggregation) -> Tensor:
        return aggregate(
            values_BT,
            tokens.weight_BT,
            how,
            num_rows=counts.num_rows,
            num_tokens=counts.num_tokens,
            max_length=objective.max_length,
        )

    how, low, high = objective.correction
    is_sampled_BT = is_response_BT & ~tokens.is_teacher_BT
    corrected_BT = sampler_weights(tokens.old_logp_BT, sampler_logp_BT, is_sampled_BT, how, low, high)
    tokens, counts_BT = _where_they_count(tokens), tokens.weight_BT > 0
    policy_BT = method.token_loss(tokens, objective.clip) * torch.where(counts_BT, corrected_BT, 1.0)
    loss_BT, kl_BT = policy_BT, None
    if ref_logp_BT is not None:
        kl_BT = kl_penalty(tokens.logp_BT, torch.where(counts_BT, ref_logp_BT, 0.0))
        if objective.corrects_kl:
            kl_BT = kl_BT * torch.exp(tokens.logp_BT - tokens.old_logp_BT)
        loss_BT = loss_BT + objective.kl * kl_BT
    loss = summed(loss_BT, objective.aggregation)
    if objective.entropy != 0.0:
        loss = loss - objective.entropy * summed(entropy_BT, Aggregation.TOKEN_MEAN)
    for term in method.parts_of(Term):
        weight = (term_weights or {}).get(term.kind, term.weight)
        if weight != 0.0:
            loss = loss + weight * summed(term.loss(tokens), Aggregation.TOKEN_MEAN)
    return BatchLoss(loss, policy_BT, kl_BT)


def _where_they_count(tokens: Tokens) -> Tokens:
    """The tokens, with probability one where they count nowhere: at padding and the like a formula may overflow, and its
    product with a weight of 0 would not be a number."""

    def counting(logp_BT: Tensor) -> Tensor:
        return torch.where(tokens.weight_BT > 0, logp_BT, 0.0)

    return replace(
        tokens,
        logp_BT=counting(tokens.logp_BT),
        old_logp_BT=counting(tokens.old_logp_BT),
        teacher_logp_BT=counting(tokens.teacher_logp_BT),
    )
