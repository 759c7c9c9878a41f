"""BREAD: branches from inside a teacher's trace, from the earliest place that helps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.losses import Masked, TeacherTerm
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import replace_failures, rescue_unsolved, teacher_traces
from scope_rlvr.methods.parts.base import Status


class Bread(GuidedMethod):
    """Branched rollouts from expert anchors, where all rollouts fail.

    Anchors are the step ends of a verified teacher trace, the last excepted. From the first anchor on, the policy
    continues ``num_continuations`` times; the first right continuation of the shortest prefix that has one takes the
    place of a failure drawn at random, and longer prefixes are not tried. ``Â_i = r_i − mean(r)`` over the edited
    group, the clipped surrogate on the policy's tokens; the prefix does not train (``teacher_term``).
    Source: Zhang et al. 2025 (BREAD), branched rollouts.

    Left open, or chosen here: what an anchor is, how many failures a branch replaces, the gradient of the prefix, and the
    order of the search: upwards, without the assumption that a longer prefix helps more. Of more than ``max_anchors``
    anchors, every second, third, ... is tried.

    >>> Bread(max_anchors=3).thinned([4, 9, 12, 20, 31])
    [4, 12, 31]
    """

    title: ClassVar[str] = "BREAD"
    source: ClassVar[str] = "arXiv 2506.17211"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "where all fail, the policy continues the shortest teacher prefix that helps"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)` after the teacher's prefix, 0 on it"
    departures: ClassVar[str] = (
        "anchors, order of the search, failures replaced and the prefix's gradient are chosen here"
    )

    name: Literal["bread"] = "bread"
    teacher_term: TeacherTerm = Masked()
    max_anchors: int = Field(8, ge=1, description="prefixes of a teacher trace that are tried")
    num_continuations: int = Field(1, ge=1, description="continuations tried after a prefix; the first right counts")

    def thinned(self, anchors: Sequence[int]) -> list[int]:
        """At most ``max_anchors`` of the anchors, evenly spread, the first among them."""
        stride = -(-len(anchors) // self.max_anchors)
        return list(anchors[:: max(1, stride)])

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return rescue_unsolved(groups, lambda unsolved: self._branched(unsolved, tools))

    def _branched(self, unsolved: Sequence[Group], tools: Toolbox) -> list[Group]:
        rng = random.Random(derive_seed(tools.seed, "replaced"))
        prefixes = [self._prefixes(trace, tools) for trace in teacher_traces(unsolved, tools)]
        found: dict[int, Member] = {}
        for number in range(max(map(len, prefixes))):
            trying = [i for i, of_one in enumerate(prefixes) if i not in found and number < len(of_one)]
            starts = [(i, prefixes[i][number]) for i in trying for _ in range(self.num_continuations)]
            rollouts = tools.extend([start for _, start in starts], "continuation", "anchor", number)
            attempts = [(unsolved[i].problem, rollout) for (i, _), rollout in zip(starts, rollouts, strict=True)]
            for (i, _), member in zip(starts, tools.verified(attempts), strict=True):
                if member.verdict.is_right:
                    found.setdefault(i, replace(member, role=Role.GUIDED))
        return [replace_failures(g, [found[i]] if i in found else [], rng) for i, g in enumerate(unsolved)]

    def _prefixes(self, trace: Member | None, tools: Toolbox) -> list[Rollout]:
        """What the policy is to continue, shortest first."""
        if trace is None:
            return []
        ends = [step.end for step in tools.split(trace.rollout)[:-1]]
        return [trace.rollout.cut(end) for end in self.thinned(ends)]
