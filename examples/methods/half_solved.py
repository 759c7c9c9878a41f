"""A curriculum: problems that are solved about half of the time come back, the others make room for new ones."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import ProblemSource


class HalfSolved(ProblemSource):
    """``share`` of a step's problems are those whose success rate was nearest to ½; the rest are the ones offered."""

    share: float = Field(0.5, ge=0, le=1)

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        assert tools.pool is not None
        rates = tools.memory.setdefault("half_solved", {})
        places = {tools.pool.problem(i).id: i for i in range(len(tools.pool))}
        known = sorted((abs(rate - 0.5), problem) for problem, rate in rates.items() if problem in places)
        count = min(len(known), round(self.share * len(groups)))
        again = tools.pool.groups([places[problem] for _, problem in known[:count]])
        kept = random.Random(derive_seed(tools.seed, "half solved")).sample(list(groups), len(groups) - count)
        return [*again, *kept]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        for group in groups:
            known = [member.verdict.is_right for member in group.members if member.verdict.is_known]
            if known:
                tools.memory["half_solved"][group.problem.id] = sum(known) / len(known)
