"""Advantages scaled group by group: what a group can teach decides how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.methods.parts.base import Advantage, Rewards, Status
from scope_rlvr.methods.solve_rates import solve_rate


class ExplorationCurriculum(Advantage):
    """Groups count by their difficulty and by how many different answers they give.

    ``Â ← Â · (floor + (1 − floor) · 4q(1 − q) · (D − 1)/(G − 1))``: ``q`` the share of right rollouts, ``D`` the number
    of different answers among the ``G`` rollouts with a known verdict; those without an answer count as one. A group
    that has collapsed to one answer counts ``floor``. Source: PuzzleCraft (2512.14944): difficulty times the dispersion
    of solutions is the paper's, both formulas are argued here.

    >>> part = ExplorationCurriculum()
    >>> [part.weight(0.5, num_answers=n, num_known=4) for n in (2, 4)], part.weight(1.0, num_answers=1, num_known=4)
    ([0.3333333333333333, 1.0], 0.0)
    """

    title: ClassVar[str] = "PuzzleCraft curriculum"
    source: ClassVar[str] = "arXiv 2512.14944"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "groups count by difficulty and by the number of different answers"
    formula: ClassVar[str] = "`Â·4q(1−q)·(D−1)/(G−1)`, `D` different answers among `G`"
    departures: ClassVar[str] = "text in the place of images; both factors are argued here; no consistency reward"

    kind: Literal["exploration_curriculum"] = "exploration_curriculum"
    floor: float = Field(0.0, ge=0, le=1, description="what a collapsed group still counts; 1 changes nothing")

    def weight(self, share_right: float, num_answers: int, num_known: int) -> float:
        """The factor on the advantages of a group."""
        dispersion = (num_answers - 1) / (num_known - 1) if num_known > 1 else 0.0
        return self.floor + (1 - self.floor) * 4 * share_right * (1 - share_right) * dispersion

    def shape(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        factors = [self._factor(group) for group in groups]
        return [
            tuple(replace(s, advantage_T=tuple(a * factor for a in s.advantage_T)) for s in streams_G)
            for streams_G, factor in zip(streams_PG, factors, strict=True)
        ]

    def _factor(self, group: Group) -> float:
        rate = solve_rate(group)
        answers = [member.verdict.answer for member in group.sampled if member.verdict.is_known]
        return 1.0 if rate is None else self.weight(rate, len(set(answers)), len(answers))
