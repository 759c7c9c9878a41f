"""Advantage transforms by the entropy of the policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.formulas.readings import Entropy
from scope_rlvr.methods.parts.base import Advantage, Rewards, Status
from scope_rlvr.methods.reading import Reading
from scope_rlvr.methods.streams import counted, over_members, scaled


class EntropyChange(Advantage):
    """Tokens whose update would change the entropy most count a little less.

    ``Â_t ← Â_t · exp(−k·|Ω_t|)`` with ``Ω_t = (Â_t/π_old)·π(1 − π)·(log π + H)``, to first order what the token's update does to the
    entropy, and ``k`` such that the largest ``|Ω|`` of the batch gets the factor ``least``. A largest one below ``floor`` is taken for ``floor``.
    A factor on the advantage is a factor on the clipped loss. π is the policy that sampled, so that π/π_old is 1 here. Source:
    STEER (2510.10150), and its released code, github.com/zz-haooo/STEER at b31df71: ``verl/trainer/ppo/core_algos.py`` 580-690,
    the exponential form of ``run/run_exp.sh``; there the largest is that of a micro-batch, under the policy of the update.

    >>> change = entropy_change(advantage=1.0, logprob=math.log(0.5), entropy=1.0)  # ½ · (log ½ + 1)
    >>> round(change, 4), round(EntropyChange().factor(change, largest=2 * change), 4)  # √0.8
    (0.1534, 0.8944)
    """

    title: ClassVar[str] = "STEER weights"
    source: ClassVar[str] = "arXiv 2510.10150"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "tokens that would change the entropy most count less"
    formula: ClassVar[str] = "`Â·exp(−k·|Â(1 − π)(log π + H)|)`, at least 0.8·Â"
    departures: ClassVar[str] = "the exponential form alone; weights of the policy that sampled, over the whole batch"

    kind: Literal["entropy_change"] = "entropy_change"
    least: float = Field(0.8, gt=0, le=1, description="factor on the token of the largest change")
    floor: float = Field(0.02, gt=0, description="what the largest change of a batch is taken to be at least")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading("policy_logprob"), Reading("entropy", Entropy())

    def factor(self, change: float, largest: float) -> float:
        """What an advantage is multiplied by, between ``least`` and 1."""
        return float(max(self.least, self.least ** (change / max(largest, self.floor))))

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        change_PGT = over_members(groups, streams_PG, lambda _, member, streams: _changes(member, streams))
        largest = max(counted(change_PGT, streams_PG), default=0.0)
        return [
            tuple(
                scaled(streams, [self.factor(change, largest) for change in change_T])
                for streams, change_T in zip(streams_G, change_GT, strict=True)
            )
            for streams_G, change_GT in zip(streams_PG, change_PGT, strict=True)
        ]


def entropy_change(advantage: float, logprob: float, entropy: float) -> float:
    """``|Ω|`` of a token, with π/π_old of 1."""
    return abs(advantage * -math.expm1(min(logprob, 0.0)) * (logprob + entropy))


def _changes(member: Member, streams: Streams) -> list[float]:
    read = member.extras.get("policy_logprob", ()), member.extras.get("entropy", ())
    return [entropy_change(*token) for token in zip(streams.advantage_T, *read, strict=False)]


class EntropyScale(Advantage):
    """Uncertain tokens are pulled and pushed more: ``Â_t ← Â_t · max(0, 1 + strength·z(H_t))``.

    ``z`` is over all tokens of the batch that count. The factor never turns an advantage round. Source: AEPO (2510.14545), the
    entropy-aware advantage, read in reviews; its strength is argued here.

    >>> [round(factor, 4) for factor in entropy_factors([0.0, 1.0, 2.0], mean=1.0, deviation=0.5, strength=0.3)]
    [0.4, 1.0, 1.6]
    """

    title: ClassVar[str] = "AEPO advantage"
    source: ClassVar[str] = "arXiv 2510.14545"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "tokens of high entropy are pulled and pushed more"
    formula: ClassVar[str] = "`Â_t·max(0, 1 + 0.3·z(H_t))`, z over the tokens of the batch"
    departures: ClassVar[str] = "its strength is argued here; no rollouts with tools"

    kind: Literal["entropy_scale"] = "entropy_scale"
    strength: float = Field(
        0.3, ge=0, description="change of the factor for one deviation of entropy; 0 changes nothing"
    )

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("entropy", Entropy()),)

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        entropy_PGT = over_members(groups, streams_PG, lambda _, member, __: member.extras.get("entropy", ()))
        found = counted(entropy_PGT, streams_PG)
        mean, deviation = (fmean(found), pstdev(found)) if found else (0.0, 0.0)
        return [
            tuple(
                scaled(streams, entropy_factors(entropy_T, mean, deviation, self.strength))
                for streams, entropy_T in zip(streams_G, entropy_GT, strict=True)
            )
            for streams_G, entropy_GT in zip(streams_PG, entropy_PGT, strict=True)
        ]


def entropy_factors(entropy_T: Sequence[float], mean: float, deviation: float, strength: float) -> list[float]:
    """What each advantage is multiplied by; 1 where all entropies are the same."""
    if deviation <= 0:
        return [1.0] * len(entropy_T)
    return [max(0.0, 1 + strength * (entropy - mean) / deviation) for entropy in entropy_T]
