"""Step scorers that know nothing: what any figure of a real one has to be compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from scope_rlvr.core.ports import StepScorer
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Problem
from scope_rlvr.salvage.rules import Threshold


class AlwaysNoneScorer:
    """Calls every step right: right about every solution without a wrong step, wrong about every other one, F1 0.

    >>> AlwaysNoneScorer().score([(Problem("p", "?", "1"), ["a", "b"])])
    [(1.0, 1.0)]
    """

    rule = Threshold(threshold=0.5)

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        return [(1.0,) * len(steps) for _, steps in solutions]


class RandomScorer:
    """Draws its answer: of a solution of ``S`` steps each step, and "none", with chance ``1/(S + 1)``.

    The drawn step scores 0, the others 1. The draw depends on the solution and ``seed`` alone. Over rows its expected
    accuracies are the means of ``1/(S + 1)`` over rows with and over rows without a wrong step.

    >>> scores = RandomScorer(seed=0).score([(Problem(str(i), "?", "1"), ["a"]) for i in range(1000)])
    >>> 450 < scores.count((0.0,)) < 550
    True
    """

    rule = Threshold(threshold=0.5)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        scores: list[tuple[float, ...] | None] = []
        for problem, steps in solutions:
            drawn = Random(derive_seed(self.seed, "random scorer", problem.id, *steps)).randrange(len(steps) + 1)
            scores.append(tuple(float(k != drawn) for k in range(len(steps))))
        return scores


BASELINES: dict[str, Callable[[int], StepScorer]] = {
    "always-none": lambda seed: AlwaysNoneScorer(),
    "random": RandomScorer,
}
"""Baselines by the name that ``scope scorer`` knows them by, each made with a seed."""
