"""VERL: exploration measured in hidden states, by the directions that a response uses."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.hidden import HiddenRankBonus


class HiddenRank(Method):
    """GRPO with a bonus on the effective rank of a response's hidden states and on its growth. Source: VERL, "Beyond
    the Exploration-Exploitation Trade-off"; see ``hidden_rank_bonus`` for the released code.

    >>> HiddenRank().own_parts[0].kappa
    2.0
    """

    title: ClassVar[str] = "VERL"
    source: ClassVar[str] = "arXiv 2509.23808"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "responses whose hidden states use more directions gain"
    formula: ClassVar[str] = (
        "`Â = (r − mean) / std`, `Â + min(relu(b·tanh d(ER) + (1−b)·tanh d(ERV)), |Â|/2)`, `b = σ(2·d(ERA))`; `S(Â)`"
    )
    departures: ClassVar[str] = "the last layer; all tokens get the bonus; no scaling by performance"

    name: Literal["hidden_rank"] = "hidden_rank"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    kappa: float = Field(2.0, gt=0, description="the bonus is at most `1/kappa` of the advantage's size")
    gain: float = Field(2.0, ge=0, description="how sharply the change of growth decides between rank and growth")
    momentum: float = Field(0.3, gt=0, le=1, description="share of the newest step in the moving average")
    stride: int = Field(40, ge=1, description="tokens from one measurement of the growth to the next")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (HiddenRankBonus.of(self),)
