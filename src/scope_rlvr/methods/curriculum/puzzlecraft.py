"""PuzzleCraft: groups count by difficulty and by the variety of their answers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.group_weights import ExplorationCurriculum


class PuzzleCraft(Method):
    """GRPO in which a group that has collapsed to one answer counts little. Source: PuzzleCraft (2512.14944), a
    curriculum for visual puzzles; only its weighting is here.

    >>> PuzzleCraft().own_parts[0].floor
    0.0
    """

    title: ClassVar[str] = "PuzzleCraft"
    source: ClassVar[str] = "arXiv 2512.14944"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "groups count by difficulty and by the number of different answers"
    formula: ClassVar[str] = "`Â = (r − mean) / std · 4q(1−q)·(D−1)/(G−1)`; `S(Â)`"
    departures: ClassVar[str] = "text in the place of images; both factors are argued here; no consistency reward"

    name: Literal["puzzlecraft"] = "puzzlecraft"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    floor: float = Field(0.0, ge=0, le=1, description="what a collapsed group still counts; 1 changes nothing")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ExplorationCurriculum.of(self),)
