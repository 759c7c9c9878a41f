"""DUMP: GRPO on the kinds of problems from which the policy learns most."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.sources import Bandit


class Dump(Method):
    """GRPO whose problems a bandit over their kinds draws.

    ``score_d = mean |Â| + √(2·ln(N + 1)/(n_d + 1))`` over the last ``window`` rollouts of kind d, kinds drawn with
    weights ``softmax(score / temperature)``. Source: DUMP (2504.09710); released code, github.com/ZhentingWang/DUMP at
    235e85d: ``verl/utils/curriculum_learning.py``, which feeds validation rewards in the place of advantages; this
    follows the paper.

    >>> Dump().own_parts[0].kind
    'bandit'
    """

    title: ClassVar[str] = "DUMP"
    source: ClassVar[str] = "arXiv 2504.09710"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "kinds of problems with large advantages are drawn more often"
    formula: ClassVar[str] = (
        "kinds with weights `softmax((mean|Â| + √(2 ln(N+1)/(n_d+1))) / 0.1)`; `Â = (r − mean) / std`; `S(Â)`"
    )
    departures: ClassVar[str] = "the bandit's advantages are reward minus the group's mean"

    name: Literal["dump"] = "dump"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    window: int = Field(300, ge=1, description="rollouts of a kind that its mean is taken over")
    temperature: float = Field(0.1, gt=0, description="of the softmax; the lower, the greedier")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Bandit.of(self),)
