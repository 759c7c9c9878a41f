"""Imitation that says how sure to be, and what becomes of the tokens that were not written."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.losses import Tokens
from scope_rlvr.formulas.readings import LogitReducer
from scope_rlvr.methods.parts.base import Status, Term

if TYPE_CHECKING:
    from torch import Tensor


class RivalMass(LogitReducer):
    """The probability of the ``k`` likeliest tokens besides the one that was written.

    >>> import torch
    >>> RivalMass(k=1)(torch.log(torch.tensor([[0.5, 0.3, 0.2]])), torch.tensor([0])).round(decimals=4)
    tensor([0.3000])
    """

    title = "rival_mass"
    k: int = Field(100, ge=1)

    def __call__(self, logits_NV: Tensor, ids_N: Tensor) -> Tensor:
        prob_NV = logits_NV.softmax(-1).scatter(-1, ids_N[:, None], 0.0)
        return prob_NV.topk(min(self.k, prob_NV.size(-1)), dim=-1).values.sum(-1)


class RankedNegatives(Term):
    """Tokens that were not written are told apart by rank: the likeliest ones may be kept alive, the tail is pushed down.

    ``−head·P_k − tail·(1 − π − P_k)``: π is the probability of the token that was written, ``P_k`` that of the k likeliest others. A
    negative ``tail`` is a penalty on the rest of the vocabulary. Source: Wu et al. 2025, "Diversity or Precision?" (2512.22955),
    abstract: that negatives of high and of low rank have rewards of their own; the numbers are argued here.

    >>> import torch
    >>> from scope_rlvr.formulas.losses import example_tokens
    >>> from dataclasses import replace
    >>> tokens = replace(example_tokens(0.5), extras={"rival_mass": torch.tensor([[0.3]])})
    >>> RankedNegatives(head=0.1, tail=-0.5).loss(tokens).round(decimals=4)  # −0.03 + 0.5 · 0.2
    tensor([[0.0700]])
    """

    title: ClassVar[str] = "Ranked negatives"
    source: ClassVar[str] = "arXiv 2512.22955"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "likely and unlikely tokens besides the one that was written have rewards of their own"
    formula: ClassVar[str] = "`+ λ·mean(0.1·(1 − π − P_k))`, `P_k` the probability of the 100 likeliest others"
    departures: ClassVar[str] = "the numbers are argued here; on responses, not in pre-training"

    kind: Literal["ranked_negatives"] = "ranked_negatives"
    k: int = Field(100, ge=1, description="tokens besides the one that was written that count as likely")
    head: float = Field(0.0, description="reward of the probability of those")
    tail: float = Field(-0.1, description="reward of the probability of all others; a negative one pushes it down")

    @property
    def reducers(self) -> tuple[LogitReducer, ...]:
        return (RivalMass(k=self.k),)

    def loss(self, tokens: Tokens) -> Tensor:
        head_BT = tokens.extras["rival_mass"]
        tail_BT = 1 - tokens.logp_BT.exp() - head_BT
        return -self.head * head_BT - self.tail * tail_BT


def scaled_likelihood(logp_BT: Tensor, exponent: float, floor: float = 0.01) -> Tensor:
    """``−sg(1 − π)^exponent · log π``, with 1 − π taken for ``floor`` at least; ``exponent`` 0 is maximum likelihood.

    A negative exponent goes on pulling where the policy is sure already, a positive one lets go.

    >>> import torch
    >>> logp = torch.log(torch.tensor([[0.84]]))
    >>> [round(scaled_likelihood(logp, exponent).item(), 4) for exponent in (0.0, 0.5, -0.5)]  # √0.16 = 0.4
    [0.1744, 0.0697, 0.4359]
    """
    return -((1 - logp_BT.detach().exp()).clamp(min=floor) ** exponent) * logp_BT
