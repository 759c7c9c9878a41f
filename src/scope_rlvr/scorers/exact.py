"""The truth about every step, where a problem family knows it: for studies of what a scorer's mistakes cost."""

from __future__ import annotations

from collections.abc import Sequence

from scope_rlvr.core.types import Problem
from scope_rlvr.problems.family import ProblemFamily
from scope_rlvr.salvage.rules import Threshold


class ExactScorer:
    """Scores every step before the first wrong one 1, and 0 from there on.

    >>> from scope_rlvr.problems.reduction import Reduction, make_problem
    >>> scorer = ExactScorer(Reduction())
    >>> scorer.score([(make_problem([0, 3, 5, 7]), ["0 + 3 = 3 : 3 5 7", "3 + 5 = 9 : 7 9", "7 + 9 = 3 : 3"])])
    [(1.0, 0.0, 0.0)]
    """

    rule = Threshold(threshold=0.5)

    def __init__(self, family: ProblemFamily) -> None:
        self.family = family

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        scores: list[tuple[float, ...] | None] = []
        for problem, steps in solutions:
            first_wrong = self.family.first_wrong_step(problem, steps)
            num_right = len(steps) if first_wrong is None else first_wrong
            scores.append((1.0,) * num_right + (0.0,) * (len(steps) - num_right))
        return scores
