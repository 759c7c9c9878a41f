r"""Two values held against each other: units, percentages, plain numbers, and whatever else by algebra."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

from sympy import Add, Expr, Integer, Mul, Pow, Rational

from scope_rlvr.grading.algebra import UNFINISHED, Parser, are_equal, same_number
from scope_rlvr.grading.numbers import read_number
from scope_rlvr.grading.units import DEGREE, PERCENT, split_unit, units_differ

_DECIMALS = re.compile(r"[+-]?[\d,]*\.(\d{2,15})")
_IN_A_BASE = re.compile(r"^(.*\d)_\{?(\d+)\}?$")
_TWO_NUMBERS = re.compile(r"(?<![_^])(?<![_^]\d)\d \d")
_REMARK = re.compile(r"\\text\{[^{}]*(?<![A-Za-z])(?:or|and|not|but|if|maybe|either|possibly|otherwise)(?![A-Za-z])")
"""Words beside a value that leave it open."""
_LETTER_OF_A_CONSTANT = re.compile("[eEiI]")


def can_be_read(latex: str, parse: Parser) -> bool:
    """Whether a value means anything."""
    if _TWO_NUMBERS.search(latex) or _REMARK.search(latex):
        return False
    value = split_unit(latex)[0]
    return read_number(value) is not None or parse(value) is not None


def is_known(latex: str, parse: Parser) -> bool:
    r"""Whether a formula has a value of its own, with no letter and nothing to be worked out in it.

    >>> parse = Parser(is_real=True, ignores_case=True)
    >>> [is_known(text, parse) for text in (r"\frac{1}{2}", r"\log_2 8", r"\sin A", "C(5,2)", "e", "12_8")]
    [True, True, False, False, False, False]
    """
    value = split_unit(latex)[0]
    if _LETTER_OF_A_CONSTANT.fullmatch(value) or _IN_A_BASE.search(value):
        return False
    if read_number(value) is not None:
        return True
    parsed = parse(value)
    return parsed is not None and not parsed.free_symbols and not parsed.has(*UNFINISHED)


def contradict(one: str, other: str, parse: Parser, modulus: str = "") -> bool:
    """Whether two known values are surely different; of other kinds, or in other units, they are not compared."""
    (a, unit_a), (b, unit_b) = split_unit(one), split_unit(other)
    if unit_a != unit_b and PERCENT not in (unit_a, unit_b):
        return False
    parsed = parse(a), parse(b)
    if isinstance(parsed[0], Expr) != isinstance(parsed[1], Expr):
        return False
    return not (are_congruent(a, b, modulus, parse) if modulus else are_same(one, other, parse))


def are_same(gold: str, answer: str, parse: Parser) -> bool:
    r"""Whether two values are equal. A percentage may be written with or without its sign, or as a fraction, and an angle in
    degrees or as a multiple of pi.

    >>> parse = Parser(is_real=True, ignores_case=True)
    >>> are_same(r"\frac{200}{3}\%", r"\frac{2}{3}", parse), are_same("5", "5\\%", parse), are_same("50\\%", "0.5\\%", parse)
    (True, True, False)
    """
    (a, unit_a), (b, unit_b) = split_unit(gold), split_unit(answer)
    if units_differ(unit_a, unit_b):
        return False
    if _equal(a, b, parse, Fraction(1)):
        return True
    if {unit_a, unit_b} == {DEGREE, ""}:
        return r"\pi" in a + b and _equal(_in_radians(a, unit_a), _in_radians(b, unit_b), parse, Fraction(1))
    if (unit_a == PERCENT) == (unit_b == PERCENT):
        return False
    return _equal(a, b, parse, Fraction(1, 100) if unit_b == PERCENT else Fraction(100))


def _in_radians(angle: str, unit: str) -> str:
    return rf"({angle}) \cdot \frac{{\pi}}{{180}}" if unit == DEGREE else angle


def are_congruent(gold: str, answer: str, modulus: str, parse: Parser) -> bool:
    r"""Whether two whole numbers leave the same remainder; letters are compared as they are.

    >>> parse = Parser(is_real=True, ignores_case=True)
    >>> are_congruent(r"3^{10^{30}} + 2", "6", "7", parse), are_congruent("4", "5", "7", parse)
    (True, False)
    """
    m = parse(modulus)
    if not isinstance(m, Integer) or m < 1:
        return are_same(gold, answer, parse)
    remainders = [_remainder(parse(side), int(m)) for side in (gold, answer)]
    return are_same(gold, answer, parse) if None in remainders else remainders[0] == remainders[1]


def _remainder(value: Any, modulus: int) -> int | None:
    """Of a whole number, without working out its powers; ``None`` for anything else."""
    if isinstance(value, Integer):
        return int(value) % modulus
    if isinstance(value, Pow):
        base, exponent = _remainder(value.base, modulus), value.exp.doit()
        return (
            pow(base, int(exponent), modulus)
            if base is not None and isinstance(exponent, Integer) and exponent >= 0
            else None
        )
    if not isinstance(value, Add | Mul):
        return None
    parts = [_remainder(part, modulus) for part in value.args]
    if None in parts:
        return None
    return (sum if isinstance(value, Add) else math.prod)(part for part in parts if part is not None) % modulus


def bases_differ(gold: str, answer: str) -> bool:
    """Whether both values name a base, and not the same one."""
    bases = {base[2] for base in map(_IN_A_BASE.search, (gold, answer)) if base}
    return len(bases) > 1


def is_rounding_of(rounded: str, exact: str, parse: Parser) -> bool:
    r"""Whether a decimal with two digits or more behind its point is another value, rounded or cut off there.

    >>> parse = Parser(is_real=True, ignores_case=True)
    >>> is_rounding_of("0.667", r"\frac{2}{3}", parse), is_rounding_of("0.6", r"\frac{2}{3}", parse), is_rounding_of("1.42", r"\sqrt{2}", parse)
    (True, False, False)
    """
    text = split_unit(rounded)[0]
    found, value = _DECIMALS.fullmatch(text), parse(split_unit(exact)[0])
    number = read_number(text)
    if found is None or number is None or not isinstance(value, Expr) or not value.is_number:
        return False
    step = Rational(1, 10 ** len(found[1]))
    decimal = Rational(number.numerator, number.denominator)
    distance = abs(value - decimal).evalf(20)
    is_cut_off = (abs(value) - abs(decimal)).evalf(20) > 0
    return bool(distance.is_Float and distance <= (step if is_cut_off else step / 2))


def _equal(gold: str, answer: str, parse: Parser, scale: Fraction) -> bool:
    numbers = read_number(gold), read_number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return same_number(numbers[0], numbers[1] * scale, exactly="." not in gold + answer)
    parsed = parse(gold), parse(answer)
    if parsed[0] is None or parsed[1] is None:
        return False
    if scale == 1:
        return are_equal(*parsed)
    return isinstance(parsed[1], Expr) and are_equal(
        parsed[0], parsed[1] * Rational(scale.numerator, scale.denominator)
    )
