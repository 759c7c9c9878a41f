r"""What a solution calculates, step by step: which numbers go in, which comes out, and whether that is true.

:mod:`scope_rlvr.problems.equations` reads plain equations exactly. Here is what else people and models write: the annotations
of GSM8K (``48/2 = <<48/2=24>>24``), the commands of LaTeX (``\frac{1}{2} \times 18 = 9``), mixed numbers, results that are
rounded (``10/3 = 3.33``), percentages that are meant as numbers (``5/20 x 100 = 25%``), and chains that go on from a result
(``3*4=12+5=17``). An equation that can be read in no such way is not a false one: it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from scope_rlvr.problems.equation_notation import plain_equations
from scope_rlvr.problems.equations import (
    Equation,
    Expression,
    Number,
    Product,
    Sum,
    read_clauses,
    value_of,
)

_REMEMBERED = 4096
_ANNOTATION = re.compile(r"<<([^<>\n]{1,200})>>")
_NUMBER = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?:\.\d+)?|(?<![\w.,])\d{1,15}(?:\.\d{1,9})?")
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Calculation:
    """An equation as somebody worked it: ``inputs`` in the order in which they are written, and the ``result`` as stated.

    ``is_true`` is ``None`` where the equation holds only if its numbers are rounded, and nothing says that they are.
    """

    inputs: tuple[Fraction, ...]
    result: Fraction
    is_true: bool | None


@dataclass(frozen=True, slots=True)
class Calculations:
    """The calculations of a text in their order, and whether every equals sign in it could be read."""

    found: tuple[Calculation, ...]
    is_complete: bool


@lru_cache(maxsize=_REMEMBERED)
def read_calculations(text: str) -> Calculations:
    r"""What a text calculates.

    >>> read_calculations("She sold 48/2 = <<48/2=24>>24 clips in May.").found[0]
    Calculation(inputs=(Fraction(48, 1), Fraction(2, 1)), result=Fraction(24, 1), is_true=True)
    >>> [c.is_true for c in read_calculations("3*4=12+5=17, 10/3 = 3.33, 5/20 x 100 = 25%, 12 + 5 = 18 apples").found]
    [True, True, True, True, False]
    >>> read_calculations("4 + 3 = 7. So x + 4 = 7").is_complete
    False
    """
    said = _ANNOTATION.sub("", text)
    # What an annotation says is mostly written before it, too; each counts once.
    annotated = [inside for inside in _ANNOTATION.findall(text) if _bare(inside) not in _bare(said)]
    plain = "\n".join([plain_equations(said), *annotated])
    exact, as_numbers = read_clauses(plain), read_clauses(plain, percent=Fraction(1))
    found: list[Calculation] = []
    for clause, other in zip(exact, as_numbers, strict=True):
        found += _better(clause, other)
    return Calculations(tuple(found), None not in exact)


def numbers_in(text: str) -> frozenset[Fraction]:
    """Every number in a text, also the small ones in words.

    >>> sorted(map(str, numbers_in("Two bags of 1,200 nuts cost $4.50.")))
    ['1200', '2', '9/2']
    """
    digits = (Fraction(found.replace(",", "")) for found in _NUMBER.findall(text))
    return frozenset((*digits, *(Fraction(_WORDS.index(word.lower())) for word in _WORD.findall(text))))


def split_solution(text: str, separator: str) -> list[str]:
    r"""The steps of a text that are not blank, cut at the separator, or at the ends of lines where it has none.

    >>> split_solution("a\n\nb\n", "\n\n"), split_solution("a\nb", "\n\n")
    (['a', 'b'], ['a', 'b'])
    """
    pieces = text.split(separator if separator in text.strip() else "\n")
    return [piece.strip() for piece in pieces if piece.strip()]


def _bare(text: str) -> str:
    return re.sub(r"[^\d+\-*/=.]", "", re.sub("[x×]", "*", text))


# --- equations as calculations ----------------------------------------------------------------------------------------


def _better(*readings: tuple[Equation, ...] | None) -> tuple[Calculation, ...]:
    """The calculations of one part of a text, of several readings of it the one that makes most of them true."""
    read = [tuple(_calculations(equations)) for equations in readings if equations is not None]
    return max(read, key=lambda one: sum(c.is_true is not False for c in one), default=())


def _calculations(equations: Sequence[Equation]) -> Iterator[Calculation]:
    for equation in equations:
        try:
            yield from _of(equation.sides)
        except ZeroDivisionError:
            continue


def _of(sides: Sequence[Expression]) -> Iterator[Calculation]:
    first, *others = sides
    if isinstance(first, Number) and all(value_of(side) != first.value for side in others):
        # "Day 1 = 4 + 3 = 7": the number belongs to the words before it.
        sides = others
    for left, right in pairwise(sides):
        if isinstance(left, Number) and isinstance(right, Number):
            continue
        worked, stated = (right, left) if isinstance(left, Number) else (left, right)
        value, result = value_of(worked), _stated(value_of(worked), stated)
        yield Calculation(tuple(_numbers(worked)), result, _holds(value, result))


def _stated(value: Fraction, side: Expression) -> Fraction:
    """What a side says that the side before it comes to: its value, or the number that it goes on from."""
    if isinstance(side, Number) or value_of(side) == value:
        return value_of(side)
    return next(_numbers(side))


def _numbers(expression: Expression) -> Iterator[Fraction]:
    match expression:
        case Number(value):
            yield value
        case Sum(parts) | Product(parts):
            for _, part in parts:
                yield from _numbers(part)


def _holds(value: Fraction, stated: Fraction) -> bool | None:
    """Whether a value is what it is said to be: exactly, or in the decimals that are written, rounded or cut off."""
    if value == stated:
        return True
    unit = Fraction(1, 10 ** _num_decimals(stated))
    if abs(value - stated) >= unit or (value / unit).denominator == 1:
        return False
    return True if unit < 1 else None


def _num_decimals(number: Fraction) -> int:
    return next((n for n in range(10) if (number * 10**n).denominator == 1), 10)
