"""Token weights: how much each token counts in the loss and in its normaliser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.formulas.readings import Entropy
from scope_rlvr.methods.parts.base import Rewards, Status, TokenWeight
from scope_rlvr.methods.reading import Reading


class ForkingTokens(TokenWeight):
    """Only the tokens at which the policy is least certain train.

    ``w_t ← w_t · 1[H_t ≥ q]`` with ``q`` the ``1 − share`` quantile of the entropies of all tokens of the batch that count;
    the mean of the loss then runs over the tokens that are left. Source: Wang et al. 2025, "Beyond the 80/20 Rule".

    >>> quantile([0.1, 0.2, 0.3, 0.4, 0.9], 0.8)
    0.9
    """

    title: ClassVar[str] = "80/20 forking tokens"
    source: ClassVar[str] = "arXiv 2506.01939"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "only the fifth of tokens with the highest entropy trains"
    formula: ClassVar[str] = "`w_t · 1[H_t ≥ q₈₀]`, `q₈₀` over the tokens of the batch"
    departures: ClassVar[str] = "none; its base is DAPO, here whatever method it is added to"

    kind: Literal["forking_tokens"] = "forking_tokens"
    share: float = Field(
        0.2, gt=0, le=1, description="share of the batch's tokens that train, those of highest entropy"
    )

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("entropy", Entropy()),)

    def weigh(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        pairs = [
            (member.extras.get("entropy", ()), streams)
            for group, streams_G in zip(groups, streams_PG, strict=True)
            for member, streams in zip(group.members, streams_G, strict=True)
        ]
        counted = [h for entropy_T, s in pairs for h, w in zip(entropy_T, s.weight_T, strict=True) if w > 0]
        least = quantile(counted, 1 - self.share) if counted else 0.0
        kept = iter(
            replace(s, weight_T=tuple(w * (h >= least) for h, w in zip(entropy_T, s.weight_T, strict=True)))
            for entropy_T, s in pairs
        )
        return [tuple(next(kept) for _ in streams_G) for streams_G in streams_PG]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that lies at or above their quantile, the linear one of ``torch.quantile``.

    >>> quantile([0.7], 0.8), quantile([0.3, 0.3, 0.3], 0.5), quantile([0.1, 0.2, 0.3], 0.0)
    (0.7, 0.3, 0.1)
    """
    return sorted(values)[math.ceil(share * (len(values) - 1) - 1e-9)]
