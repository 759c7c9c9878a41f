"""A step scorer without a model: it works the equations of a step out, and compares their results with a worked solution's."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from fractions import Fraction

from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.types import Problem
from scope_rlvr.grading.boxes import last_box
from scope_rlvr.grading.numbers import read_number
from scope_rlvr.problems.calculations import Calculation, numbers_in, read_calculations
from scope_rlvr.scorers.families import Calculator

_WRONG, _RIGHT = 0.0, 1.0
_ANSWER = re.compile(
    r"(?:\banswer(?:\s+is)?\s*[:=]?|####)\s*[*$\\(]*\s*([-+]?\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?![\d.]*\d)(?!\s*(?:[-+*/×=]|x\b|times\b))",
    re.IGNORECASE,
)


class CalculatorScorer:
    r"""Scores a step by what its equations come to, in exact arithmetic.

    * 0: an equation is false, or the final answer that the step states is not the reference;
    * 1: it is neither, and every result is one of the worked solution's, or the input of a later calculation that is so right;
    * ``unmatched``: all equations are true, but one leads to nothing that the worked solution has;
    * ``silent``: there is nothing to work out, it cannot be read, or there is no solution to compare it with.

    Every solution gets scores. What is read is described in :mod:`scope_rlvr.problems.calculations`.

    >>> problem = Problem("p", "2 boxes of 6 eggs, 4 at home, 5 break", "11", solution="2 x 6 = 12\n12 + 4 = 16\n16 - 5 = 11")
    >>> steps = ["First the boxes.", "6 * 2 = 12", "5 - 4 = 1", "12 - 1 = 11", "12 + 5 = 17", "12 + 4 = 17", "Answer: 17"]
    >>> CalculatorScorer(Calculator(unmatched=0.5), Calculator.default_rule).score([(problem, steps)])
    [(0.75, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0)]
    """

    def __init__(self, family: Calculator, rule: DecisionRule) -> None:
        self.family = family
        self.rule = rule

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        return [self._score(problem, steps) for problem, steps in solutions]

    def _score(self, problem: Problem, steps: Sequence[str]) -> tuple[float, ...]:
        worked_S = [read_calculations(step).found for step in steps]
        known = {found.result for found in read_calculations(problem.solution or "").found}
        matched_S = _matched(worked_S, known, numbers_in(problem.prompt))
        reference = read_number(problem.reference)
        return tuple(
            self._score_one(worked, matched_C, _is_answer_right(step, reference), has_solution=bool(known))
            for step, worked, matched_C in zip(steps, worked_S, matched_S, strict=True)
        )

    def _score_one(
        self,
        worked: Sequence[Calculation],
        matched_C: Sequence[bool],
        is_answer_right: bool | None,
        *,
        has_solution: bool,
    ) -> float:
        if is_answer_right is False or any(calculation.is_true is False for calculation in worked):
            return _WRONG
        if is_answer_right or (worked and all(matched_C)):
            return _RIGHT
        is_exact = all(calculation.is_true for calculation in worked)
        return self.family.unmatched if worked and has_solution and is_exact else self.family.silent


def _matched(worked_S: Sequence[Sequence[Calculation]], known: Set[Fraction], given: Set[Fraction]) -> list[list[bool]]:
    """Whether each calculation of each step has a ``known`` result, or one that a later matched calculation starts from."""
    useful = set(known)
    matched_S: list[list[bool]] = []
    for worked in reversed(worked_S):
        matched_C: list[bool] = []
        for calculation in reversed(worked):
            matched_C.append(calculation.result in useful)
            if matched_C[-1]:
                useful.update(set(calculation.inputs) - given)
        matched_S.append(matched_C[::-1])
    return matched_S[::-1]


def _is_answer_right(step: str, reference: Fraction | None) -> bool | None:
    """Whether a step states the reference as the final answer; ``None`` where it states none, or there is none to compare."""
    answer = stated_answer(step)
    return None if answer is None or reference is None else answer == reference


def stated_answer(step: str) -> Fraction | None:
    r"""The number that a step states as the final answer, in a box or after "answer" or ``####``; ``None`` for none.

    >>> [str(stated_answer(text)) for text in (r"So \boxed{1,200}.", "Answer: 19", "#### 7", "the answer is 3 x 4 = 12")]
    ['1200', '19', '7', 'None']
    """
    box = last_box(step).answer
    if box is not None:
        return read_number(box)
    found = _ANSWER.findall(step)
    return read_number(found[-1]) if found else None
