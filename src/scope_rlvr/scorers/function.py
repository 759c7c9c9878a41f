"""A function of the user's as the step scorer, in processes that can be killed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.types import Outcome, Problem
from scope_rlvr.grading.function import DOES_NOT_KNOW, RETURNED_OTHER, imported
from scope_rlvr.scorers.families import Function

JUDGE = "scope_rlvr.scorers.function:make_scorer"
"""What makes a worker's answers."""


class FunctionScorer:
    """Scores steps by a function of yours: ``def score(problem, steps): ...``.

    It is called with a :class:`~scope_rlvr.core.types.Problem` and the list of the steps' texts, and returns a score from 0 to 1 for
    each, or ``None`` where it cannot tell. After an exception, a time-out or another value there are no scores.

    Raises :class:`~scope_rlvr.grading.pool.WorkerStartError` where the function cannot be imported.
    """

    def __init__(self, family: Function, rule: DecisionRule) -> None:
        self.family = family
        self.rule = rule
        self._pool = family.pool(JUDGE)

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        answers = self._pool.ask([_question(problem, steps) for problem, steps in solutions])
        return [None if answer.value is None else tuple(answer.value) for answer in answers]

    def check(self, solution: tuple[Problem, Sequence[str]]) -> None:
        """Call the function once; :class:`UserError` with what it did wrong. That it cannot tell is no mistake."""
        (answer,) = self._pool.ask([_question(*solution)])
        if answer.value is None and answer.reason != DOES_NOT_KNOW:
            raise UserError(
                f"the step scorer {self.family.path} fails on a short solution: {answer.reason}; mend the function, or raise "
                "scorer.family.deadline"
            )


def make_scorer(path: str) -> Callable[..., tuple[str, str, list[float] | None]]:
    """What a worker process answers with: calls the user's function."""
    user_function = imported(path)

    def score(problem: dict[str, Any], steps: list[str]) -> tuple[str, str, list[float] | None]:
        said = user_function(Problem(**problem), steps)
        if said is None:
            return Outcome.UNKNOWN, DOES_NOT_KNOW, None
        scores = [float(score) for score in said]
        if len(scores) != len(steps):
            return Outcome.UNKNOWN, f"{RETURNED_OTHER}: {len(scores)} scores for {len(steps)} steps", None
        if strange := [score for score in scores if not (math.isfinite(score) and 0 <= score <= 1)]:
            return Outcome.UNKNOWN, f"{RETURNED_OTHER}: the score {strange[0]:g} does not lie between 0 and 1", None
        return Outcome.RIGHT, "scored", scores

    return score


def _question(problem: Problem, steps: Sequence[str]) -> dict[str, Any]:
    return {"problem": asdict(problem), "steps": list(steps)}
