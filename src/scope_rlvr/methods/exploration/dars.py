"""DARS: more rollouts for the problems that are hard but not hopeless."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.budget import sample_counts
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status


class Dars(Method):
    """Difficulty-adaptive rollouts, with equal treatment.

    After N rollouts of each problem, with accuracy ``a`` among the known verdicts (0 counts as ``0.5/N``): none more where
    ``a ≥ ½``; else, with ``S = 2a(1 − a)`` and ``peak = N/2``, ``⌈(peak − N·S) / S⌉`` more, at most ``most`` in all. The batch has
    room for ``extra_rows`` more a problem; where more is wanted, each problem gets its share of the room, rounded down. Flat
    groups count nowhere. Source: DARS (2508.13755), read in its code, schedule ET.

    >>> dars = Dars()
    >>> [dars.wanted(num_right, 8, 8) for num_right in (0, 1, 2, 4)]
    [24, 11, 3, 0]
    >>> dars.allotted([25, 11, 0, 0], room=12)
    [8, 3, 0, 0]
    """

    title: ClassVar[str] = "DARS"
    source: ClassVar[str] = "arXiv 2508.13755"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "hard problems get more rollouts"
    formula: ClassVar[str] = "`⌈(N/2 − N·S)/S⌉` more rollouts, `S = 2a(1−a)`; `Â = r − mean(r)`; `S(Â)`"
    departures: ClassVar[str] = "the room of a batch is fixed; no breadth variant"

    name: Literal["dars"] = "dars"
    extra_rows: int = Field(4, ge=1, description="further rows of a problem that the batch has room for, on average")
    most: int = Field(32, ge=2, description="rollouts of one problem at most")
    drop_flat_groups: bool = True

    @property
    def num_reserved_rows(self) -> int:
        return super().num_reserved_rows + self.extra_rows

    @property
    def has_variable_rows(self) -> bool:
        return True

    def wanted(self, num_right: int, num_known: int, num_rollouts: int) -> int:
        """How many more rollouts a problem would get if there were room."""
        accuracy = (num_right or 0.5) / num_known if num_known else math.inf
        if accuracy >= 0.5:
            return 0
        spread = 2 * accuracy * (1 - accuracy)
        more = math.ceil((num_rollouts / 2 - num_rollouts * spread) / spread - 1e-9)
        return max(0, min(more, self.most - num_rollouts))

    def allotted(self, wanted_P: Sequence[int], room: int) -> list[int]:
        """What each problem gets of the room."""
        total = sum(wanted_P)
        return list(wanted_P) if total <= room else [wanted * room // total for wanted in wanted_P]

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        sampled = super().sample(groups, num_rollouts, tools)
        extra_P = self.allotted([self._wanted_for(g, num_rollouts) for g in sampled], self.extra_rows * len(sampled))
        more_P = sample_counts(sampled, extra_P, tools, "more")
        return [replace(g, members=(*g.members, *more)) for g, more in zip(sampled, more_P, strict=True)]

    def _wanted_for(self, group: Group, num_rollouts: int) -> int:
        known = [m.verdict.is_right for m in group.members if m.verdict.is_known]
        return self.wanted(sum(known), len(known), num_rollouts)
