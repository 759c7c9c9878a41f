r"""Plain numbers, read exactly and without a computer algebra system."""

from __future__ import annotations

import re
from fractions import Fraction

from scope_rlvr.grading.normal import normal
from scope_rlvr.grading.units import PERCENT

_MAX_EXPONENT = 400
_DECIMAL = r"\d{1,3}(?:,\d{3}){1,130}(?:\.\d{1,400})?|\d{1,400}(?:\.\d{1,400})?"
_SIGNED = re.compile(r"(?P<sign>[+-]?)(?P<rest>.+)")
_DECIMAL_ONLY = re.compile(_DECIMAL)
_POWER_OF_TEN = re.compile(
    rf"(?:(?P<factor>{_DECIMAL})(?:\\times|\\cdot|\*))?10\^(?:\{{(?P<braced>[+-]?\d+)\}}|(?P<digit>\d))"
)
_FRACTION = re.compile(
    r"(?P<whole>\d{1,400})?\\frac(?:\{(?P<a>-?[\d.,]{1,400})\}|(?P<a1>\d))(?:\{(?P<b>[\d.,]{1,400})\}|(?P<b1>\d))"
)
_SLASH = re.compile(rf"(?P<a>{_DECIMAL})/(?P<b>{_DECIMAL})")


def read_number(text: str) -> Fraction | None:
    r"""The number that an answer is, or ``None`` where it is anything else.

    Decimals, thousands separators, fractions and mixed numbers, powers of ten and per cent; a known unit is left out.

    >>> [str(read_number(text)) for text in (r"\frac{1}{2}", "50\\%", "1,234.5", r"4.5\times 10^{3}", "2e-3", "-3\\frac12")]
    ['1/2', '1/2', '2469/2', '4500', '1/500', '-7/2']
    >>> read_number(r"\sqrt{2}") is None, read_number("1,2") is None, read_number("3/0") is None
    (True, True, True)
    """
    found = normal(text)
    signed = _SIGNED.fullmatch(re.sub(r"\s+", "", found.latex))
    if signed is None:
        return None
    value = _unsigned(signed["rest"])
    if value is None:
        return None
    return (-value if signed["sign"] == "-" else value) / (100 if found.unit == PERCENT else 1)


def are_close(a: Fraction, b: Fraction, relative: float, absolute: float = 0.0) -> bool:
    """Whether ``|a - b| <= max(relative * max(|a|, |b|), absolute)``, in exact arithmetic.

    >>> are_close(Fraction(1, 3), Fraction("0.333333"), 1e-5), are_close(Fraction(0), Fraction(1, 10**9), 1e-5)
    (True, False)
    """
    return abs(a - b) <= max(Fraction(relative) * max(abs(a), abs(b)), Fraction(absolute))


def _unsigned(text: str) -> Fraction | None:
    if _DECIMAL_ONLY.fullmatch(text):
        return _decimal(text)
    if found := _POWER_OF_TEN.fullmatch(text):
        exponent = int((found["braced"] or found["digit"])[:8])
        if abs(exponent) > _MAX_EXPONENT:
            return None
        return _decimal(found["factor"] or "1") * Fraction(10) ** exponent
    if found := _SLASH.fullmatch(text):
        return _ratio(found["a"], found["b"])
    if found := _FRACTION.fullmatch(text):
        ratio = _ratio(found["a"] or found["a1"], found["b"] or found["b1"])
        return None if ratio is None else ratio + int(found["whole"] or 0)
    return None


def _ratio(a: str, b: str) -> Fraction | None:
    if not (_DECIMAL_ONLY.fullmatch(a.removeprefix("-")) and _DECIMAL_ONLY.fullmatch(b)):
        return None
    bottom = _decimal(b)
    return _decimal(a) / bottom if bottom else None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))
