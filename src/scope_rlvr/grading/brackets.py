r"""Formulas taken apart at their brackets: lists, tuples, and signs outside all brackets."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPENING, _CLOSING = "([{", ")]}"
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3}){1,130}(?!\d|,\d)")
_ENVIRONMENT = re.compile(r"\\(begin|end)(?![A-Za-z])")
_AND_OR = re.compile(r"\s*,?\s*(?:\\text\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*")
_MOST_SIGNS = 3


def split(latex: str, sign: str) -> list[str]:
    r"""The parts between signs that are outside all brackets and no part of ``\le``, ``<=``, ``!=`` or ``:=``.

    >>> split("x = 2 + 3 = 5", "="), split("a <= b", "="), split("f(x=1)", "="), split("1,234, 5", ",")
    (['x', '2 + 3', '5'], ['a <= b'], ['f(x=1)'], ['1,234', '5'])
    """
    if sign not in latex:
        return [latex.strip()]
    kept = {at for found in _THOUSANDS.finditer(latex) for at in range(*found.span())} if sign == "," else set()
    marks = {found.start(): 1 if found[1] == "begin" else -1 for found in _ENVIRONMENT.finditer(latex)}
    parts, depth, start = [], 0, 0
    for at, char in enumerate(latex):
        depth += (char in _OPENING) - (char in _CLOSING) + marks.get(at, 0)
        if char == sign and depth <= 0 and at not in kept and latex[at - 1 : at] not in ("<", ">", "!", ":", "\\"):
            parts.append(latex[start:at].strip())
            start = at + 1
    return [*parts, latex[start:].strip()]


def outside_brackets(latex: str) -> str:
    r"""What of a formula is in no brackets.

    >>> outside_brackets("P(X > 2) + a_{1}")
    'P + a_'
    """
    kept, depth = [], 0
    for char in latex:
        depth -= char in _CLOSING
        if depth <= 0 and char not in _OPENING + _CLOSING:
            kept.append(char)
        depth += char in _OPENING
    return "".join(kept)


@dataclass(frozen=True, slots=True)
class Bracketed:
    """Several values: ``brackets`` around them (``"(]"``), or none for a list or a set, in which order does not matter."""

    brackets: str
    entries: tuple[str, ...]


def without_outer_brackets(latex: str) -> str:
    r"""Without brackets that hold the whole formula and mean nothing.

    >>> without_outer_brackets("((42))"), without_outer_brackets("(1, 2)"), without_outer_brackets("(a)(b)"), without_outer_brackets("{5}")
    ('42', '(1, 2)', '(a)(b)', '5')
    """
    while latex[:1] in tuple("({") and _pairs(latex).get(0) == len(latex) - 1:
        inner = latex[1:-1].strip()
        if not inner or len(split(inner, ",")) > 1:
            break
        latex = inner
    return latex


def group_of(latex: str) -> Bracketed | None:
    r"""The values of a list, a set, a tuple or an interval; ``None`` for a single value.

    >>> group_of("1, 2"), group_of(r"\{1\}"), group_of("(0, 1]"), group_of("5"), group_of("(1,2),(3,4)").entries
    (Bracketed(brackets='', entries=('1', '2')), Bracketed(brackets='', entries=('1',)), Bracketed(brackets='(]', entries=('0', '1')), None, ('(1,2)', '(3,4)'))
    """
    entries = split(_AND_OR.sub(", ", latex).replace(";", ","), ",")
    if len(entries) > 1:
        return Bracketed("", tuple(entry for entry in entries if entry))
    set_of = re.fullmatch(r"\\\{(.*)\\\}", latex, re.DOTALL)
    if set_of:
        return Bracketed("", tuple(split(_AND_OR.sub(", ", set_of[1]).replace(";", ","), ",")))
    if len(latex) < 2 or _pairs(latex).get(0) != len(latex) - 1:
        return None
    inside = split(latex[1:-1].replace(";", ","), ",")
    if len(inside) < 2:
        return None
    brackets = latex[0] + latex[-1]
    return Bracketed("" if brackets == "{}" else brackets, tuple(inside))


def signs_apart(latex: str) -> list[str]:
    r"""One formula for each choice of ``\pm``; with ``\mp`` in it, its signs go together. A set keeps its signs.

    >>> signs_apart(r"\frac{-1 \pm \sqrt{5}}{2}"), signs_apart(r"\pm 3"), signs_apart("4")
    (['\\frac{-1 + \\sqrt{5}}{2}', '\\frac{-1 - \\sqrt{5}}{2}'], ['3', '- 3'], ['4'])
    """
    count = 0 if r"\{" in latex else len(re.findall(r"\\pm(?![A-Za-z])", latex))
    if count and r"\mp" in latex:
        pairs = [("+", "-"), ("-", "+")]
        found = [re.sub(r"\\mp(?![A-Za-z])", low, re.sub(r"\\pm(?![A-Za-z])", up, latex)) for up, low in pairs]
    elif 0 < count <= _MOST_SIGNS:
        found = [latex]
        for _ in range(count):
            found = [re.sub(r"\\pm(?![A-Za-z])", sign, text, count=1) for text in found for sign in "+-"]
    else:
        return [latex]
    return [re.sub(r"(^|[({,])\s*\+\s*", r"\1", text) for text in found]


def _pairs(latex: str) -> dict[int, int]:
    """Where each bracket closes, by where it opens; brackets of different kinds may close each other, as in ``(0, 1]``."""
    opened: list[int] = []
    pairs: dict[int, int] = {}
    for at, char in enumerate(latex):
        if char in _OPENING:
            opened.append(at)
        elif char in _CLOSING and opened:
            pairs[opened.pop()] = at
    return pairs
