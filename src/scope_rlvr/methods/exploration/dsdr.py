"""DSDR: variety on two scales, of ways and of tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.path_diversity import CoupledEntropy, PathDiversity


class Dsdr(Method):
    """GRPO with a bonus for right rollouts that go another way than the others, and an entropy term that these get most
    of. Source: DSDR (2602.19895); see ``path_diversity`` and ``coupled_entropy`` for the formulas.

    >>> [part.kind for part in Dsdr(cap=0.05).own_parts]
    ['path_diversity', 'coupled_entropy']
    """

    title: ClassVar[str] = "DSDR"
    source: ClassVar[str] = "arXiv 2602.19895"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "right rollouts that go another way are paid more and keep more entropy"
    formula: ClassVar[str] = (
        "`Â = (r + min(0.1·d, 0.1) − mean) / std`; `S(Â)`; `−0.001·mean Σ_i softmax(d)_i · mean_t H_t` over right rollouts"
    )
    departures: ClassVar[str] = (
        "the policy's hidden states in the place of a text encoder; no importance ratio; weights are chosen here"
    )

    name: Literal["dsdr"] = "dsdr"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    cap: float = Field(0.1, ge=0, description="the bonus for going another way is at most this")
    temperature: float = Field(1.0, gt=0, description="of the softmax over right rollouts; the higher, the more alike")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return PathDiversity.of(self), CoupledEntropy.of(self)
