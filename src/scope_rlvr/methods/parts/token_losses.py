"""Losses that treat some tokens otherwise than the clipped surrogate does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.losses import Clip, Tokens, clipped_policy_loss, kl_penalty
from scope_rlvr.formulas.readings import MinPLogProb
from scope_rlvr.methods.parts.base import Loss, Rewards, Status
from scope_rlvr.methods.reading import Reading
from scope_rlvr.methods.streams import over_members

if TYPE_CHECKING:
    from torch import Tensor


class RareTokens(Loss):
    """Rare tokens of failures that the policy still found plausible are not pushed away, but held to a filtered policy.

    Among the tokens with ``Â_t < 0`` the ``share`` with the lowest log-probability, at least one, is taken; those that are likelier to the
    policy without its tokens below ``min_p`` times the largest probability get ``−ρ·Â + penalty·KL``, without a clip, where
    ``KL = π_f/π − log(π_f/π) − 1`` and π_f is that filtered policy, as it was when it sampled. A token that the filter drops is
    treated as any other. Source: Lp-Reg (2510.03222), and its released code, github.com/CarlanLark/Lp-Reg-dev at 33b27e2:
    ``verl/trainer/ppo/core_algos.py``, ``compute_policy_loss_lp_reg``, where the tokens are those of a micro-batch under the policy
    of the update.

    >>> spared(policy=[-4.0, -1.0, -3.0], filtered=[-3.5, -0.9, -1e4], advantage=[-1.0, -1.0, -1.0], share=0.7)
    [True, False, False]
    """

    title: ClassVar[str] = "Lp-Reg"
    source: ClassVar[str] = "arXiv 2510.03222"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rare but plausible tokens of failures are held, not pushed away"
    formula: ClassVar[str] = (
        "`−ρ·Â + KL(π_f, π)` on the rarest 1 % of tokens with `Â < 0` that the filter keeps; `S(Â)` elsewhere"
    )
    departures: ClassVar[str] = "the tokens are chosen under the policy that sampled, over the whole batch"
    carries = ("filtered_logprob",)

    kind: Literal["rare_tokens"] = "rare_tokens"
    share: float = Field(0.01, ge=0, le=1, description="share of the tokens of negative advantage, the rarest ones")
    min_p: float = Field(
        0.02, ge=0, le=1, description="least probability that the filter keeps, as a share of the largest"
    )
    penalty: float = Field(1.0, ge=0, description="factor on the divergence from the filtered policy")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading("policy_logprob"), Reading("filtered_logprob", MinPLogProb(min_p=self.min_p))

    def mark(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        tokens = [
            (policy, filtered, advantage if weight > 0 else 0.0)
            for read_G in over_members(groups, streams_PG, lambda _, m, s: _read(m, s))
            for read_T in read_G
            for policy, filtered, advantage, weight in read_T
        ]
        policy, filtered, advantage = ([token[column] for token in tokens] for column in range(3))
        found = iter(spared(policy, filtered, advantage, self.share))
        return [
            tuple(
                replace(s, extras={**s.extras, "spared": tuple(float(next(found)) for _ in s.weight_T)})
                for s in streams_G
            )
            for streams_G in streams_PG
        ]

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        usual_BT = clipped_policy_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, clip)
        if "spared" not in tokens.extras:
            return usual_BT
        spared_BT = tokens.extras["spared"] > 0
        target_BT = torch.where(spared_BT, tokens.extras["filtered_logprob"], tokens.logp_BT.detach())
        ratio_BT = torch.exp(tokens.logp_BT - tokens.old_logp_BT)
        held_BT = -ratio_BT * tokens.advantage_BT + self.penalty * kl_penalty(tokens.logp_BT, target_BT)
        return torch.where(spared_BT, held_BT, usual_BT)


def _read(member: Member, streams: Streams) -> list[tuple[float, float, float, float]]:
    """Log-probability, the filtered one, advantage and weight of each token; of a rollout that was not read, nothing counts."""
    num_tokens = len(streams.weight_T)
    policy_T = member.extras.get("policy_logprob", (0.0,) * num_tokens)
    filtered_T = member.extras.get("filtered_logprob", (MinPLogProb.FILTERED,) * num_tokens)
    return list(zip(policy_T, filtered_T, streams.advantage_T, streams.weight_T, strict=True))


def spared(policy: Sequence[float], filtered: Sequence[float], advantage: Sequence[float], share: float) -> list[bool]:
    """Which tokens are held: of the rarest ones with a negative advantage, those that are likelier to the filtered policy."""
    negative = sorted((i for i, a in enumerate(advantage) if a < 0), key=lambda i: policy[i])
    rarest = set(negative[: max(1, int(share * len(negative)))])
    return [i in rarest and policy[i] < filtered[i] for i in range(len(policy))]


class ElasticClip(Loss):
    """The clip is wider for large advantages, and for problems that the policy solves half of the time.

    Both bounds ε are multiplied by ``1 + by_advantage·tanh|Â| + by_variance·4q(1 − q)``: q is the share of right rollouts in the group. Source: ETR
    (2601.03723), abstract: that the bounds grow with the advantage and with the variance of the group; the form and both numbers
    are argued here.

    >>> logp, old = torch.log(torch.tensor([[0.9]])), torch.log(torch.tensor([[0.5]]))  # a ratio of 1.8
    >>> clipped_policy_loss(logp, old, torch.tensor([[1.0]]), Clip(), stretch_BT=torch.tensor([[1.5]]))  # up to 1.3
    tensor([[-1.3000]])
    """

    title: ClassVar[str] = "ETR clip"
    source: ClassVar[str] = "arXiv 2601.03723"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "the clip is wider for large advantages and half-solved problems"
    formula: ClassVar[str] = "`S(Â)` with `ε·(1 + ½·tanh|Â| + ½·4q(1 − q))`"
    departures: ClassVar[str] = "the form and both numbers are argued here"
    carries = ("pass_rate",)

    kind: Literal["elastic_clip"] = "elastic_clip"
    by_advantage: float = Field(
        0.5, ge=0, description="how much wider the clip is for a large advantage; 0 with the next is GRPO"
    )
    by_variance: float = Field(0.5, ge=0, description="how much wider the clip is where half of the rollouts are right")

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [
            replace(group, members=tuple(member.having(pass_rate=pass_rate(group)) for member in group.members))
            for group in groups
        ]

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        rate_BT = tokens.extras.get("pass_rate", torch.zeros_like(tokens.logp_BT))
        size_BT, spread_BT = tokens.advantage_BT.abs().tanh(), 4 * rate_BT * (1 - rate_BT)
        stretch_BT = 1 + self.by_advantage * size_BT + self.by_variance * spread_BT
        return clipped_policy_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, clip, stretch_BT)


def pass_rate(group: Group) -> float:
    """The share of right rollouts among those with a known verdict; 0 without one."""
    known = [member for member in group.members if member.verdict.is_known]
    return sum(member.verdict.is_right for member in known) / max(1, len(known))


class RescaledClip(Loss):
    """The clipped surrogate, in which a token of positive advantage keeps its gradient above the upper bound.

    ``−(1 + ε_high)·ρ/sg(ρ)·Â`` where ``Â > 0`` and ``ρ > 1 + ε_high``: the value is the clipped one, the gradient that of a token at the bound.
    Elsewhere it is ``S(Â)``. Source: AEPO (2510.14545), the stop-gradient in its clip, read in reviews.

    >>> logp = torch.log(torch.tensor([[0.9]])).requires_grad_()
    >>> loss = rescaled_loss(logp, torch.log(torch.tensor([[0.5]])), torch.tensor([[2.0]]), Clip())  # a ratio of 1.8
    >>> loss.sum().backward()
    >>> loss.detach(), logp.grad
    (tensor([[-2.4000]]), tensor([[-2.4000]]))
    """

    title: ClassVar[str] = "AEPO clip"
    source: ClassVar[str] = "arXiv 2510.14545"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "what the upper clip bounds keeps a gradient"
    formula: ClassVar[str] = "`−(1 + ε)·ρ/sg(ρ)·Â` above the upper bound where `Â > 0`; `S(Â)` elsewhere"
    departures: ClassVar[str] = "for all tokens, not those of high entropy alone; no rollouts with tools"

    kind: Literal["rescaled_clip"] = "rescaled_clip"

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        return rescaled_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, clip)


def rescaled_loss(logp_BT: Tensor, old_logp_BT: Tensor, advantage_BT: Tensor, clip: Clip) -> Tensor:
    """The clipped surrogate with a gradient above its upper bound."""
    ratio_BT, bound = torch.exp(logp_BT - old_logp_BT), 1 + clip.high
    above_BT = (advantage_BT > 0) & (ratio_BT > bound)
    kept_BT = -bound * torch.exp(logp_BT - logp_BT.detach()) * advantage_BT
    return torch.where(above_BT, kept_BT, clipped_policy_loss(logp_BT, old_logp_BT, advantage_BT, clip))
