"""G2RL: rewards grow with how differently a response would move the policy."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.gradient_novelty import GradientNovelty


class G2rl(Method):
    """GRPO on rewards that grow with the novelty of a response's gradient, seen from the last layer. Source: G2RL
    (2512.15687); see ``gradient_novelty`` for its formula, which its explanation contradicts.

    >>> G2rl(rule="as_explained").own_parts[0].rule
    'as_explained'
    """

    title: ClassVar[str] = "G2RL"
    source: ClassVar[str] = "arXiv 2512.15687"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "responses whose gradients point elsewhere are paid more"
    formula: ClassVar[str] = (
        "`r + ½λ·ν̄`, `ν = max(1 − Σ_j softmax(r)_j cos(Φ, Φ_j)², 0)`; `Â = (r − mean) / std`; `S(Â)`"
    )
    departures: ClassVar[str] = "rewards are 0 and 1; the strength is chosen here"

    name: Literal["g2rl"] = "g2rl"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    strength: float = Field(0.5, ge=0, description="factor on the novelty; 0 changes nothing")
    rule: Literal["as_printed", "as_explained"] = Field(
        "as_printed", description="the paper's formula, which spares novel errors, or its explanation, which does not"
    )

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (GradientNovelty.of(self),)
