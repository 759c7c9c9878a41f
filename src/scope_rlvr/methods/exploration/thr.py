"""THR: the few tokens that move the likelihood of right rollouts, tilted to exploit or to explore."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.hidden import TokenHiddenReward


class Thr(Method):
    """GRPO on the tokens of large hidden reward. Source: THR (2510.03669); see ``token_hidden_reward`` for the formula.

    >>> Thr(tilt=-0.2).own_parts[0].tilt
    -0.2
    """

    title: ClassVar[str] = "THR"
    source: ClassVar[str] = "arXiv 2510.03669"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "only tokens that move right rollouts train, tilted to exploit or explore"
    formula: ClassVar[str] = "`Â = (r − mean) / std`, `Â·1[|THR| > τ]·(1 + p·sign THR)`; `S(Â)`"
    departures: ClassVar[str] = "the form of the factor and its size are argued here; the k likeliest tokens alone"

    name: Literal["thr"] = "thr"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    tilt: float = Field(0.1, ge=-1, le=1, description="above 0 exploits, below 0 explores")
    beta: float = Field(1.0, ge=0, description="factor on the threshold of influence")
    top_k: int = Field(20, ge=1, description="likeliest tokens of each distribution that are kept")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (TokenHiddenReward.of(self),)
