"""Several objectives at once: how much each of them counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, pstdev
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Advantage, Status
from scope_rlvr.methods.parts.sources import kind_of
from scope_rlvr.methods.solve_rates import solve_rate

_LEAST_LOSS = 0.1
"""A mean loss before that is smaller counts as this: what is nearly solved would take all the weight at its first error."""


class ObjectiveBalance(Advantage):
    """Kinds of problems count more where training has stalled or swings, and less where it is done.

    ``Â ← Â · K · softmax((c_k + i_k) / temperature)`` over the K kinds: with ``L_k = 1 − accuracy`` of kind k step by
    step, ``c = mean now / mean before`` and ``i = std now / (mean now + mean before)`` over two windows of ``window``
    steps; 1 for all kinds until each has two full windows. A kind is a problem's level, or its source where it has
    none, so that a file of several sources is the replay data. Source: RECAP (2510.21978), read in notes, for
    objectives of a vision-language model; its losses are those of its rewards.

    >>> [round(w, 3) for w in ObjectiveBalance(window=2).weights({"a": [0.5, 0.5, 0.5, 0.5], "b": [0.8, 0.8, 0.2, 0.2]})]
    [1.075, 0.925]
    """

    title: ClassVar[str] = "RECAP balance"
    source: ClassVar[str] = "arXiv 2510.21978"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "kinds of problems that have stalled count more"
    formula: ClassVar[str] = (
        "`Â·K·softmax((c + i)/5)_k`, `c = mean now / mean before`, `i = std now / (mean now + mean before)`"
    )
    departures: ClassVar[str] = "text; objectives are kinds of problems, and their losses 1 − accuracy"

    kind: Literal["objective_balance"] = "objective_balance"
    window: int = Field(10, ge=1, description="steps of one window")
    temperature: float = Field(5.0, gt=0, description="of the softmax; the higher, the more alike")

    def weights(self, losses: dict[str, list[float]]) -> list[float]:
        """The weight of each kind, from its losses step by step, in the order given."""
        if not losses or any(len(values) < 2 * self.window for values in losses.values()):
            return [1.0] * len(losses)
        scores = []
        for values in losses.values():
            before, now = values[-2 * self.window : -self.window], values[-self.window :]
            scale = max(fmean(before), _LEAST_LOSS)
            scores.append(fmean(now) / scale + pstdev(now) / (fmean(now) + scale))
        highest = max(scores)
        pulls = [math.exp((score - highest) / self.temperature) for score in scores]
        return [len(pulls) * pull / sum(pulls) for pull in pulls]

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        losses = tools.memory.get(self.kind, {})
        weight_of = dict(zip(losses, self.weights(losses), strict=True))
        return [
            replace(
                g,
                members=tuple(m.having(objective_weight=weight_of.get(kind_of(g.problem), 1.0)) for m in g.members),
            )
            for g in groups
        ]

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        return [a * member.extras.get("objective_weight", 1.0) for a in streams.advantage_T]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        losses = tools.memory.setdefault(self.kind, {})
        rates: dict[str, list[float]] = {}
        for group in groups:
            rate = solve_rate(group)
            if rate is not None:
                rates.setdefault(kind_of(group.problem), []).append(rate)
        for kind, values in rates.items():
            losses[kind] = [*losses.get(kind, ()), 1 - fmean(values)][-2 * self.window :]
