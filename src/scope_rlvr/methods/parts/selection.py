"""Problem sources that keep a few problems, and train on them again and again."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import ProblemSource, Status


class MostVaried(ProblemSource):
    """After some steps on all problems, only those whose pass rate varied most are trained on, again and again.

    For ``warmup`` steps the offered problems train, and each one's pass rates are remembered. Then the ``count`` problems with the
    largest deviation of their pass rates, and among equal ones those that were solved nearest to half of the time, fill every step.
    Source: Wang et al. 2025, "Reinforcement Learning for Reasoning in Large Language Models with One Training Example"
    (2504.20571), and its released code, github.com/ypwang61/One-Shot-RLVR: ``data/data_selection.py``, where a run of its own gathers
    the rates.

    >>> MostVaried().rank([1.0, 0.0]) > MostVaried().rank([0.5, 0.5]) > MostVaried().rank([1.0, 1.0])
    True
    """

    title: ClassVar[str] = "Most varied problems"
    source: ClassVar[str] = "arXiv 2504.20571"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a few problems whose pass rate varied most train again and again"
    formula: ClassVar[str] = "the problem with the largest deviation of its pass rates"
    departures: ClassVar[str] = "the rates are those of the run's own first steps, not of another run"

    kind: Literal["most_varied"] = "most_varied"
    count: int = Field(1, ge=1, description="problems that are kept")
    warmup: int = Field(50, ge=0, description="steps on all problems, from which the rates are known")

    @staticmethod
    def rank(rates: Sequence[float]) -> tuple[float, float]:
        """What problems are compared by: the deviation of the rates, then how near to a half they are."""
        return pstdev(rates), -abs(fmean(rates) - 0.5)

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        rates: dict[str, list[float]] = tools.memory.get(self.kind, {})
        if tools.step <= self.warmup or not rates or tools.pool is None:
            return list(groups)
        kept = sorted(rates, key=lambda name: self.rank(rates[name]), reverse=True)[: self.count]
        place_of = {tools.pool.problem(i).id: i for i in range(len(tools.pool))}
        places = [place_of[name] for name in kept if name in place_of]
        return tools.pool.groups([places[i % len(places)] for i in range(len(groups))]) if places else list(groups)

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        if tools.step > self.warmup:
            return
        rates = tools.memory.setdefault(self.kind, {})
        for group in groups:
            known = [member.verdict.is_right for member in group.members if member.verdict.is_known]
            if known:
                rates.setdefault(group.problem.id, []).append(fmean(known))
