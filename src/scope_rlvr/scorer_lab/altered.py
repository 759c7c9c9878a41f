"""Labelled solutions without a labeller: worked solutions with one mistake each, carried on to the end.

Three mistakes are made, and a quarter of the solutions stays right: a result is off, an operation is another one, or a number
is another one of the problem or the solution. After a wrong result the solution goes on with it: the number is replaced in the steps
that use it, and their results are worked out again. So only the first kind leaves a false equation, and only where it was made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from random import Random

from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Problem
from scope_rlvr.problems.calculations import numbers_in, read_calculations, split_solution
from scope_rlvr.problems.equations import UnreadableError, read_equations, value_of
from scope_rlvr.problems.family import ProblemFamily
from scope_rlvr.problems.labelled import LabelledSolution

_NUMBER = r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\d)"
_EQUATION = re.compile(
    rf"(?P<left>\$?{_NUMBER})(?P<operations>(?:\s*[-+*/x]\s*\$?{_NUMBER})+)\s*=\s*\$?(?P<result>{_NUMBER})"
)
_OPERATION = re.compile(r"(?<=[\d\s])[-+*/x](?=[\s$\d])")
_MOST_TRIES = 20


class _NotPossible(Exception):
    """A mistake that would leave something that cannot be written."""


@dataclass
class _Carried:
    """Results that are others now, by what they were."""

    changed: dict[str, str] = field(default_factory=dict)

    def through(self, step: str) -> str:
        """A step that goes on from what has changed."""
        step = re.sub(_NUMBER, lambda found: self.changed.get(found[0], found[0]), step)
        for equation in list(_EQUATION.finditer(step))[::-1]:
            step = self.stated(step, equation, _worked_out(equation[0]))
        return step

    def stated(self, step: str, equation: re.Match[str], result: str) -> str:
        """A step in which an equation has another result."""
        old, (start, end) = equation["result"], equation.span("result")
        if result == old:
            return step
        self.changed[old] = result
        return step[:start] + result + re.sub(_NUMBER, lambda f: result if f[0] == old else f[0], step[end:])


def altered(problem: Problem, steps: Sequence[str], rng: Random) -> LabelledSolution:
    """A right solution, or the same with one mistake and all that follows from it.

    >>> problem = Problem("p", "4 eggs, 3 more, 5 cents each", "35")
    >>> steps = ["4 + 3 = 7 eggs", "7 * 5 = 35 cents", "Answer: 35"]
    >>> altered(problem, steps, Random(3)).steps
    ('4 + 3 = 8 eggs', '8 * 5 = 40 cents', 'Answer: 40')
    """
    make = rng.choice([None, *_MISTAKES])
    for _ in range(_MOST_TRIES if make is not None else 0):
        assert make is not None
        try:
            first_wrong, wrong = _with_mistake(problem, steps, make, rng)
        except _NotPossible:
            continue
        return LabelledSolution(problem, wrong, first_wrong)
    return LabelledSolution(problem, tuple(steps), None)


def altered_solutions(
    problems: Sequence[Problem], separator: str, seed: int, family: ProblemFamily | None = None
) -> list[LabelledSolution]:
    """One solution of each problem that has a worked one, most with a mistake.

    Where a ``family`` knows the truth, the order of the steps is drawn, and its checker makes the label: a mistake may be none.
    """
    made = []
    for problem in problems:
        rng = Random(derive_seed(seed, "altered", problem.id))
        if family is not None:
            text = family.random_solution(problem, rng)
        elif problem.solution is not None:
            text = problem.solution
        else:
            continue
        solution = altered(problem, split_solution(text, separator), rng)
        if family is not None:
            solution = replace(solution, first_wrong=family.first_wrong_step(problem, solution.steps))
        made.append(solution)
    return made


# --- mistakes ---------------------------------------------------------------------------------------------------------

_Mistake = Callable[[str, re.Match[str], Sequence[str], Random], str]
"""Of a step, an equation in it and the numbers around, the equation with a mistake."""


def _slip(step: str, equation: re.Match[str], numbers: Sequence[str], rng: Random) -> str:
    result = Fraction(equation["result"].replace(",", ""))
    off = rng.choice([n for n in (-10, -2, -1, 1, 2, 10) if result + n > 0])
    return equation[0][: equation.start("result") - equation.start()] + _written(result + off)


def _other_operation(step: str, equation: re.Match[str], numbers: Sequence[str], rng: Random) -> str:
    found = rng.choice(list(_OPERATION.finditer(equation[0])))
    other = rng.choice([sign for sign in "+-*/" if sign != found[0].replace("x", "*")])
    return _with_result(equation[0][: found.start()] + other + equation[0][found.end() :])


def _other_number(step: str, equation: re.Match[str], numbers: Sequence[str], rng: Random) -> str:
    left = equation[0].rpartition("=")[0]
    found = rng.choice(list(re.finditer(_NUMBER, left)))
    others = [number for number in numbers if number != found[0]]
    if not others:
        raise _NotPossible
    return _with_result(equation[0][: found.start()] + rng.choice(others) + equation[0][found.end() :])


_MISTAKES: Sequence[_Mistake] = (_slip, _other_operation, _other_number)


def _with_mistake(problem: Problem, steps: Sequence[str], make: _Mistake, rng: Random) -> tuple[int, tuple[str, ...]]:
    places = [
        (k, equation) for k, step in enumerate(steps) for equation in _EQUATION.finditer(step) if _is_read(equation[0])
    ]
    if not places:
        raise _NotPossible
    at, equation = rng.choice(places)
    numbers = sorted(map(_written, numbers_in("\n".join([problem.prompt, *steps[:at]]))))
    wrong = make(steps[at], equation, numbers, rng)
    mended = _EQUATION.fullmatch(wrong)
    if mended is None or mended["result"] == equation["result"]:
        raise _NotPossible
    carried = _Carried({equation["result"]: mended["result"]})
    after = re.sub(_NUMBER, lambda f: carried.changed.get(f[0], f[0]), steps[at][equation.end() :])
    step = steps[at][: equation.start()] + wrong + after
    return at, (*steps[:at], step, *(carried.through(later) for later in steps[at + 1 :]))


def _is_read(equation: str) -> bool:
    found = read_calculations(equation).found
    return len(found) == 1 and found[0].is_true is True


def _with_result(equation: str) -> str:
    return f"{equation.rpartition('=')[0].rstrip()} = {_worked_out(equation)}"


def _worked_out(equation: str) -> str:
    """What the left side of an equation comes to."""
    try:
        (worked,) = read_equations(f"{equation.rpartition('=')[0]} = 0")
        return _written(value_of(worked.sides[0]))
    except (UnreadableError, ZeroDivisionError, ValueError) as error:
        raise _NotPossible from error


def _written(value: Fraction) -> str:
    if value <= 0 or (value * 100).denominator != 1:
        raise _NotPossible
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.2f}".rstrip("0")
