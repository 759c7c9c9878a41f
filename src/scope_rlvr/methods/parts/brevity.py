"""Token weights by length: what is short and right, and what is long and wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.methods.parts.base import Rewards, Status, TokenWeight


class BrevityPriority(TokenWeight):
    """Only the shortest right rollouts of a batch and the longest wrong ones train.

    ``w_t ← w_t · 1[priority]``: the ``share`` of the right rollouts that are shortest, and the ``share`` of the wrong
    ones that are longest, rounded up. Advantages stay those of the whole groups. Source: RoRecomp (2509.25958),
    priority batches, without the compensation that the method ``rorecomp`` has; the share has no value in the text that
    we had.

    >>> part = BrevityPriority(share=0.5)
    >>> part.first([3, 1, 2, 9], shortest=True), part.first([3, 1, 2, 9], shortest=False)
    ([1, 2], [3, 0])
    """

    title: ClassVar[str] = "RoRecomp priority"
    source: ClassVar[str] = "arXiv 2509.25958"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "only short successes and long failures train"
    formula: ClassVar[str] = "`w_t · 1[shortest half of the right ones, longest half of the wrong ones]`"
    departures: ClassVar[str] = "the share is chosen here"

    kind: Literal["brevity_priority"] = "brevity_priority"
    share: float = Field(0.5, gt=0, le=1, description="share of the right and of the wrong rollouts that train at once")

    def first(self, lengths: Sequence[int], *, shortest: bool) -> list[int]:
        """Which rollouts of these lengths come first."""
        order = sorted(range(len(lengths)), key=lambda i: (lengths[i] if shortest else -lengths[i], i))
        return order[: math.ceil(self.share * len(order))]

    def priority(self, groups: Sequence[Group]) -> set[int]:
        """The identities of the members that train."""
        chosen = set[int]()
        for is_right in (True, False):
            members = [m for g in groups for m in g.members if m.verdict.is_known and m.verdict.is_right is is_right]
            lengths = [len(member.rollout) for member in members]
            chosen |= {id(members[i]) for i in self.first(lengths, shortest=is_right)}
        return chosen

    def weigh(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        now = self.priority(groups)
        return [
            tuple(
                s if id(m) in now else replace(s, weight_T=(0.0,) * len(s.weight_T))
                for m, s in zip(group.members, streams_G, strict=True)
            )
            for group, streams_G in zip(groups, streams_PG, strict=True)
        ]
