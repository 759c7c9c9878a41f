"""A second pass under a reference model: tokens that have drifted far from it are worth less."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.methods.parts.base import Advantage
from scope_rlvr.methods.reading import ReadBy, Reading


class DriftPenalty(Advantage):
    """``Â_t ← Â_t − strength · log(π/π_ref)`` on every token that counts; 0 is no change.

    ``π_ref`` is the policy as it was before training, or what ``model.reference`` names.
    """

    strength: float = Field(0.05, ge=0)

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading("now"), Reading("before", by=ReadBy.REFERENCE)

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        now, before = member.extras["now"], member.extras["before"]
        return [
            a - self.strength * (n - b) if w else a
            for a, w, n, b in zip(streams.advantage_T, streams.weight_T, now, before, strict=True)
        ]
