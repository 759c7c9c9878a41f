r"""What a formula means, and whether two mean the same: ``math-verify`` and its LaTeX parser, and the rules they lack.

Nothing is evaluated as code, and nothing here has a time limit: this runs in a process that is killed at the deadline.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import Derivative, Expr, Float, I, Integral, Limit, Product, Rational, Sum, Symbol, degree, nan, zoo
from sympy.core.function import AppliedUndef

from scope_rlvr.grading.units import OF_AN_ANGLE

logging.getLogger("math_verify").setLevel(logging.CRITICAL)
logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)

SIX_DIGITS = 5e-6
"""Two numbers are equal where they agree in six significant digits."""
_TWELVE_DIGITS = 1e-12

_NORMALIZATION = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
)
_UNREADABLE = ((re.compile(r"(?<![A-Za-z\\])E(?=_)"), r"\\Xi"), (re.compile(r"_(?:\{\\odot\}|\\odot)"), "_{sun}"))
"""Names that the parser gives up on: an E with an index (it knows Euler's number alone), and the mark of the sun."""
_COMMAND = re.compile(r"\\[A-Za-z]+")
UNFINISHED = (Integral, Sum, Product, Limit, Derivative, AppliedUndef)
"""What a formula with one of these comes to is not known without work, or at all."""
_ABOVE = (37, 71, 193, 11, 331, 29, 107, -71, 43, -29, -17)
_BELOW = (53, 61, 89, 83, 67, 97, 101, 73, 59, 31, 79)
_POINTS = tuple(Rational(*pair) for pair in zip(_ABOVE, _BELOW, strict=True))
"""Seven positive ones in a row, since roots and logarithms are real there, then some of either sign."""
_MOST_VARIABLES = 4
_FEWEST_POINTS = 3
_LETTERS_OF_CONSTANTS = frozenset({"e", "i"})


@dataclass(frozen=True, slots=True)
class Parser:
    """Reads the formulas of one comparison alike: letters as real or complex, capitals as other letters or not."""

    is_real: bool
    ignores_case: bool

    @classmethod
    def of(cls, *formulas: str) -> Parser:
        r"""One that suits all of some formulas: where none holds a letter both small and capital, capitals do not matter.

        >>> Parser.of(r"\pi(R^2-r^2)", "0"), Parser.of("2n", "2N")
        (Parser(is_real=True, ignores_case=False), Parser(is_real=True, ignores_case=True))
        """
        letters = [set(_COMMAND.sub("", formula)) for formula in formulas]
        has_both = any(found & {char.swapcase() for char in found if char.isalpha()} for found in letters)
        return cls(not any(map(should_treat_as_complex, formulas)), not has_both)

    def __call__(self, latex: str) -> Any | None:
        """What a formula means to sympy; ``None`` where it cannot be read, or has no value."""
        return _parsed(latex, self.is_real, self.ignores_case)


@lru_cache(maxsize=512)
def _parsed(latex: str, is_real: bool, ignores_case: bool) -> Any | None:
    for name, readable in _UNREADABLE:
        latex = name.sub(readable, latex)
    try:
        found = latex2sympy(
            normalize_latex(latex, _NORMALIZATION),
            is_real=is_real,
            convert_degrees=bool(OF_AN_ANGLE.search(latex)),
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=ignores_case),
        )
    except Exception:  # The parser says in many ways that it gives up.
        return None
    return None if found in (nan, zoo) else found


def are_equal(gold: Any, answer: Any) -> bool:
    """Whether two parsed formulas mean the same."""
    at_points = _agree_at_points(gold, answer)
    if at_points is False:
        return False
    if verify(gold, answer, timeout_seconds=None, raise_on_error=True):  # type: ignore[arg-type]
        return not _numbers_differ(gold, answer)
    return bool(at_points) or _is_one_letter(gold, answer) or _are_one_complex_number(gold, answer)


def _numbers_differ(gold: Any, answer: Any) -> bool:
    """Two numbers that math-verify calls equal because it rounds to six decimals, and that differ in six digits."""
    if gold == answer or not all(isinstance(side, Expr) and side.is_number for side in (gold, answer)):
        return False
    a, b = (side.doit().evalf(20) for side in (gold, answer))
    if not b:
        return bool(a)
    # As a ratio, which neither overflows nor vanishes.
    return not abs(complex(a / b) - 1) <= SIX_DIGITS


def _agree_at_points(gold: Any, answer: Any) -> bool | None:
    """Whether two formulas with letters agree wherever both are real; ``None`` where too few points show it.

    One point is enough to tell formulas apart, long before ``simplify`` gives up; several show what it misses about roots and
    powers. Letters are put at points of either sign.
    """
    sides = (gold, answer)
    if not all(isinstance(side, Expr) and not side.is_Symbol and not side.has(*UNFINISHED) for side in sides):
        return None
    names = sorted(symbol_names(gold) | symbol_names(answer))
    if not names or len(names) > _MOST_VARIABLES or not _LETTERS_OF_CONSTANTS.isdisjoint(names):
        return None
    tolerance = SIX_DIGITS if gold.has(Float) or answer.has(Float) else _TWELVE_DIGITS
    num_real = 0
    for start in range(len(_POINTS)):
        point = {name: _POINTS[(start + place) % len(_POINTS)] for place, name in enumerate(names)}
        a, b = (side.subs({s: point[s.name] for s in side.free_symbols}).evalf(20) for side in sides)
        if not (a.is_Float and b.is_Float):
            continue
        if abs(a - b) > tolerance * max(abs(a), abs(b)):
            return False
        num_real += 1
    return num_real >= _FEWEST_POINTS or None


def _is_one_letter(gold: Any, answer: Any) -> bool:
    """Whether a letter is all that is left of two formulas: ``x + 0``."""
    if not all(isinstance(side, Expr) for side in (gold, answer)) or not (gold.is_Symbol or answer.is_Symbol):
        return False
    return bool((gold - answer).expand() == 0)


def _are_one_complex_number(gold: Any, answer: Any) -> bool:
    r"""Whether ``a + b i`` and an answer are equal where the letter i, which the parser takes for a variable, is the unit."""
    if not all(isinstance(side, Expr) and symbol_names(side) <= {"i"} for side in (gold, answer)):
        return False
    units = [s for side in (gold, answer) for s in side.free_symbols]
    if not units or not all(gold.is_polynomial(s) and degree(gold, s) <= 1 for s in gold.free_symbols):
        return False
    difference = (gold - answer).subs(dict.fromkeys(units, I)).expand()
    return bool(difference.is_zero)


def same_number(gold: Fraction, answer: Fraction, *, exactly: bool) -> bool:
    """Whether two plain numbers are equal; unless ``exactly``, to six decimals and six significant digits.

    >>> same_number(Fraction(1, 3), Fraction("0.333333"), exactly=False), same_number(Fraction(1), Fraction("1.000002"), exactly=False)
    (True, False)
    """
    if exactly:
        return gold == answer
    return round(gold, 6) == round(answer, 6) and abs(gold - answer) <= Fraction(SIX_DIGITS) * max(
        abs(gold), abs(answer)
    )


def symbol_names(value: Any) -> set[str]:
    """The letters of a parsed formula."""
    return {s.name for s in getattr(value, "free_symbols", ()) if isinstance(s, Symbol)}
