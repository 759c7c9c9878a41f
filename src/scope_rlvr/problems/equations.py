"""Reads the equations in a step of a solution, and nothing else: the words around them may be any. Nothing is executed.

What is read: whole and decimal numbers (``$1,200``, ``4.50``, ``20%``), ``+ - * x × / ÷`` and the words plus, minus, times,
divided by, equals; parentheses; "twice", "double", "half of", "a third of", "20% of"; units behind numbers (``4 apples + 3
apples = 7 apples``); chains (``4 + 3 + 5 = 7 + 5 = 12``). An equals sign whose sides cannot be read makes the whole step
unreadable, which is not the same as wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 4000
"""A longer step is not read."""

PERCENT = Fraction(1, 100)

_MAX_NUMBERS = 24
_MAX_DEPTH = 8


class UnreadableError(Exception):
    """A text with an equals sign that is no equation of numbers."""


@dataclass(frozen=True, slots=True)
class Number:
    value: Fraction


@dataclass(frozen=True, slots=True)
class Sum:
    """Terms with their signs, +1 or -1."""

    terms: tuple[tuple[int, Expression], ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Factors with their exponents, +1 or -1."""

    factors: tuple[tuple[int, Expression], ...]


Expression = Number | Sum | Product


@dataclass(frozen=True, slots=True)
class Equation:
    """Two or more sides, of which at least one calculates something."""

    sides: tuple[Expression, ...]


def value_of(expression: Expression) -> Fraction:
    """The value of an expression; raises ``ZeroDivisionError``."""
    match expression:
        case Number(value):
            return value
        case Sum(terms):
            return sum((sign * value_of(term) for sign, term in terms), Fraction(0))
        case Product(factors):
            total = Fraction(1)
            for exponent, factor in factors:
                total = total * value_of(factor) if exponent > 0 else total / value_of(factor)
            return total


def is_true(equation: Equation) -> bool:
    """Whether all sides have the same value, exactly."""
    return len({value_of(side) for side in equation.sides}) == 1


_TOKEN = re.compile(
    r"""
      (?P<number>\d[\d,]*(?:\.\d+)?)\s*(?P<percent>%|percent\b)?
    | (?P<equals>=|\bequals\b)
    | (?P<plus>\+|\bplus\b)
    | (?P<minus>[-−–]|\bminus\b)
    | (?P<times>[*×·]|\btimes\b|(?<![A-Za-z])[xX](?![A-Za-z]))
    | (?P<over>[/÷]|\bdivided\ by\b)
    | (?P<open>\()
    | (?P<close>\))
    | (?P<twice>\b(?:twice|double)\b)
    | (?P<share>\b(?:half|third|quarter)\b)
    | (?P<of>\bof\b)
    | (?P<strange>[\^!√²³½¼¾≈<>≤≥]|\b(?:triple|thirds|quarters|halves|dozen|squared|cubed|root)\b)
    | (?P<end>[.!?;:,\n]|\b(?:is|was|are|were)\b)
    | (?P<word>[A-Za-z]+(?:['’][A-Za-z]+)?)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SHARES = {"half": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4)}
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?|\d{1,3}(?:,\d{3}){1,4}(?:\.\d{1,9})?")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """number, equals, plus, minus, negative, times, over, open, close, of, strange, word or end."""
    value: Fraction | None = None


def read_equations(text: str) -> tuple[Equation, ...]:
    """The equations of a text, in their order.

    Raises :class:`UnreadableError` for an equals sign whose sides are not numbers and operations.

    >>> [len(equation.sides) for equation in read_equations("Now 4 apples + 3 apples = 7 apples, and 7 - 2 = 5.")]
    [2, 2]
    >>> read_equations("Mia buys 4 apples.")
    ()
    >>> read_equations("x + 4 = 7")
    Traceback (most recent call last):
    ...
    scope_rlvr.problems.equations.UnreadableError: an operation lacks a number
    """
    return tuple(equation for clause in _clauses(text) for equation in _equations_of(clause))


def read_clauses(text: str, percent: Fraction = PERCENT) -> list[tuple[Equation, ...] | None]:
    """The equations of each part of a text between marks of punctuation; ``None`` for a part that cannot be read.

    Parts without an equals sign are left out. ``percent`` is what the sign behind a number multiplies it by.

    >>> [equations and len(equations) for equations in read_clauses("4 + 3 = 7, x + 1 = 8. So 7 - 2 = 5.")]
    [1, None, 1]
    """
    try:
        return [_readable(clause) for clause in _clauses(text, percent)]
    except UnreadableError:
        return [None]


def _readable(clause: Sequence[_Token]) -> tuple[Equation, ...] | None:
    try:
        return tuple(_equations_of(clause))
    except UnreadableError:
        return None


def _clauses(text: str, percent: Fraction = PERCENT) -> Iterator[list[_Token]]:
    """The tokens of each part of a text between marks of punctuation, where there is an equals sign."""
    if "=" not in text and "equals" not in text.lower():
        return
    if len(text) > MAX_CHARS:
        raise UnreadableError(f"more than {MAX_CHARS} characters")
    clause: list[_Token] = []
    for token in (*_tokens(text, percent), _Token("end")):
        if token.kind != "end":
            clause.append(token)
            continue
        if any(one.kind == "equals" for one in clause):
            yield clause
        clause = []


def _tokens(text: str, percent: Fraction) -> Iterator[_Token]:
    last = 0
    for found in _TOKEN.finditer(text):
        kind = str(found.lastgroup)
        if kind == "percent" or kind == "number":
            # A comma behind a number that is none of its own ends a clause.
            digits = found["number"].rstrip(",")
            if _NUMBER.fullmatch(digits):
                value = Fraction(digits.replace(",", ""))
                yield _Token("number", value * percent if found["percent"] else value)
            else:
                yield _Token("strange")
            if found["number"] != digits:
                yield _Token("end")
        elif kind == "twice":
            yield from (_Token("number", Fraction(2)), _Token("times"))
        elif kind == "share":
            yield _Token("number", _SHARES[found[0].lower()]) if _is_before_of(text, found.end()) else _Token("word")
        elif kind in ("minus", "over") and text[found.end() : found.end() + 1].isalpha():
            # The hyphen of "3-page" and the stroke of "miles/hour" are no operations.
            if not (kind == "minus" and found[0].isalpha()):
                last = found.end()
                continue
            yield _Token(kind)
        elif found[0] in "-−–" and _is_sign(text, last, found.start()):
            yield _Token("negative")
        else:
            yield _Token(kind)
        last = found.end()


def _is_before_of(text: str, end: int) -> bool:
    return re.match(r"\s+of\b", text[end : end + 12]) is not None


def _is_sign(text: str, last: int, at: int) -> bool:
    """Whether a minus is glued to the number behind it and to nothing before it."""
    glued = text[at + 1 : at + 2].isdigit() or text[at + 1 : at + 3].startswith("$")
    return glued and not text[last:at].strip() and (at == 0 or text[at - 1] in " (=\n")


def _equations_of(clause: Sequence[_Token]) -> Iterator[Equation]:
    """The equations of a clause. A side in the middle may end one equation and begin the next."""
    sides: list[list[_Token]] = [[]]
    for token in clause:
        if token.kind == "equals":
            sides.append([])
        elif token.kind != "word":
            sides[-1].append(token)
    first, *others = [_runs(_without_of(side)) for side in sides]
    current = first[-1:]
    for side in others:
        if not side:
            raise UnreadableError("nothing but words stands beside an equals sign")
        current.append(side[0])
        if len(side) > 1 and side is not others[-1]:
            yield from _equation(current)
            current = side[-1:]
    yield from _equation(current)


def _equation(runs: Sequence[Sequence[_Token]]) -> Iterator[Equation]:
    sides = tuple(_Parser(run).parsed() for run in runs)
    if any(not isinstance(side, Number) for side in sides):
        yield Equation(sides)
    elif len({side.value for side in sides if isinstance(side, Number)}) > 1:
        raise UnreadableError("two numbers are called equal, and nothing says how one comes from the other")


def _without_of(side: Sequence[_Token]) -> list[_Token]:
    """One side where the "of" behind a fraction is a multiplication and any other is nothing."""
    found: list[_Token] = []
    for token in side:
        if token.kind != "of":
            found.append(token)
        elif _ends_in_fraction(found):
            found.append(_Token("times"))
    return found


def _ends_in_fraction(tokens: Sequence[_Token]) -> bool:
    if not tokens or tokens[-1].value is None:
        return False
    return tokens[-1].value < 1 or [token.kind for token in tokens[-3:]] == ["number", "over", "number"]


def _runs(side: Sequence[_Token]) -> list[list[_Token]]:
    """One side, cut where a number follows a number without an operation between them."""
    runs: list[list[_Token]] = []
    before = "start"
    for token in side:
        if before == "start" and token.kind in ("minus", "times"):
            continue  # the bullet of a list
        is_new = token.kind in ("number", "negative", "open") and before in ("number", "close")
        if not runs or is_new:
            runs.append([])
        runs[-1].append(token)
        before = token.kind
    return [run for run in map(_balanced, runs) if run]


def _balanced(run: Sequence[_Token]) -> list[_Token]:
    """A run without the parentheses that stand around an equation, or belong to the words."""
    kept: list[_Token] = []
    opened: list[int] = []
    for token in run:
        if token.kind == "close":
            if not opened:
                continue
            opened.pop()
        elif token.kind == "open":
            opened.append(len(kept))
        kept.append(token)
    return [token for place, token in enumerate(kept) if place not in opened]


class _Parser:
    """Reads one side by the usual precedence."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        if sum(token.kind == "number" for token in tokens) > _MAX_NUMBERS:
            raise UnreadableError(f"more than {_MAX_NUMBERS} numbers stand on one side")

    def parsed(self) -> Expression:
        found = self._sum()
        if self._next < len(self._tokens):
            raise UnreadableError("an operation lacks a number")
        return found

    def _kind(self) -> str:
        return self._tokens[self._next].kind if self._next < len(self._tokens) else "end"

    def _sum(self) -> Expression:
        terms = [(1, self._product())]
        while self._kind() in ("plus", "minus"):
            sign = 1 if self._kind() == "plus" else -1
            self._next += 1
            terms.append((sign, self._product()))
        return terms[0][1] if len(terms) == 1 else Sum(tuple(terms))

    def _product(self) -> Expression:
        factors = [(1, self._atom())]
        while self._kind() in ("times", "over"):
            exponent = 1 if self._kind() == "times" else -1
            self._next += 1
            factors.append((exponent, self._atom()))
        return factors[0][1] if len(factors) == 1 else Product(tuple(factors))

    def _atom(self) -> Expression:
        kind = self._kind()
        if kind == "negative":
            self._next += 1
            inner = self._atom()
            return Number(-inner.value) if isinstance(inner, Number) else Sum(((-1, inner),))
        if kind == "open":
            return self._parenthesis()
        if kind != "number":
            raise UnreadableError("an operation lacks a number")
        value = self._tokens[self._next].value
        assert value is not None, "a number has a value"
        self._next += 1
        return Number(value)

    def _parenthesis(self) -> Expression:
        self._next += 1
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnreadableError(f"parentheses stand {self._depth} deep")
        inner = self._sum()
        if self._kind() != "close":
            raise UnreadableError("a parenthesis is not closed")
        self._next += 1
        self._depth -= 1
        return inner
