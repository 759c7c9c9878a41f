"""Decoding: how the policy samples, token by token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Decoding, Status


class AnnealedDecoding(Decoding):
    """The temperature falls with the place in the response: explore first, then finish what was begun.

    ``T_t = 1`` for ``t < flat``, then ``max(1 + T_max − exp(t / (20·d)), T_min)`` with ``d = min(25 + 5·step, 40000)``; it
    multiplies the run's own temperature. What tokens were sampled with stays recorded at the run's temperature, and
    ``objective`` corrects nothing. Source: EAD, "Let it Calm".

    >>> part = AnnealedDecoding()
    >>> [round(part.temperature(t, step=1), 3) for t in (0, 9, 10, 300, 5000)]
    [1.0, 1.0, 1.183, 0.551, 0.1]
    """

    title: ClassVar[str] = "EAD"
    source: ClassVar[str] = "arXiv 2510.05251"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the temperature falls with the place in the response"
    formula: ClassVar[str] = "`T_t = max(1 + T_max − exp(t/(20·d)), T_min)`, `d = min(25 + 5·step, 40000)`"
    departures: ClassVar[str] = "no correction of log-probabilities by the same temperatures"

    kind: Literal["annealed_decoding"] = "annealed_decoding"
    flat: int = Field(10, ge=0, description="first tokens, drawn at the run's temperature")
    highest: float = Field(1.2, gt=0, description="T_max")
    lowest: float = Field(0.1, gt=0, description="T_min, the lowest temperature")

    def temperature(self, num_written: int, step: int) -> float:
        """The factor on the temperature of the token after ``num_written`` others, at an optimiser step from 1."""
        if num_written < self.flat:
            return 1.0
        pace = 20 * min(25 + 5 * step, 40_000)
        return max(1 + self.highest - math.exp(min(num_written / pace, 50.0)), self.lowest)

    def decoding(self, sampling: Sampling, tools: Toolbox) -> Sampling:
        return replace(sampling, control=_Annealed(self, tools.step))


@dataclass(frozen=True)
class _Annealed:
    part: AnnealedDecoding
    step: int

    def adjust(self, logits_BV: Any, num_written_B: Sequence[int]) -> Any:
        factors = [[self.part.temperature(num_written, self.step)] for num_written in num_written_B]
        return logits_BV / logits_BV.new_tensor(factors)
