"""Advantage transforms: advantages reshaped, token by token or rollout by rollout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.methods.parts.base import Advantage, Status
from scope_rlvr.methods.reading import ReadBy, Reading


class ConfidencePenalty(Advantage):
    """Overconfident errors are pushed away harder.

    ``Â_t ← Â_t · (1 + α · softplus(c))`` where ``Â_t < 0``, ``c = mean_t log(π/π_ref)`` over the response: how much more
    likely training has made it. Right rollouts keep their advantage. Source: ACE (2602.21420), read in a note.

    The paper's α and whether ``c`` is a sum or a mean are not known to us; a sum would grow with length, so that the mean is
    taken here, and α is 1.

    >>> round(-0.5 * (1 + softplus(0.0)), 4)
    -0.8466
    """

    title: ClassVar[str] = "ACE"
    source: ClassVar[str] = "arXiv 2602.21420"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "negative advantages grow with how much likelier the error has become"
    formula: ClassVar[str] = "`Â<0: Â·(1 + α·softplus(mean log π/π_ref))`"
    departures: ClassVar[str] = "α and the length normalisation are argued here"

    kind: Literal["confidence_penalty"] = "confidence_penalty"
    alpha: float = Field(1.0, ge=0, description="strength; 0 changes nothing")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading("policy_logprob"), Reading("reference_logprob", by=ReadBy.REFERENCE)

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        now, before = member.extras.get("policy_logprob", ()), member.extras.get("reference_logprob", ())
        gain = (math.fsum(now) - math.fsum(before)) / max(1, len(now))
        factor = 1 + self.alpha * softplus(gain)
        return [a * factor if a < 0 else a for a in streams.advantage_T]


def softplus(x: float) -> float:
    """``log(1 + exp x)``, for any size of ``x``.

    >>> round(softplus(0.0), 4), softplus(1000.0)
    (0.6931, 1000.0)
    """
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
