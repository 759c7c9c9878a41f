"""A step scorer that is wrong in a given share of the cases, to study what a scorer's mistakes cost."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from scope_rlvr.core.ports import DecisionRule, StepScorer, is_served
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Problem


class NoisyScorer:
    """For a share of the solutions, moves the first wrong step to another one, drawn at random.

    Whether and where a solution is moved depends on its text and ``seed`` alone: the same solution gets the same answer
    every time. The moved step scores 0, the others 1. A solution of one step has no other step and is left alone.

    >>> from scope_rlvr.salvage.rules import Threshold
    >>> class AllWrong:
    ...     rule = Threshold(threshold=0.5)
    ...     def score(self, solutions):
    ...         return [(0.0,) * len(steps) for _, steps in solutions]
    >>> problem = Problem("p", "?", "1")
    >>> NoisyScorer(AllWrong(), share=1.0, seed=0).score([(problem, ["a", "b"]), (problem, ["a"])])
    [(1.0, 0.0), (0.0,)]
    """

    def __init__(self, scorer: StepScorer, share: float, seed: int) -> None:
        self.scorer = scorer
        self.share = share
        self.seed = seed

    @property
    def rule(self) -> DecisionRule:
        return self.scorer.rule

    @property
    def is_served(self) -> bool:
        return is_served(self.scorer)

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        scores = self.scorer.score(solutions)
        return [self._moved(problem, steps, s) for (problem, steps), s in zip(solutions, scores, strict=True)]

    def _moved(
        self, problem: Problem, steps: Sequence[str], scores_S: tuple[float, ...] | None
    ) -> tuple[float, ...] | None:
        if scores_S is None:
            return None
        rng = Random(derive_seed(self.seed, "scorer noise", problem.id, *steps))
        others = [k for k in range(len(steps)) if k != self.rule.first_wrong(scores_S)]
        if rng.random() >= self.share or len(steps) < 2:
            return scores_S
        moved_to = rng.choice(others)
        return tuple(0.0 if k == moved_to else 1.0 for k in range(len(steps)))
