"""Problem sources: which problems a step trains on. They have a memory and are told the results."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem
from scope_rlvr.methods.parts.base import ProblemSource, Status

_MEMORY = "bandit"


class Bandit(ProblemSource):
    """A bandit over kinds of problems: those whose advantages are large are drawn more often.

    ``score_d = mean |Â| + √(2·ln(N + 1)/(n_d + 1))``, the mean over the last ``window`` rollouts of kind d, problems drawn with
    weights ``softmax(score / temperature)``, N and n_d rollouts seen in all and of the kind. A kind is a problem's level, or its source
    where it has none. Source: DUMP (2504.09710); its released code feeds validation rewards instead of advantages, and this
    follows the paper.

    >>> Bandit.scores({"a": [0.5, 0.5], "b": []}, {"a": 2, "b": 0})["b"] > 1
    True
    """

    title: ClassVar[str] = "DUMP"
    source: ClassVar[str] = "arXiv 2504.09710"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "kinds of problems with large advantages are drawn more often"
    formula: ClassVar[str] = "`softmax((mean|Â| + √(2 ln(N+1)/(n_d+1))) / 0.1)` over kinds of problems"
    departures: ClassVar[str] = "advantages are reward minus the group's mean, whatever the method makes of them"

    kind: Literal["bandit"] = "bandit"
    window: int = Field(300, ge=1, description="rollouts of a kind that its mean is taken over")
    temperature: float = Field(0.1, gt=0, description="of the softmax; the lower, the greedier")

    def choose(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        pool = tools.pool
        assert pool is not None, "an engine without a pool refuses this part"
        places: dict[str, list[int]] = {}
        for index in range(len(pool)):
            places.setdefault(kind_of(pool.problem(index)), []).append(index)
        memory = _remembered(tools)
        scores = self.scores(
            {kind: memory["recent"].get(kind, []) for kind in places},
            {kind: memory["seen"].get(kind, 0) for kind in places},
        )
        highest = max(scores.values())
        weights = [math.exp((scores[kind] - highest) / self.temperature) for kind in places]
        rng = random.Random(derive_seed(tools.seed, "bandit"))
        kinds = rng.choices(list(places), weights, k=len(groups))
        return pool.groups([rng.choice(places[kind]) for kind in kinds])

    @staticmethod
    def scores(recent: dict[str, list[float]], seen: dict[str, int]) -> dict[str, float]:
        """What each kind is worth: its mean ``|Â|``, and a bonus for what was seen little."""
        total = sum(seen.values())
        return {
            kind: (fmean(values) if values else 0.0) + math.sqrt(2 * math.log(total + 1) / (seen[kind] + 1))
            for kind, values in recent.items()
        }

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        memory = _remembered(tools)
        for group in groups:
            pays = [member.verdict.pay for member in group.members if member.verdict.pay is not None]
            kind, mean = kind_of(group.problem), fmean(pays) if pays else 0.0
            recent = memory["recent"].setdefault(kind, [])
            recent += [abs(pay - mean) for pay in pays]
            del recent[: -self.window]
            memory["seen"][kind] = memory["seen"].get(kind, 0) + len(pays)


def kind_of(problem: Problem) -> str:
    """The kind of problem that a bandit draws from."""
    return problem.source if problem.level is None else f"level {problem.level}"


def _remembered(tools: Toolbox) -> dict[str, Any]:
    memory: dict[str, Any] = tools.memory.setdefault(_MEMORY, {"recent": {}, "seen": {}})
    return memory
