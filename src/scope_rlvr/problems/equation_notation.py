"""Equations as people and models write them, made plain for :mod:`scope_rlvr.problems.equations`.

Everything here is a substitution, and they run in order. What cannot be made plain becomes a root sign, which no equation of
numbers has: the reader then leaves the equation alone instead of reading a part of it wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

UNREADABLE = "√"

_LETTER = "[B-HJ-WYZb-wyz]"
"""A letter for a number: no article, no pronoun, and no times."""

_UNIT = "(?:st|nd|rd|th|[cmk]?m|k?g|mg|[cm]?l|L|h|s|ms|min|mins|hr|hrs|sec|am|pm|oz|lb|lbs|ft|in|yd|mi|mph|kph|km|k|K|M|p|x|X)"
"""What may be glued to a number and is no factor."""

_SUBSTITUTIONS: Sequence[tuple[str, str]] = (
    # LaTeX.
    (r"\\{2}|\\[\[\]]|&", "\n"),
    (r"\\[(),;:! ]|\\q?quad\b|~", " "),
    (r"\\left\b|\\right\b", ""),
    (r"\\([$%#])", r"\1"),
    (r"\{,\}", ","),
    (r"\\(?:text|mathrm|textbf|mbox|boxed)\s*\{([^{}]*)\}", r" \1 "),
    (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))"),
    (r"\\[dt]?frac\s*(\d)\s*(\d)", r"(\1/\2)"),
    (r"\\(?:times|cdot|ast)(?![A-Za-z])", "*"),
    (r"\\div(?![A-Za-z])", "/"),
    (r"\\[A-Za-z]+|[_|]", " √ "),
    # Keyboards.
    (r"(?<=\d)\*\*(?=\d)", "^"),
    (r"\*\*", " "),
    (r"[\[{]", "("),
    (r"[\]}]", ")"),
    (r"(?<![\d.])\.(?=\d)", "0."),
    (r"(?<=[\d)])[ \t]+[-−–](?=\d)", " - "),
    (r"\$-(?=\d)", " -"),
    # Words that are no operations: "15 times because", "8 pints / gallon", "(all of them)", "egg halves".
    (r"\btimes\b(?!\s*[\d$(.])", " "),
    (r"/\s*(?=[A-Za-z])", " "),
    (r"(?<![\d%])(?<!half)(?<!third)(?<!quarter)\s+of\b|\bof\b(?!\s+\$?[\d(])", " "),
    (r"\b(?:half|third|quarter)\b(?!\s+of\b)|\b(?:twice|double)\b(?!\s+\$?[\d(])", " "),
    (r"\b(?:because|since|as|so|that|which|giving|where)\b", ";"),
    (r"(?<=[a-z]\s)(?:halves|quarters|thirds|dozens?)\b", " "),
    (r"(?<!\w)\([A-Za-z\s]{3,}\)", " "),
    # Letters for numbers, functions, and pairs of numbers.
    (rf"(?<=\d)(?!{_UNIT}(?![A-Za-z]))[A-Za-z]{{1,3}}(?![A-Za-z])", " √ "),
    (rf"(?<![A-Za-z'’])(?:{_LETTER}|[xX])(?=\s*(?:[+*/=^)<>]|-(?![A-Za-z])))", " √ "),
    (rf"(?<=[+\-*/=(])\s*(?:{_LETTER}|[xXaA])(?![\w'’-])", " √ "),
    (r"(?<=[A-Za-z])\(|\b[A-Za-z][ \t]+\(", " √ ("),
    # A mixed number, a fraction to divide by, a factor or a sign before a parenthesis.
    (r"(?<![\w.,/])(\d+)\s+(\d+)/(\d+)(?![\w.,/])", r"(\1+\2/\3)"),
    (r"(?<=/)\s+(\d+/\d+)(?![\w.,/])", r"(\1)"),
    (r"(?<=\d)\((?=[\s√]*[-\d(.$])|(?<=\))[ \t]*\((?=[\s√]*[-\d(.$])", "*("),
    (r"(?<=[=$(])\s*[-−–]\s*(?=\()", " 0 - "),
    # Members without a number: "Total = boxes x price = 3 x 4", "the width is 3/2 and the height = 2".
    (r"\band\b(?=[^=\d]*=)", ";"),
    (r"(?:(?<=[.;:,\n])|^)(?:[^=\d.;:,\n]*=)+", " "),
    (r"=[^=\d.;:,\n]+(?==)", ""),
)
_PARENTHESES = re.compile(r"\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|[(),\n]|[^\d(),\n]+")
_PATTERNS = [(re.compile(pattern), meant) for pattern, meant in _SUBSTITUTIONS]


def plain_equations(text: str) -> str:
    r"""A text whose equations are as plain as they can be made; the words between them are not meant to be read.

    >>> plain_equations(r"Total cost = price * number = \frac{1}{2} \times 18 = 9").strip()
    '((1)/(2)) * 18 = 9'
    >>> plain_equations("5a - 40 = 0, f(2) = 7").split("=")[0]
    '5 √  - 40 '
    """
    for pattern, meant in _PATTERNS:
        text = pattern.sub(meant, text)
    return _without_pairs(text)


def _without_pairs(text: str) -> str:
    """A text in which pairs such as ``(3, 4)`` are unreadable: their comma does not end an equation."""
    depth = 0
    pieces = []
    for found in _PARENTHESES.finditer(text):
        piece = found[0]
        depth = max(0, depth + (piece == "(") - (piece == ")")) if piece != "\n" else 0
        pieces.append(f" {UNREADABLE} " if piece == "," and depth else piece)
    return "".join(pieces)
