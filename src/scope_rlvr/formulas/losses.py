"""Token losses: one pure function a formula, on tensors of shape ``(B, T)``.

Symbols: ``π`` the policy's probability of the token now, ``π_old`` when the rollout was made, ``q`` the teacher's,
``Â`` the advantage, ``sg`` stops the gradient. All log-probabilities are natural logarithms. Every function returns
a loss for each token, to be weighed and added up by :func:`aggregate`; padding is the aggregation's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from scope_rlvr.core.lazy import torch
from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tokens:
    """A batch of response tokens as the loss sees them; every tensor is ``(B, T)``.

    ``teacher_logp_BT`` holds the teacher's log-probability of its own tokens, 0 (probability one) where unknown.
    ``weight_BT`` is 0 where a token counts nowhere, ``entropy_BT`` the policy's entropy in nats before each token.
    ``extras`` are further tensors by name: streams that a method carries, and what extra terms read of the policy's logits.
    ``logp_BT`` and the latter carry gradients.
    """

    logp_BT: Tensor
    old_logp_BT: Tensor
    advantage_BT: Tensor
    is_teacher_BT: Tensor
    teacher_logp_BT: Tensor
    weight_BT: Tensor
    entropy_BT: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)


class Clip(Settings):
    """How far the ratio π/π_old may move before a token stops pulling: ``[1 − low, 1 + high]``.

    That lets a token of negative advantage push without bound as its ratio grows; ``dual`` is the ratio at which it stops.
    """

    low: float = Field(0.2, ge=0, le=1)
    high: float = Field(0.2, ge=0)
    dual: float | None = Field(
        None,
        gt=1,
        description="ratio at which a token of negative advantage stops pushing (dual clip); never, without it",
    )

    def __str__(self) -> str:
        """The bounds in a few characters.

        >>> str(Clip(high=0.28)), str(Clip(dual=10))
        ('0.2/0.28', '0.2/0.2 (dual 10)')
        """
        return f"{self.low}/{self.high}" + ("" if self.dual is None else f" (dual {self.dual:g})")


def clipped_policy_loss(
    logp_BT: Tensor, old_logp_BT: Tensor, advantage_BT: Tensor, clip: Clip, stretch_BT: Tensor | None = None
) -> Tensor:
    """The clipped surrogate of PPO: ``−min(w·Â, clip(w, 1−ε_low, 1+ε_high)·Â)`` with ``w = π/π_old``; with a dual clip c, at
    most ``−c·Â`` where ``Â < 0``. ``stretch_BT`` multiplies both bounds ε.

    Source: Schulman et al. 2017, equation 7; separate bounds as in DAPO (Yu et al. 2025); dual clip: Ye et al. 2020
    (arXiv 1912.09729).

    >>> logp, old = torch.log(torch.tensor([[0.6, 0.1]])), torch.log(torch.tensor([[0.4, 0.2]]))
    >>> clipped_policy_loss(logp, old, torch.tensor([[1.0, 1.0]]), Clip(low=0.2, high=0.2))
    tensor([[-1.2000, -0.5000]])
    >>> clipped_policy_loss(logp, torch.log(torch.tensor([[0.05, 0.2]])), torch.tensor([[-1.0, -1.0]]), Clip(dual=10))
    tensor([[10.0000,  0.8000]])
    """
    ratio_BT = torch.exp(logp_BT - old_logp_BT)
    if stretch_BT is None:
        clipped_BT = ratio_BT.clamp(1 - clip.low, 1 + clip.high)
    else:
        clipped_BT = ratio_BT.clamp(1 - clip.low * stretch_BT, 1 + clip.high * stretch_BT)
    loss_BT = -torch.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT)
    if clip.dual is None:
        return loss_BT
    return torch.where(advantage_BT < 0, torch.minimum(loss_BT, -clip.dual * advantage_BT), loss_BT)


def example_tokens(prob: float, *, teacher: float = 1.0, advantage: float = 1.0) -> Tokens:
    """One teacher token with policy probability ``prob`` now and before: for examples and tests of the terms."""
    logp_BT = torch.log(torch.tensor([[prob]]))
    return Tokens(
        logp_BT=logp_BT,
        old_logp_BT=logp_BT.clone(),
        advantage_BT=torch.tensor([[advantage]]),
        is_teacher_BT=torch.tensor([[True]]),
        teacher_logp_BT=torch.log(torch.tensor([[teacher]])),
        weight_BT=torch.ones(1, 1),
        entropy_BT=torch.zeros(1, 1),
    )


def kl_penalty(logp_BT: Tensor, ref_logp_BT: Tensor) -> Tensor:
    """Unbiased, non-negative estimate of KL(π‖π_ref) per token: ``π_ref/π − log(π_ref/π) − 1``.

    Source: Schulman 2020, "Approximating KL divergence", k3; Shao et al. 2024, equation 4.

    >>> kl_penalty(torch.log(torch.tensor([0.5])), torch.log(torch.tensor([0.25]))).round(decimals=4)
    tensor([0.1931])
    """
    log_ratio_BT = ref_logp_BT - logp_BT
    return torch.exp(log_ratio_BT) - log_ratio_BT - 1


class Shaped(Settings):
    """LUFFY's shaping: ``−Â·π/(π+γ)``; gradient weight ``γπ/(π+γ)²``, largest (¼) where π = γ.

    Tokens near π = γ are pulled most, likely ones are left alone. Teacher probability taken as 1, no clip.
    Source: LUFFY (Yan et al. 2025), policy shaping.

    >>> Shaped(gamma=0.1).loss(example_tokens(0.1), Clip())
    tensor([[-0.5000]])
    """

    kind: Literal["shaped"] = "shaped"
    gamma: float = Field(0.1, gt=0)

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        prob_BT = tokens.logp_BT.exp()
        return -tokens.advantage_BT * prob_BT / (prob_BT + self.gamma)


class Plain(Settings):
    """Importance ratio against a teacher that was sure of itself: ``−Â·π``; gradient weight π.

    >>> Plain().loss(example_tokens(0.3), Clip())
    tensor([[-0.3000]])
    """

    kind: Literal["plain"] = "plain"

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        return -tokens.advantage_BT * tokens.logp_BT.exp()


class TeacherRatio(Settings):
    """True importance ratio against the teacher, bounded above: ``−Â·min(π/q, max_ratio)``.

    Needs the teacher's own log-probabilities, hence one vocabulary; a token without one counts as q = 1.

    >>> [TeacherRatio(max_ratio=2.0).loss(example_tokens(p, teacher=q), Clip()).item() for p, q in ((0.25, 0.5), (0.9, 0.1))]
    [-0.5, -2.0]
    """

    kind: Literal["teacher_ratio"] = "teacher_ratio"
    max_ratio: float = Field(2.0, gt=0)

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        ratio_BT = torch.exp(tokens.logp_BT - tokens.teacher_logp_BT)
        return -tokens.advantage_BT * ratio_BT.clamp(max=self.max_ratio)


class Trust(Settings):
    """Trust-region imitation: ``−Â·π/max(sg π, floor)``; gradient weight ``min(1, π/floor)``.

    Inside the region (π ≥ floor) it is plain maximum likelihood, below it fades out linearly.
    Source: TRAPO, trust-region SFT.

    >>> [round(Trust(floor=0.1).loss(example_tokens(p), Clip()).item(), 4) for p in (0.05, 0.5)]
    [-0.5, -1.0]
    """

    kind: Literal["trust"] = "trust"
    floor: float = Field(0.1, gt=0)

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        prob_BT = tokens.logp_BT.exp()
        return -tokens.advantage_BT * prob_BT / prob_BT.detach().clamp(min=self.floor)


class Mixture(Settings):
    """RL-PLUS: ratio against a mixture behaviour, times a bonus for what the policy finds unlikely.

    ``−Â·(1 − sg π)^ξ · 2π/(π_old + ω)`` with ``ω = (π_old + 1)/2``, that is ``4π/(3π_old + 1)``. Source: RL-PLUS
    (Dong et al. 2025), multiple importance sampling and exploration-based advantage.

    >>> Mixture(exponent=0.5).loss(example_tokens(0.19), Clip())
    tensor([[-0.4357]])
    """

    kind: Literal["mixture"] = "mixture"
    exponent: float = Field(0.5, ge=0)

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        prob_BT = tokens.logp_BT.exp()
        novelty_BT = (1 - prob_BT.detach()).clamp(min=0) ** self.exponent
        return -tokens.advantage_BT * novelty_BT * 4 * prob_BT / (3 * tokens.old_logp_BT.exp() + 1)


class ShapedRatio(Settings):
    """Shaping of the true ratio, ``−Â·ρ/(ρ+γ)`` with ``ρ = π/q``: Guide's, with γ the ``quantile`` of ρ among the tokens of a response
    that train by it, or ExGRPO's, with a fixed ``gamma``.

    For tokens with a known probability ``q``, as when the policy wrote them to another prompt, or some steps ago. γ has no
    gradient and is at least ``floor``. Guide's released code takes the quantile over a micro-batch; over a response, it does not
    depend on how a batch is split. Source: Guide (Nath et al. 2025), Guide-GRPO; ExGRPO (Zhan et al. 2025).

    >>> ShapedRatio().loss(example_tokens(0.3, teacher=0.6), Clip())  # of one token, γ = ρ
    tensor([[-0.5000]])
    >>> ShapedRatio(gamma=0.1).loss(example_tokens(0.2, teacher=0.5), Clip())  # 0.4 / (0.4 + 0.1)
    tensor([[-0.8000]])
    """

    kind: Literal["shaped_ratio"] = "shaped_ratio"
    quantile: float = Field(0.9, ge=0, le=1)
    gamma: float | None = Field(None, gt=0, description="a fixed γ, in the place of the quantile")
    floor: float = Field(1e-4, gt=0)

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        ratio_BT = torch.exp(tokens.logp_BT - tokens.teacher_logp_BT)
        if self.gamma is not None:
            return -tokens.advantage_BT * ratio_BT / (ratio_BT + self.gamma)
        trains_BT = tokens.is_teacher_BT & (tokens.weight_BT > 0)
        known_BT = torch.where(trains_BT, ratio_BT.detach().float(), torch.nan)
        gamma_B1 = known_BT.nanquantile(self.quantile, dim=1, keepdim=True).nan_to_num(1.0).clamp(min=self.floor)
        return -tokens.advantage_BT * ratio_BT / (ratio_BT + gamma_B1)


class NegativeLogLikelihood(Settings):
    """Weighted imitation: ``−Â·log π``; gradient weight 1 whatever the policy thinks of the token.

    >>> NegativeLogLikelihood().loss(example_tokens(0.5), Clip())
    tensor([[0.6931]])
    """

    kind: Literal["nll"] = "nll"

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        return -tokens.advantage_BT * tokens.logp_BT


class Undecided(Settings):
    """Imitation of what the policy neither knows nor finds absurd: ``−Â·sg(π(1 − π))·log π``, largest weight (¼) at ``π = ½``.

    Source: CHORD (Zhang et al. 2025), the token weight φ.

    >>> Undecided().loss(example_tokens(0.5), Clip())
    tensor([[0.1733]])
    """

    kind: Literal["undecided"] = "undecided"

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        prob_BT = tokens.logp_BT.detach().exp()
        return -tokens.advantage_BT * prob_BT * (1 - prob_BT) * tokens.logp_BT


class Clipped(Settings):
    """Teacher tokens as if the policy had sampled them: the clipped surrogate against π_old.

    >>> Clipped().loss(example_tokens(0.5), Clip())
    tensor([[-1.]])
    """

    kind: Literal["clipped"] = "clipped"

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        return clipped_policy_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, clip)


class Masked(Settings):
    """Teacher tokens do not train: they only carry the policy to a place from where it succeeds.

    Their weight in the streams is zero, so that they do not count in a normaliser either.

    >>> Masked().loss(example_tokens(0.5), Clip())
    tensor([[0.]])
    """

    kind: Literal["masked"] = "masked"

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        return torch.zeros_like(tokens.logp_BT)


TeacherTerm = Annotated[
    Shaped
    | Plain
    | TeacherRatio
    | Trust
    | Mixture
    | ShapedRatio
    | NegativeLogLikelihood
    | Undecided
    | Clipped
    | Masked,
    BY_KIND,
    BARE_NAME,
]


class SamplerCorrection(StrEnum):
    """What becomes of the ratio between the trainer's and the sampler's probability, where they are two programs.

    ``TRUNCATE`` moves it to the nearer of two bounds, ``MASK`` makes it 0 outside of them. ``TOKEN``: of each token;
    ``SEQUENCE``: of all sampled tokens of a response together.
    """

    NONE = "none"
    TOKEN_TRUNCATE = "token_truncate"
    TOKEN_MASK = "token_mask"
    SEQUENCE_TRUNCATE = "sequence_truncate"
    SEQUENCE_MASK = "sequence_mask"


def sampler_weights(
    old_logp_BT: Tensor,
    sampler_logp_BT: Tensor,
    is_sampled_BT: Tensor,
    how: SamplerCorrection,
    low: float = 0.0,
    high: float = math.inf,
) -> Tensor:
    """Factors on the losses of tokens that the policy sampled in another program than the one that trains it.

    ``r = π_old/μ`` with ``μ`` the sampler's probability, or the product of these over a response, kept within ``low`` and
    ``high``. It is 1 where nobody knows ``μ``, and on every token that the policy did not sample: a teacher's are no
    draw from either. Source: Yao et al. 2025, truncated importance sampling; the rules are those of TRL.

    >>> old, sampler = torch.log(torch.tensor([[0.4, 0.3, 0.5]])), torch.log(torch.tensor([[0.1, 0.6, 0.9]]))
    >>> is_sampled = torch.tensor([[True, True, False]])
    >>> for how in SamplerCorrection:
    ...     print(how.value, sampler_weights(old, sampler, is_sampled, how, high=1.5).round(decimals=4).tolist())
    none [[1.0, 1.0, 1.0]]
    token_truncate [[1.5, 0.5, 1.0]]
    token_mask [[0.0, 0.5, 1.0]]
    sequence_truncate [[1.5, 1.5, 1.0]]
    sequence_mask [[0.0, 0.0, 1.0]]
    """
    if how is SamplerCorrection.NONE:
        return torch.ones_like(old_logp_BT)
    is_known_BT = is_sampled_BT & sampler_logp_BT.isfinite()
    log_ratio_BT = torch.where(is_known_BT, old_logp_BT - sampler_logp_BT, 0.0)
    if how in (SamplerCorrection.SEQUENCE_TRUNCATE, SamplerCorrection.SEQUENCE_MASK):
        log_ratio_BT = log_ratio_BT.sum(-1, keepdim=True).expand_as(log_ratio_BT)
    ratio_BT = log_ratio_BT.exp()
    bounded_BT = ratio_BT.clamp(low, high)
    if how in (SamplerCorrection.TOKEN_MASK, SamplerCorrection.SEQUENCE_MASK):
        bounded_BT = torch.where(bounded_BT == ratio_BT, ratio_BT, 0.0)
    return torch.where(is_known_BT, bounded_BT, 1.0)


class Aggregation(StrEnum):
    """How token losses become one number.

    ``MAX_LENGTH``: sum over tokens / longest allowed response, mean over rollouts (Dr. GRPO). ``TOKEN_MEAN``: mean over
    all tokens (DAPO). ``SEQUENCE_MEAN``: mean over a rollout's tokens, then over rollouts (GRPO).
    """

    MAX_LENGTH = "max_length"
    TOKEN_MEAN = "token_mean"
    SEQUENCE_MEAN = "sequence_mean"


def aggregate(
    loss_BT: Tensor, weight_BT: Tensor, how: Aggregation, *, num_rows: Tensor, num_tokens: Tensor, max_length: int
) -> Tensor:
    """Add token losses up and divide by the normaliser of the whole batch.

    ``num_rows`` (rollouts with any weight) and ``num_tokens`` (sum of the weights) are those of the *whole* batch of
    one optimiser step, of which ``loss_BT`` may be a part: the parts then add up to the same number however the
    batch is split. A row without weight (an empty slot, an unknown verdict) changes nothing.

    >>> loss, weight = torch.tensor([[1.0, 3.0], [5.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    >>> count = dict(num_rows=torch.tensor(2.0), num_tokens=torch.tensor(3.0), max_length=10)
    >>> [aggregate(loss, weight, how, **count).item() for how in Aggregation]
    [0.44999998807907104, 3.0, 3.5]
    """
    weighted_BT = loss_BT * weight_BT
    if how is Aggregation.TOKEN_MEAN:
        return weighted_BT.sum() / _one_if_zero(num_tokens)
    if how is Aggregation.SEQUENCE_MEAN:
        return (weighted_BT.sum(-1) / _one_if_zero(weight_BT.sum(-1))).sum() / _one_if_zero(num_rows)
    return weighted_BT.sum() / (_one_if_zero(num_rows) * max_length)


def _one_if_zero(count: Tensor) -> Tensor:
    """A divisor: where nothing is counted, the sum is zero already. A count below one is a share and stays."""
    return torch.where(count > 0, count, torch.ones_like(count))
