"""1-shot RLVR: one well-chosen problem, again and again."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.selection import MostVaried


class OneShot(Method):
    """GRPO on one problem: the one whose pass rate varied most over the first steps fills every later one.

    ``(r − mean)/std``, with an entropy bonus of 0.001, which the paper finds to matter when a single problem is trained
    on. Source: Wang et al. 2025, "Reinforcement Learning for Reasoning in Large Language Models with One Training
    Example".

    >>> OneShot().own_parts[0].count, OneShot().entropy
    (1, 0.001)
    """

    title: ClassVar[str] = "1-shot RLVR"
    source: ClassVar[str] = "arXiv 2504.20571"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "one problem, chosen by how its pass rate varied, trains again and again"
    formula: ClassVar[str] = "`Â = (r − mean) / std` on one problem; `S(Â) − 0.001·H`"
    departures: ClassVar[str] = "the problem is chosen by the run's own first steps, not by another run"

    name: Literal["one_shot"] = "one_shot"
    count: int = Field(1, ge=1, description="problems that are kept")
    warmup: int = Field(50, ge=0, description="steps on all problems, from which the rates are known")
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    entropy: float | None = 0.001

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (MostVaried.of(self),)
