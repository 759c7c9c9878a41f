"""The exact truth about a step: are its equations true, and does the story justify what they calculate?

Words are ignored. Equal numbers that stand for different things are told apart by formulas
(:mod:`scope_rlvr.problems.stories.algebra`); where a number of a step could be either, the reading in the step's favour
counts. The order of steps does not matter: a number of a step may be any quantity of the plan, said before or not, and
whatever an earlier step calculated.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from enum import StrEnum
from fractions import Fraction
from operator import add, mul

from scope_rlvr.problems.equations import (
    Equation,
    Expression,
    Number,
    Product,
    Sum,
    UnreadableError,
    is_true,
    read_equations,
    value_of,
)
from scope_rlvr.problems.stories.algebra import PRIME, Justified, fingerprint

ANSWER_PATTERN = r"Answer: (\d+)"
_ANSWER = re.compile(ANSWER_PATTERN)
_ANSWER_WORD = re.compile(r"answer\s*:", re.IGNORECASE)
_MAX_READINGS = 20_000
_MAX_DIGITS = 18


class StepTruth(StrEnum):
    """What the checker says about one step."""

    RIGHT = "right"
    """It has an equation, all its equations are true, and the story justifies them; or it is the right answer."""
    WRONG = "wrong"
    """A false equation, a calculation that leads to nothing in the story, a wrong answer, or something after the answer."""
    NEUTRAL = "neutral"
    """It has no equation."""
    UNREADABLE = "unreadable"
    """It has an equals sign, and what stands beside it is not numbers and operations."""


def truths(justified: Justified, answer: int, steps: Sequence[str]) -> Iterator[StepTruth]:
    """One word for each step; everything after the answer line that is not blank is wrong."""
    checker, is_answered = Checker(justified), False
    for step in steps:
        if is_answered:
            yield StepTruth.WRONG if step.strip() else StepTruth.NEUTRAL
            continue
        calculation, line = split_answer(step)
        truth = checker.truth_of(calculation)
        if line is not None and truth is not StepTruth.WRONG:
            is_answered = True
            truth = StepTruth.RIGHT if states(line, answer) else StepTruth.WRONG
        yield truth


def split_answer(step: str) -> tuple[str, str | None]:
    """A step without its answer line, and that line; ``None`` where its last line is not an answer.

    >>> split_answer("4 + 3 = 7\\nAnswer: 7")
    ('4 + 3 = 7', 'Answer: 7')
    """
    before, _, last = step.strip().rpartition("\n")
    return (before, last.strip()) if _ANSWER_WORD.match(last.strip()) else (step, None)


def states(line: str, answer: int) -> bool:
    """Whether an answer line has the form that verifiers read, and this answer."""
    found = _ANSWER.fullmatch(line)
    return found is not None and len(found[1]) <= _MAX_DIGITS and int(found[1]) == answer


class Checker:
    """Judges one calculation after the other and remembers what they came to, also what an ``earlier`` checker saw.

    ``found`` are the fingerprints of what the right calculations came to, with their values.
    """

    def __init__(self, justified: Justified, earlier: Checker | None = None) -> None:
        self._justified = justified
        readings: Mapping[Fraction, Set[int]] = earlier._readings if earlier else justified.readings
        self._readings: dict[Fraction, set[int]] = {value: set(marks) for value, marks in readings.items()}
        self.found: dict[int, Fraction] = dict(earlier.found) if earlier else {}

    def truth_of(self, text: str) -> StepTruth:
        try:
            found = [self._accepts(equation) for equation in read_equations(text)]
        except (UnreadableError, ZeroDivisionError):
            return StepTruth.UNREADABLE
        if not found:
            return StepTruth.NEUTRAL
        return StepTruth.RIGHT if all(found) else StepTruth.WRONG

    def numbers(self) -> list[int]:
        """The whole numbers that a calculation may use so far, ascending."""
        return sorted(int(value) for value in self._readings if value.denominator == 1)

    def _accepts(self, equation: Equation) -> bool:
        """Whether an equation is true and its first calculation justified; what follows in a chain may be any arithmetic.

        No quantity of a story is negative.
        """
        calculation = next(side for side in equation.sides if not isinstance(side, Number))
        value = value_of(calculation)
        if not is_true(equation) or value < 0:
            return False
        found = self._formulas_of(calculation) & self._justified.formulas
        self._readings.setdefault(value, set()).update(found)
        self.found.update(dict.fromkeys(found, value))
        return bool(found) or _is_remaining_share(self._justified, calculation)

    def _formulas_of(self, expression: Expression) -> set[int]:
        """The fingerprints of all formulas that an expression can stand for."""
        match expression:
            case Number(value):
                found = self._readings.get(value, set()) | {fingerprint(value)}
                # Half of something is also that something shared by the two children of the story.
                return found if value.numerator != 1 else found | _inverses(self._readings.get(1 / value, ()))
            case Sum(terms):
                return _combined(self._terms(terms), add)
            case Product(factors):
                marks = ((exponent, self._formulas_of(factor)) for exponent, factor in factors)
                return _combined((found if e > 0 else _inverses(found) for e, found in marks), mul)

    def _terms(self, terms: Sequence[tuple[int, Expression]]) -> Iterator[set[int]]:
        """The formulas of each term. Equal numbers that are added are also read as a product: ``4 + 4 + 4``, 3 bags of 4."""
        for (sign, expression), count in Counter(terms).items():
            marks = self._formulas_of(expression)
            found = _combined([marks] * count, add)
            if count > 1:
                found |= {mark * times for mark in marks for times in self._readings.get(Fraction(count), ())}
            yield {sign * mark % PRIME for mark in found}


def unfinished_result(text: str) -> int | None:
    """What the last calculation of a text comes to whose result is missing, or has only begun; ``None`` for no whole number.

    >>> unfinished_result("Mia has 4 + 8 = 1"), unfinished_result("So 12 - 5"), unfinished_result("So 12")
    (12, 7, None)
    """
    before, _, after = text.rpartition("=")
    try:
        equations = read_equations(f"{before or after} = 0")
        results = [value_of(next(s for s in one.sides if not isinstance(s, Number))) for one in equations]
    except (UnreadableError, ZeroDivisionError):
        return None
    return int(results[-1]) if results and results[-1].denominator == 1 else None


def _is_remaining_share(justified: Justified, side: Expression) -> bool:
    """``100 - 20`` or ``1 - 1/3``: what is left of the whole when a share of the story is taken away."""
    if not isinstance(side, Sum) or len(side.terms) != 2:
        return False
    (_, whole), (sign, share) = side.terms
    if whole not in (Number(Fraction(1)), Number(Fraction(100))) or sign > 0:
        return False
    return value_of(share) in justified.shares and (value_of(share) < 1) == (value_of(whole) == 1)


def _inverses(marks: Iterable[int]) -> set[int]:
    return {pow(mark, -1, PRIME) for mark in marks if mark}


def _combined(parts: Iterable[set[int]], combine: Callable[[int, int], int]) -> set[int]:
    """What comes out when one fingerprint of each part is taken, in all ways."""
    found: set[int] = set()
    for number, marks in enumerate(parts):
        if len(found) * len(marks) > _MAX_READINGS:
            raise UnreadableError("its numbers can be read in too many ways")
        found = {combine(one, other) % PRIME for one in found for other in marks} if number else set(marks)
    return found
