"""Cog-DRIFT: hard problems enter in easier forms and climb to the open one."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.curricula import Ladder


class CogDrift(Method):
    """GRPO on a ladder of forms of each problem: multiple choice of 4, of 10, blanks, open. The forms are rows of the
    training file whose ids share a name, ``p7#1``, ``p7#2``, and so on, each with its own prompt and reference; there a
    language model wrote them for problems that 64 rollouts had not solved. Source: Cog-DRIFT (2604.04767), and its
    released code, github.com/dinobby/Cog-DRIFT at 39d7a84: 8 rollouts of 8 problems, clip 0.2 and 0.28, KL 0.01.

    >>> CogDrift().own_parts[0].threshold, CogDrift().kl
    (0.5, 0.01)
    """

    title: ClassVar[str] = "Cog-DRIFT"
    source: ClassVar[str] = "arXiv 2604.04767"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "easier forms of a problem come first"
    formula: ClassVar[str] = "form `k` → `k + 1` where `mean(r) > ½`; `Â = (r − mean) / std`; `S(Â)`, KL 0.01"
    departures: ClassVar[str] = (
        "the forms are the training file's, nobody rewrites problems; no format bonus in the score"
    )

    name: Literal["cog_drift"] = "cog_drift"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    clip: Clip | None = Clip(low=0.2, high=0.28)
    kl: float | None = Field(0.01, ge=0)
    separator: str = Field("#", min_length=1, description="text between a problem's name and its form in an id")
    threshold: float = Field(0.5, ge=0, lt=1, description="share of right rollouts above which a problem moves up")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Ladder.of(self),)
