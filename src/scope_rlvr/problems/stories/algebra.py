"""Which calculations a story justifies: every given number is a symbol, and formulas are compared, not values.

A sum of products of given numbers is a *formula*. The 3 apples that Mia buys and the 3 that she gives away are two symbols,
so ``start + bought`` and ``start + given away`` are different formulas although both come to 7. Numbers that a word fixes
(twice, a third, 20%) are plain numbers.

Two formulas are compared by their fingerprints: their value modulo a large prime where every symbol has a fixed
pseudo-random value. Different formulas share one with a probability of about 1 in 10**18.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import product
from math import gcd, lcm

from scope_rlvr.problems.stories.plan import PERCENT_BASE, Operation, Plan, Quantity

PRIME = 2**61 - 1

Monomial = tuple[tuple[int, int], ...]
"""Symbols with their exponents, ascending: ``((0, 1), (3, -1))`` is symbol 0 divided by symbol 3."""

Formula = Mapping[Monomial, Fraction]
"""A sum of monomials with coefficients; no coefficient is 0."""

_MAX_TERMS = 14
"""A longer sum is not taken apart: it would have too many parts. No story has one."""


@lru_cache(maxsize=1024)
def symbol_fingerprint(symbol: int) -> int:
    """The pseudo-random value of a symbol."""
    return int.from_bytes(hashlib.sha256(f"symbol {symbol}".encode()).digest()[:8], "big") % PRIME


def fingerprint(number: Fraction) -> int:
    """A plain number modulo the prime.

    >>> fingerprint(Fraction(1, 2)) * 2 % PRIME
    1
    """
    return number.numerator * pow(number.denominator, -1, PRIME) % PRIME


@dataclass(frozen=True, slots=True)
class Justified:
    """What a story justifies.

    ``formulas`` are the fingerprints of everything that may be calculated. ``readings`` says, for a value, which given or
    planned quantities of the story have it. ``shares`` are the fractions and percentages in the story's words.
    """

    formulas: frozenset[int]
    readings: Mapping[Fraction, frozenset[int]]
    shares: frozenset[Fraction]


def justified_by(plan: Plan) -> Justified:
    """Everything that a plan justifies: its calculated quantities and all their parts.

    A part of a quantity is a sum of some terms of its formula, with all signs kept or all signs turned, and with or without
    what these terms have as a common factor. A given number is none of them: to calculate it again leads nowhere.

    >>> from scope_rlvr.problems.stories.plan import PlanBuilder
    >>> builder = PlanBuilder(largest=100)
    >>> a, bags, each = builder.given(4), builder.given(3), builder.given(5)
    >>> found = justified_by(builder.finished(builder.add(a, builder.multiply(bags, each))))
    >>> sorted(int(value) for value in found.readings)
    [3, 4, 5, 15, 19]
    """
    marks = {mark for formula in _all_formulas(plan) for mark in _parts(formula)}
    given = {symbol_fingerprint(i) for i, quantity in enumerate(plan.quantities) if quantity.is_given}
    formulas = {sign * mark % PRIME for mark in marks for sign in (1, -1)} - given
    readings: dict[Fraction, set[int]] = {}
    for quantity, mark in zip(plan.quantities, formula_fingerprints(plan), strict=True):
        readings.setdefault(Fraction(quantity.value), set()).add(mark)
    return Justified(
        frozenset(formulas), {value: frozenset(found) for value, found in readings.items()}, frozenset(_shares(plan))
    )


def formula_fingerprints(plan: Plan) -> list[int]:
    """The fingerprint of each quantity's formula."""
    return [_mark(formula) for formula in formulas_of(plan)]


def essential_symbols(plan: Plan) -> frozenset[int]:
    """The given numbers on which the answer depends: the others cancel out, as in ``a + b - b``."""
    return frozenset(symbol for monomial in formulas_of(plan)[plan.asked] for symbol, _ in monomial)


def formulas_of(plan: Plan) -> list[Formula]:
    """The formula of each quantity, in the given numbers."""
    found: list[Formula] = []
    for index, quantity in enumerate(plan.quantities):
        found.append(_formula(index, quantity, found))
    return found


def _all_formulas(plan: Plan) -> Iterator[Formula]:
    """The formulas of the quantities, and what percentages are calculated by on the way."""
    formulas = formulas_of(plan)
    yield from formulas
    for quantity in plan.quantities:
        if quantity.operation is Operation.PERCENT:
            whole, percentage = quantity.parts
            for factor in (plan.quantities[percentage].value, PERCENT_BASE - plan.quantities[percentage].value):
                yield _scaled(formulas[whole], Fraction(factor))
                yield _scaled(formulas[whole], Fraction(factor, PERCENT_BASE))


def _shares(plan: Plan) -> Iterator[Fraction]:
    """The percentages and simple fractions of a story, as numbers."""
    for quantity in plan.quantities:
        if quantity.operation is Operation.PERCENT:
            yield Fraction(plan.quantities[quantity.parts[1]].value)
            yield Fraction(plan.quantities[quantity.parts[1]].value, PERCENT_BASE)
        elif quantity.operation is Operation.DIVIDE and plan.quantities[quantity.parts[1]].is_word:
            yield Fraction(1, plan.quantities[quantity.parts[1]].value)


def _formula(index: int, quantity: Quantity, formulas: list[Formula]) -> Formula:
    if quantity.is_word:
        return {(): Fraction(quantity.value)}
    if quantity.operation is None:
        return {((index, 1),): Fraction(1)}
    left, right = (formulas[part] for part in quantity.parts)
    match quantity.operation:
        case Operation.ADD:
            return _sum(left, right)
        case Operation.SUBTRACT:
            return _sum(left, _scaled(right, Fraction(-1)))
        case Operation.MULTIPLY:
            return _product(left, right)
        case Operation.DIVIDE:
            return _product(left, _inverse(right))
        case Operation.PERCENT:
            return _scaled(_product(left, right), Fraction(1, PERCENT_BASE))


def _sum(left: Formula, right: Formula) -> Formula:
    total = dict(left)
    for monomial, coefficient in right.items():
        total[monomial] = total.get(monomial, Fraction(0)) + coefficient
    return {monomial: coefficient for monomial, coefficient in total.items() if coefficient}


def _scaled(formula: Formula, factor: Fraction) -> Formula:
    return {monomial: coefficient * factor for monomial, coefficient in formula.items()}


def _product(left: Formula, right: Formula) -> Formula:
    total: Formula = {}
    for (one, a), (other, b) in product(left.items(), right.items()):
        exponents = dict(one)
        for symbol, exponent in other:
            exponents[symbol] = exponents.get(symbol, 0) + exponent
        total = _sum(total, {tuple(sorted((s, e) for s, e in exponents.items() if e)): a * b})
    return total


def _inverse(formula: Formula) -> Formula:
    if len(formula) != 1:
        raise ValueError("a plan divides by given numbers and by their products, not by sums")
    ((monomial, coefficient),) = formula.items()
    return {tuple((symbol, -exponent) for symbol, exponent in monomial): 1 / coefficient}


def _parts(formula: Formula) -> Iterator[int]:
    """The fingerprint of each part of a formula that is not a plain number."""
    terms = list(formula.items())
    masks = range(1, 1 << len(terms)) if len(terms) <= _MAX_TERMS else [(1 << len(terms)) - 1]
    marks = [_mark({monomial: coefficient}) for monomial, coefficient in terms]
    for mask in masks:
        chosen = [k for k in range(len(terms)) if mask >> k & 1]
        mark = sum(marks[k] for k in chosen) % PRIME
        for factor in _common_factors([terms[k] for k in chosen]):
            if not (len(chosen) == 1 and factor.keys() == {terms[chosen[0]][0]}):
                yield mark * pow(_mark(factor), -1, PRIME) % PRIME


def _mark(formula: Formula) -> int:
    """The fingerprint of a formula."""
    total = 0
    for monomial, coefficient in formula.items():
        one = fingerprint(coefficient)
        for symbol, exponent in monomial:
            one = one * pow(symbol_fingerprint(symbol), exponent, PRIME) % PRIME
        total += one
    return total % PRIME


def _common_factors(terms: list[tuple[Monomial, Fraction]]) -> Iterator[Formula]:
    """Every factor that some terms have in common, 1 among them; each is one monomial with its coefficient."""
    shared = reduce(_meet, (dict(monomial) for monomial, _ in terms))
    numerator = gcd(*(coefficient.numerator for _, coefficient in terms))
    content = Fraction(numerator, lcm(*(coefficient.denominator for _, coefficient in terms)))
    exponents = [range(e + 1) if e > 0 else range(0, e - 1, -1) for e in shared.values()]
    for coefficient in {Fraction(1), content}:
        for chosen in product(*exponents):
            yield {tuple((s, e) for s, e in zip(shared, chosen, strict=True) if e): coefficient}


def _meet(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    """The exponents that two monomials share, of one sign."""
    shared = {}
    for symbol, exponent in one.items():
        second = other.get(symbol, 0)
        if exponent * second > 0:
            shared[symbol] = min(exponent, second, key=abs)
    return dict(sorted(shared.items()))
