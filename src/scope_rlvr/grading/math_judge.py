r"""What the grading process decides: whether an answer is the gold, on top of ``math-verify``.

``math-verify`` parses LaTeX (never by evaluating it) and compares with sympy; its own timers are off, since the process
that this runs in is killed at the deadline. Around it stand the rules that it lacks: chains of equations that do not
hold, numbers so small that its six decimals make all of them equal, bases, and words.
"""

from __future__ import annotations

import logging
import re
from itertools import pairwise
from typing import Any

from latex2sympy2_extended import NormalizationConfig
from math_verify import LatexExtractionConfig, parse, verify
from sympy import Expr, nan, zoo

from scope_rlvr.grading.normal import normal, plain_words

logging.getLogger("math_verify").setLevel(logging.CRITICAL)
logging.getLogger("latex2sympy2_extended").setLevel(logging.CRITICAL)

SIX_DIGITS = 5e-6
"""Two numbers are equal where they agree in six significant digits."""

_EXTRACTION = (
    LatexExtractionConfig(
        boxed_match_priority=-1,
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
        ),
    ),
)
_NAME = re.compile(
    r"(?!\\(?:pi|infty)(?![A-Za-z]))\\?[A-Za-z]+(?:_(?:\{[^{}]*\}|\w))?'*"
    r"|[A-Za-z](?:_\w|\^\{?-1\}?)?'*\s*\([\w\s,.+-]*\)|\([A-Za-z](?:\s*,\s*[A-Za-z])*\)|\\text\{[^{}]*\}"
)
"""What may stand on the left of ``=`` and get a value: ``x``, ``x_1``, ``\\theta``, ``f(2)``, ``(x, y)``, upright text."""
_MEMBER = re.compile(rf"^(?:{_NAME.pattern})\s*\\in(?![A-Za-z])\s*")
_AND_OR = re.compile(r"\s*,?\s*(?:\\text\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*")
_BASE = re.compile(r"_\{?(\d+)\}?$")
_UNREADABLE = ((re.compile(r"(?<![A-Za-z\\])E(?=_)"), r"\\Xi"), (re.compile(r"_(?:\{\\odot\}|\\odot)"), "_{sun}"))
"""Names that the parser gives up on: an E with an index (it knows Euler's number alone), and the mark of the sun."""
_WARM_UP = (
    (r"\frac{3\sqrt{2}}{4}", "0.75"),
    (r"(-\infty, 2) \cup [3, \infty)", "x = 3"),
    (r"x^{2} - 2x + 1", "(x-1)^2"),
    (r"1 \pm \sqrt{19}", "1, 2"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\left(\frac{\pi}{2}, 3\right)"),
    (r"4.5\times 10^{33}", r"12\%"),
)

Verdict = tuple[str, str]


def make_judge() -> Any:
    """The judge, after it has parsed a few things: the first time costs a second."""
    for gold, answer in _WARM_UP:
        judge(gold, answer)
    return judge


def judge(gold: str, answer: str) -> Verdict:
    r"""Whether ``answer`` is ``gold``: outcome and reason code.

    >>> judge("5", "2+3=5"), judge("5", "4=5"), judge(r"4.5e33", r"45 \cdot 10^{32}")
    (('right', 'equal'), ('wrong', 'unequal_chain'), ('right', 'equal'))
    >>> judge("1e-8", "2e-8"), judge("\\frac{", "1")
    (('wrong', 'unequal'), ('unknown', 'gold_unparsable'))
    """
    wanted, given = normal(gold), normal(answer)
    if wanted.key == given.key:
        return ("wrong", "other_unit") if _units_differ(wanted.unit, given.unit) else ("right", "same_text")
    if wanted.words is not None:
        return ("right", "same_words") if plain_words(given.latex) == wanted.words else ("wrong", "other_words")
    if _units_differ(wanted.unit, given.unit):
        return "wrong", "other_unit"
    parsed_gold = _parsed(_without_member(wanted.latex))
    if parsed_gold is None or parsed_gold in (nan, zoo):
        return "unknown", "gold_unparsable"
    return _compare(wanted.latex, parsed_gold, _without_member(given.latex))


def _compare(gold: str, parsed_gold: Any, answer: str) -> Verdict:
    if re.search(r"\d \d", answer):
        return "wrong", "answer_unparsable"
    reduced = _values(_exact_part(answer), gold_is_equation=len(_split(gold, "=")) > 1)
    if reduced is None:
        return "wrong", "unequal_chain"
    bases = [base[1] for base in map(_BASE.search, (gold, reduced)) if base]
    if len(set(bases)) > 1:
        return "wrong", "other_base"
    parsed = _parsed(reduced)
    if parsed is None:
        return "wrong", "answer_unparsable"
    return ("right", "equal") if _are_equal(parsed_gold, parsed) else ("wrong", "unequal")


def _units_differ(a: str, b: str) -> bool:
    """A unit that is left out is never a mistake: the problem names it."""
    return bool(a and b and a != b)


def _parsed(latex: str) -> Any | None:
    """What math-verify reads in a formula, by its LaTeX parser alone; ``None`` where it reads nothing."""
    for name, readable in _UNREADABLE:
        latex = name.sub(readable, latex)
    found = parse(f"${latex}$", list(_EXTRACTION), fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if found else None


def _are_equal(gold: Any, answer: Any) -> bool:
    if not verify(gold, answer, timeout_seconds=None, raise_on_error=True):  # type: ignore[arg-type]
        return False
    return not _numbers_differ(gold, answer)


def _numbers_differ(gold: Any, answer: Any) -> bool:
    """Two numbers that math-verify calls equal because it rounds to six decimals, and that differ in six digits."""
    if not all(isinstance(side, Expr) and side.is_number for side in (gold, answer)):
        return False
    a, b = (complex(side.doit().evalf(20)) for side in (gold, answer))
    # 50 % may be written 50: math-verify takes the percent sign for a unit.
    return all(abs(a - scale * b) > SIX_DIGITS * max(abs(a), abs(scale * b)) for scale in (1, 100, 0.01))


def _without_member(latex: str) -> str:
    r"""``x \in [0, 1]`` as ``[0, 1]``."""
    return _MEMBER.sub("", latex)


def _exact_part(latex: str) -> str:
    r"""What stands before a ``\approx``, or behind it where a mere name stands before."""
    parts = [part for part in re.split(r"\\approx(?![A-Za-z])", latex) if part.strip()]
    if len(parts) > 1 and _NAME.fullmatch(parts[0].strip()):
        return parts[1].strip()
    return parts[0].strip() if parts else ""


def _values(latex: str, *, gold_is_equation: bool) -> str | None:
    """An answer with every chain of equations in it replaced by its value; ``None`` where one does not hold.

    Of several answers, as in ``x = 1, x = -2``, each may be one.
    """
    entries = _split(_AND_OR.sub(",", latex), ",")
    if len(entries) == 1:
        return _value_of_chain(latex, gold_is_equation=gold_is_equation)
    if gold_is_equation or "=" not in latex:
        return latex
    values = [_value_of_chain(entry, gold_is_equation=False) for entry in entries]
    return None if None in values else ",".join(value for value in values if value is not None)


def _value_of_chain(latex: str, *, gold_is_equation: bool) -> str | None:
    """The value that a chain of equations arrives at; ``None`` where the chain does not hold.

    A name at its beginning is what gets the value. Where the gold is an equation, a single equation stays as it is.
    """
    parts = _split(latex, "=")
    name = parts[0] if len(parts) > 1 and _NAME.fullmatch(parts[0]) else None
    values = parts[1:] if name else parts
    if len(values) == 1:
        return latex if name is None or gold_is_equation else values[0]
    if gold_is_equation and len(parts) == 2:
        return latex
    parsed = [_parsed(value) for value in values]
    if any(value is None for value in parsed):
        return None
    if not all(_are_equal(a, b) for a, b in pairwise(parsed)):
        return None
    return f"{name}={values[-1]}" if name and gold_is_equation else values[-1]


def _split(latex: str, sign: str) -> list[str]:
    r"""The parts between signs that stand outside all brackets and are no part of ``\le``, ``<=``, ``!=`` or ``:=``.

    >>> _split("x = 2 + 3 = 5", "="), _split("a <= b", "="), _split("f(x=1)", "=")
    (['x', '2 + 3', '5'], ['a <= b'], ['f(x=1)'])
    """
    parts, depth, start = [], 0, 0
    for at, char in enumerate(latex):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == sign and depth <= 0 and latex[at - 1 : at] not in ("<", ">", "!", ":", "\\"):
            parts.append(latex[start:at].strip())
            start = at + 1
    return [*parts, latex[start:].strip()]
