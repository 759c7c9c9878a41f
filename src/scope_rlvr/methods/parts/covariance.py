"""Tokens whose advantage and log-probability go together drive the entropy down: they are masked, or held back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods.parts.base import Advantage, Loss, Rewards, Status
from scope_rlvr.methods.reading import Reading
from scope_rlvr.methods.streams import over_members

if TYPE_CHECKING:
    from torch import Tensor

Covariances = dict[tuple[int, int, int], float]
"""The covariance of each token that counts, by problem, rollout and token."""


def covariances(groups: Sequence[Group], streams_PG: Sequence[Sequence[Streams]]) -> Covariances:
    """``(Â_t − mean Â)·(log π_t − mean log π)`` of every token that counts, with means over all of them."""
    read_PGT = over_members(groups, streams_PG, lambda _, member, __: member.extras.get("policy_logprob", ()))
    pairs = {
        (p, g, t): (advantage, logprob)
        for p, (streams_G, read_GT) in enumerate(zip(streams_PG, read_PGT, strict=True))
        for g, (s, read_T) in enumerate(zip(streams_G, read_GT, strict=True))
        for t, (advantage, logprob, w) in enumerate(zip(s.advantage_T, read_T, s.weight_T, strict=False))
        if w > 0
    }
    if not pairs:
        return {}
    mean_advantage, mean_logprob = map(fmean, zip(*pairs.values(), strict=True))
    return {place: (a - mean_advantage) * (logp - mean_logprob) for place, (a, logp) in pairs.items()}


class CovarianceMask(Advantage):
    """A few tokens of high covariance between advantage and log-probability have no gradient.

    Of the tokens with ``low < cov_t < high``, ``cov_t = (Â_t − mean Â)(log π_t − mean log π)`` over the batch, ``share`` of all tokens,
    at least one, are drawn at random, and their advantage is set to 0; they still count in the mean. Source: Cui et al. 2025, "The
    Entropy Mechanism" (2505.22617), Clip-Cov, and its released code as in github.com/CarlanLark/Lp-Reg-dev at 33b27e2:
    ``verl/trainer/ppo/core_algos.py``. There the covariance is that of a micro-batch under the policy of the update.

    >>> CovarianceMask(share=0.5).drawn({(0, 0, 0): 2.0, (0, 0, 1): -2.0, (0, 1, 0): 7.0}, seed=1)  # 1 < cov < 5
    {(0, 0, 0)}
    """

    title: ClassVar[str] = "Clip-Cov mask"
    source: ClassVar[str] = "arXiv 2505.22617"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a few tokens that drive the entropy down have no gradient"
    formula: ClassVar[str] = "`Â_t = 0` on 0.02 % of the tokens, of those with `1 < cov_t < 5`"
    departures: ClassVar[str] = "the covariance is that of the policy that sampled, over the whole batch"

    kind: Literal["covariance_mask"] = "covariance_mask"
    share: float = Field(
        2e-4, ge=0, le=1, description="share of the batch's tokens that are masked, at least one token"
    )
    low: float = Field(1.0, description="covariance from which on a token may be masked")
    high: float = Field(5.0, description="covariance up to which a token may be masked")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("policy_logprob"),)

    def drawn(self, covariance_of: Covariances, seed: int) -> set[tuple[int, int, int]]:
        """The tokens that are masked."""
        eligible = [place for place, cov in covariance_of.items() if self.low < cov < self.high]
        most = max(1, int(self.share * len(covariance_of)))
        return set(random.Random(seed).sample(eligible, min(most, len(eligible))))

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        seed = derive_seed(tools.seed, self.kind)
        return [replace(g, members=tuple(m.having(covariance_seed=seed) for m in g.members)) for g in groups]

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        seeds = [member.extras["covariance_seed"] for group in groups for member in group.members]
        masked = self.drawn(covariances(groups, streams_PG), seeds[0]) if seeds else set()
        return [
            tuple(
                replace(s, advantage_T=tuple(0.0 if (p, g, t) in masked else a for t, a in enumerate(s.advantage_T)))
                for g, s in enumerate(streams_G)
            )
            for p, streams_G in enumerate(streams_PG)
        ]


class CovariancePenalty(Loss):
    """The tokens of the highest covariance between advantage and log-probability may not move far.

    ``−ρ·Â`` without a clip on all tokens, and ``+ penalty·|log π − log π_old|`` on the ``share`` of the batch's tokens, at least one, whose
    ``cov_t = (Â_t − mean Â)(log π_t − mean log π)`` is highest. The penalty is 0 until the policy has moved: it makes a
    difference with several updates of a batch. Source: Cui et al. 2025, "The Entropy Mechanism" (2505.22617), KL-Cov, and its released
    code as in github.com/CarlanLark/Lp-Reg-dev at 33b27e2: ``verl/trainer/ppo/core_algos.py``. There the covariance is that of
    a micro-batch under the policy of the update.

    >>> logp, old = torch.log(torch.tensor([[0.6, 0.6]])), torch.log(torch.tensor([[0.5, 0.5]]))
    >>> held_back(logp, old, torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]]), penalty=1.0)  # log 1.2 = 0.1823
    tensor([[-1.2000, -1.0177]])
    """

    title: ClassVar[str] = "KL-Cov penalty"
    source: ClassVar[str] = "arXiv 2505.22617"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a few tokens that drive the entropy down may not move far"
    formula: ClassVar[str] = "`−ρ·Â`, and `+ |log ρ|` on the 0.02 % of tokens of highest covariance"
    departures: ClassVar[str] = "the covariance is that of the policy that sampled, over the whole batch"
    learns_without_advantage = True

    kind: Literal["covariance_penalty"] = "covariance_penalty"
    share: float = Field(
        2e-4, ge=0, le=1, description="share of the batch's tokens that are held back, at least one token"
    )
    penalty: float = Field(1.0, ge=0, description="factor on how far a token's log-probability has moved")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("policy_logprob"),)

    def mark(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        found = covariances(groups, streams_PG)
        most = max(1, int(self.share * len(found)))
        highest = set(sorted(found, key=lambda place: found[place], reverse=True)[:most])
        return [
            tuple(
                replace(
                    s,
                    extras={
                        **s.extras,
                        "held_back": tuple(float((p, g, t) in highest) for t in range(len(s.weight_T))),
                    },
                )
                for g, s in enumerate(streams_G)
            )
            for p, streams_G in enumerate(streams_PG)
        ]

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        marked_BT = tokens.extras.get("held_back", torch.zeros_like(tokens.logp_BT))
        return held_back(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, marked_BT, self.penalty)


def held_back(logp_BT: Tensor, old_logp_BT: Tensor, advantage_BT: Tensor, marked_BT: Tensor, penalty: float) -> Tensor:
    """``−ρ·Â + penalty·marked·|log ρ|``."""
    log_ratio_BT = logp_BT - old_logp_BT
    return -log_ratio_BT.exp() * advantage_BT + penalty * marked_BT * log_ratio_BT.abs()
