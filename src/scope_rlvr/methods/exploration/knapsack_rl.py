"""Knapsack RL: each problem gets as many rollouts as it is expected to repay."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip
from scope_rlvr.methods.budget import sample_counts
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status


class KnapsackRl(Method):
    """A fixed budget of rollouts, spent where it teaches most.

    N rollouts of a problem that is solved with probability p are worth ``(1 − pᴺ − (1 − p)ᴺ) · p · (1 − p)²``. The
    budget, as many rollouts as the batch has room for, is spent so that the sum is largest: at least ``fewest`` each
    and at most ``most``. The worth of one more rollout falls with N, so that giving them out one by one, each where it
    is worth most, is the optimum. Problems with fewer than ``min_seen`` known verdicts get as many as ever; p is the
    mean of the last ``window`` of the others. Where every problem of value has ``most``, the rest goes to those that
    were never solved, then to those that always were. Source: Knapsack RL (2509.25849), and its released code,
    github.com/liziniu/KnapsackRL at ca5d5f5: ``verl/trainer/ppo/exploration_utils.py``, which solves the knapsack by
    dynamic programming; clip 0.2 and 0.28.

    >>> method = KnapsackRl()
    >>> method.shares([0.5, 0.9, 0.0, None], num_rollouts=8)
    [9, 13, 2, 8]
    >>> round(method.worth(0.5, 2), 4)  # (1 − ¼ − ¼) · ½ · ¼
    0.0625
    """

    title: ClassVar[str] = "Knapsack RL"
    source: ClassVar[str] = "arXiv 2509.25849"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "rollouts go to the problems that repay them"
    formula: ClassVar[str] = "`N` maximises `Σ (1 − pᴺ − (1−p)ᴺ)·p·(1−p)²`; `Â = (r − mean) / std`; `S(Â)`"
    departures: ClassVar[str] = (
        "advantages are not cut off at ±5; problems of value get all that they can use before others"
    )

    name: Literal["knapsack_rl"] = "knapsack_rl"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    clip: Clip | None = Clip(low=0.2, high=0.28)
    fewest: int = Field(2, ge=1, description="rollouts of a problem at least")
    most: int = Field(128, ge=2, description="rollouts of a problem at most")
    min_seen: int = Field(8, ge=1, description="known verdicts below which a problem gets as many rollouts as ever")
    window: int = Field(16, ge=1, description="verdicts of a problem that its success rate is taken over, the newest")

    @property
    def has_variable_rows(self) -> bool:
        return True

    @staticmethod
    def worth(rate: float, num_rollouts: int) -> float:
        """What so many rollouts of a problem of this success rate are worth."""
        seen_both = 1 - rate**num_rollouts - (1 - rate) ** num_rollouts
        return seen_both * rate * (1 - rate) ** 2

    def shares(self, rates_P: Sequence[float | None], num_rollouts: int) -> list[int]:
        """How many rollouts each problem gets of ``num_rollouts`` a problem on average; ``None`` is a rate that is not
        known."""
        fewest = min(self.fewest, num_rollouts)
        count_P = [num_rollouts if rate is None else fewest for rate in rates_P]
        left = num_rollouts * len(rates_P) - sum(count_P)

        # Without value, what was never solved comes before what always was.
        def gain(i: int, rate: float) -> tuple[float, float]:
            return self.worth(rate, count_P[i]) - self.worth(rate, count_P[i] + 1), rate

        queue = [(gain(i, rate), i) for i, rate in enumerate(rates_P) if rate is not None]
        heapq.heapify(queue)
        while left and queue:
            (_, rate), i = heapq.heappop(queue)
            count_P[i], left = count_P[i] + 1, left - 1
            if count_P[i] < self.most:
                heapq.heappush(queue, (gain(i, rate), i))
        return count_P

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        seen = tools.memory.get(self.name, {})
        verdicts_P = [seen.get(group.problem.id, ()) for group in groups]
        rates_P = [fmean(told) if len(told) >= self.min_seen else None for told in verdicts_P]
        members_P = sample_counts(groups, self.shares(rates_P, num_rollouts), tools)
        return [replace(g, members=members) for g, members in zip(groups, members_P, strict=True)]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        super().learn(groups, tools)
        seen = tools.memory.setdefault(self.name, {})
        for group in groups:
            told = [float(member.verdict.is_right) for member in group.sampled if member.verdict.is_known]
            seen[group.problem.id] = [*seen.get(group.problem.id, ()), *told][-self.window :]
