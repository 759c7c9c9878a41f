"""A token weight from entropy: tokens at which the policy was less certain count more."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.formulas.readings import Entropy
from scope_rlvr.methods.parts.base import TokenWeight
from scope_rlvr.methods.reading import Reading


class EntropyWeight(TokenWeight):
    """``w_t ← w_t · (1 + strength · H_t)`` with ``H_t`` the policy's entropy in nats before token t; 0 is no change."""

    strength: float = Field(1.0, ge=0)

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("entropy", Entropy()),)

    def weights(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        return [w * (1 + self.strength * h) for w, h in zip(streams.weight_T, member.extras["entropy"], strict=True)]
