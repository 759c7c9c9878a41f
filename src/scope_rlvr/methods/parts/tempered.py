"""Right rollouts weighed as if they had been drawn at another temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.formulas.readings import TemperedLogProb
from scope_rlvr.methods.parts.base import Advantage, Rewards, Status
from scope_rlvr.methods.reading import Reading
from scope_rlvr.methods.streams import counted, over_members


class TemperedMix(Advantage):
    """Right rollouts are imitated as if they had been drawn at another temperature, which steers the entropy to a target.

    ``Â_t ← (1 − α)·Â_t + α·1[right]·π_T(y_t)/π(y_t)``: π_T is the policy at ``hot`` times the temperature where the entropy is at most
    ``target``, at ``cold`` times where it is above; ``α = a/(1 + a)``, ``a = min(|target − entropy|, 0.1) / share of right rollouts``, 0
    without a right one. The entropy is the mean ``−log π`` of the batch's tokens. Source: DCPO (2601.12730), and its released
    code, github.com/597358816/DCPO at 33f8073: ``verl/trainer/ray_trainer.py`` 812-834. There it is the entropy of the step
    before, and a batch without a right rollout divides by zero.

    >>> part = TemperedMix(target=0.5)
    >>> round(part.mixed(entropy=0.45, right_share=0.5), 4), part.mixed(entropy=0.45, right_share=0.0)  # a = 0.05 / ½
    (0.0909, 0.0)
    """

    title: ClassVar[str] = "DCPO mix"
    source: ClassVar[str] = "arXiv 2601.12730"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "right rollouts are weighed as if drawn at another temperature"
    formula: ClassVar[str] = "`(1 − α)·Â + α·1[right]·π_T/π`, T 1.2 or 0.8 by the entropy"
    departures: ClassVar[str] = "the entropy is that of this batch, not of the step before"

    kind: Literal["tempered_mix"] = "tempered_mix"
    target: float = Field(0.5, ge=0, description="entropy in nats that the policy is steered to")
    hot: float = Field(1.2, gt=0, description="factor on the temperature where the entropy is at most the target")
    cold: float = Field(0.8, gt=0, description="factor on the temperature where the entropy is above the target")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (
            Reading("policy_logprob"),
            Reading("hot_logprob", TemperedLogProb(temperature=self.hot)),
            Reading("cold_logprob", TemperedLogProb(temperature=self.cold)),
        )

    def mixed(self, entropy: float, right_share: float) -> float:
        """The share α of the second part."""
        raw = min(abs(self.target - entropy), 0.1) / right_share if right_share else 0.0
        return raw / (1 + raw)

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        found = counted(
            over_members(groups, streams_PG, lambda _, member, __: member.extras.get("policy_logprob", ())), streams_PG
        )
        known = [
            m
            for g, rewards_G in zip(groups, rewards_PG, strict=True)
            for m, r in zip(g.members, rewards_G, strict=True)
            if r is not None
        ]
        if not found or not known:
            return [tuple(streams_G) for streams_G in streams_PG]
        entropy = -fmean(found)
        share = self.mixed(entropy, sum(m.verdict.is_right for m in known) / len(known))
        name = "hot_logprob" if entropy <= self.target else "cold_logprob"
        return [
            tuple(
                _tempered(member, streams, share, member.extras.get(name, ()))
                for member, streams in zip(group.members, streams_G, strict=True)
            )
            for group, streams_G in zip(groups, streams_PG, strict=True)
        ]


def _tempered(member: Member, streams: Streams, share: float, tempered_T: Sequence[float]) -> Streams:
    if not tempered_T:
        return streams
    drawn_T = member.extras["policy_logprob"]
    advantage_T = tuple(
        ((1 - share) * a + share * member.verdict.is_right * math.exp(tempered - drawn)) if w > 0 else a
        for a, tempered, drawn, w in zip(streams.advantage_T, tempered_T, drawn_T, streams.weight_T, strict=True)
    )
    return replace(streams, advantage_T=advantage_T)
