r"""Gold and answer held against each other: lists entry by entry, entries as claims, claims by their values.

Formulas are taken apart at their brackets (:mod:`~scope_rlvr.grading.brackets`) and equality signs
(:mod:`~scope_rlvr.grading.claims`); what is left is compared as values (:mod:`~scope_rlvr.grading.values`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from scope_rlvr.grading.algebra import Parser, are_equal
from scope_rlvr.grading.brackets import group_of, signs_apart, split, without_outer_brackets
from scope_rlvr.grading.claims import (
    Claim,
    conclusion,
    is_name,
    is_relation,
    name_key,
    names_agree,
    read_claim,
    without_member,
)
from scope_rlvr.grading.intervals import on_one_footing
from scope_rlvr.grading.normal import plain_words, words_of
from scope_rlvr.grading.sequences import compare_sequences
from scope_rlvr.grading.units import split_unit, units_differ
from scope_rlvr.grading.values import are_congruent, are_same, bases_differ, can_be_read, is_known

_DECIMAL = re.compile(r"[+-]?\d+\.\d+")
_DOMAIN = re.compile(r"[A-Za-z](?:_\w)?\s*\\in\s*\\mathbb\s*(?:\{[A-Z]\}|[A-Z])[\^_+*{}0-9\s-]*")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_SURE_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+,\d\d|0,\d\d+)")
"""A comma between one digit and another may part two answers: ``0,1``."""


class AnswerComparison:
    r"""Compares golds with answers whose formulas are read by one parser; a result is a reason code.

    >>> compare = AnswerComparison(Parser(is_real=True, ignores_case=True)).of_answers
    >>> compare("13", "m + n = 5 + 8 = 13"), compare("x=2", "2x+1=5"), compare("1, -2", r"x = -2 \text{ or } x = 1")
    ('equal', 'other_name', 'equal')
    """

    def __init__(self, parse: Parser) -> None:
        self._parse = parse

    def of_answers(self, gold: str, answer: str) -> str:
        """Whether an answer is the gold."""
        gold, answer = on_one_footing(without_member(gold), conclusion(without_member(answer)))
        as_sequences = compare_sequences(gold, answer, self._of_claims)
        if as_sequences is not None:
            return as_sequences
        wanted, given = map(_entries, _with_decimal_points(gold, answer))
        domains = _domains(wanted), _domains(given)
        if all(domains) and domains[0] != domains[1]:
            return "unequal"
        wanted, given = ([entry for entry in side if not _DOMAIN.fullmatch(entry)] or side for side in (wanted, given))
        if not all(map(self._is_readable_gold, wanted)):
            return "gold_unparsable"
        return self._of_claims(wanted[0], given[0]) if len(wanted) == len(given) == 1 else self._of_lists(wanted, given)

    def _of_lists(self, wanted: Sequence[str], given: Sequence[str]) -> str:
        """Lists agree where every entry of one is in the other; in order, where names or brackets say which is which."""
        wanted, given = self._opened(wanted), self._opened(given)
        ordered = self._in_order(wanted, given)
        if ordered is not None:
            return self._in_turn(*ordered)
        left = list(given)
        for entry in wanted:
            found = [self._of_claims(entry, other) for other in given]
            if "equal" not in found:
                return next((code for code in found if code == "unequal_chain"), "unequal")
            left = [other for other, code in zip(given, found, strict=True) if code != "equal" and other in left]
        return "unequal" if left else "equal"

    def _in_turn(self, wanted: Sequence[str], given: Sequence[str]) -> str:
        if len(wanted) != len(given):
            return "unequal"
        found = [self._of_claims(*pair) for pair in zip(wanted, given, strict=True)]
        return next((code for code in found if code != "equal"), "equal")

    def _in_order(self, wanted: Sequence[str], given: Sequence[str]) -> tuple[Sequence[str], Sequence[str]] | None:
        """Both sides as sequences, where order matters: a tuple on one side, or names on the gold's side alone."""
        if len(wanted) == 1:
            point = self._tuple_of(wanted[0])
            return None if point is None else (point, self._values_by_name(given))
        if len(given) == 1:
            point = self._tuple_of(given[0])
            return None if point is None else (wanted, point)
        names = self._distinct_names(wanted)
        return (wanted, given) if names and not any(read_claim(entry, self._parse).names for entry in given) else None

    def _opened(self, entries: Sequence[str]) -> Sequence[str]:
        """The entries of a set that is the only entry: ``A = \\{1, 2\\}`` is a list of two."""
        group = group_of(read_claim(entries[0], self._parse).values[0]) if len(entries) == 1 else None
        return _spread(group.entries) if group is not None and not group.brackets else entries

    def _tuple_of(self, entry: str) -> Sequence[str] | None:
        group = group_of(read_claim(entry, self._parse).values[0])
        return group.entries if group is not None and group.brackets == "()" else None

    def _values_by_name(self, entries: Sequence[str]) -> Sequence[str]:
        """``y = 2, x = 1`` as ``1, 2``: coordinates are named in the order of the alphabet."""
        names = self._distinct_names(entries)
        if not names:
            return entries
        return [read_claim(entry, self._parse).values[0] for _, entry in sorted(zip(names, entries, strict=True))]

    def _distinct_names(self, entries: Sequence[str]) -> list[str]:
        """The name of every entry; none where one has no plain name, or the name of another."""
        claims = [read_claim(entry, self._parse) for entry in entries]
        names = [name_key(claim.names[0]) for claim in claims if claim.names and is_name(claim.names[0])]
        return names if len(names) == len(set(names)) == len(entries) else []

    def _of_claims(self, wanted: str, given: str) -> str:
        gold = read_claim(wanted, self._parse)
        answer = read_claim(given, self._parse, of_letter=is_name(gold.values[0]))
        if is_relation(gold, self._parse):
            return self._of_equations(gold, answer)
        if not answer.holds:
            return "unequal_chain"
        if not names_agree(gold, answer, self._parse):
            is_open = not (is_name(gold.names[0]) and is_known(gold.values[0], self._parse))
            return "equal" if is_open and self._of_equations(gold, answer) == "equal" else "other_name"
        found = [self._of_values(a, b, gold, answer) for a in gold.values for b in answer.values]
        return "equal" if "equal" in found else found[0]

    def _of_equations(self, gold: Claim, answer: Claim) -> str:
        parsed = self._parse(gold.equation), self._parse(answer.equation)
        if parsed[1] is None:
            return "answer_unparsable"
        if not answer.holds:
            return "unequal_chain"
        return "equal" if parsed[0] is not None and are_equal(*parsed) else "unequal"

    def _of_values(self, wanted: str, given: str, gold: Claim, answer: Claim) -> str:
        wanted, given = without_outer_brackets(wanted), without_outer_brackets(given)
        words = words_of(wanted)
        if words is not None:
            return "equal" if plain_words(given) == words else "other_words"
        by_entries = self._of_groups(wanted, given)
        if by_entries is not None:
            return by_entries
        if not self._can_be_read(given):
            return "answer_unparsable"
        if units_differ(split_unit(wanted)[1], split_unit(given)[1]):
            return "other_unit"
        if bases_differ(wanted, given):
            return "other_base"
        if gold.modulus and answer.modulus:
            same = gold.modulus == answer.modulus and are_congruent(wanted, given, gold.modulus, self._parse)
        else:
            same = are_same(wanted, given, self._parse)
        return "equal" if same else "unequal"

    def _of_groups(self, wanted: str, given: str) -> str | None:
        """The result for sets and for tuples in the same brackets; ``None`` where neither side is a list of values."""
        gold, answer = group_of(wanted), group_of(given)
        if gold is not None and answer is not None:
            if gold.brackets != answer.brackets:
                return "unequal"
            if gold.brackets:
                return self._in_turn(gold.entries, answer.entries)
        elif not any(group is not None and not group.brackets for group in (gold, answer)):
            return None
        sides = [[text] if group is None else group.entries for group, text in ((gold, wanted), (answer, given))]
        return self._of_lists(*map(_spread, sides))

    def _is_readable_gold(self, entry: str) -> bool:
        claim = read_claim(entry, self._parse)
        if is_relation(claim, self._parse):
            return self._parse(claim.equation) is not None
        return words_of(claim.values[0]) is not None or self._can_be_read(claim.values[0])

    def _can_be_read(self, value: str) -> bool:
        group = group_of(without_outer_brackets(value))
        if group is None:
            return can_be_read(value, self._parse)
        return all(self._can_be_read(read_claim(entry, self._parse).values[0]) for entry in _spread(group.entries))


def _entries(latex: str) -> list[str]:
    r"""The entries of a list without brackets, with their signs apart; solutions between semicolons become points.

    >>> _entries(r"1, \pm 2"), _entries("p=5, q=2; p=7, q=3"), _entries("(1, 2)")
    (['1', '2', '- 2'], ['(5,2)', '(7,3)'], ['(1, 2)'])
    """
    solutions = [split(solution, ",") for solution in split(latex, ";")]
    if len(solutions) > 1 and all(len(solution) > 1 for solution in solutions):
        return [f"({','.join(split(part, '=')[-1] for part in sorted(solution))})" for solution in solutions]
    group = group_of(latex)
    return _spread([latex] if group is None or group.brackets or latex.startswith("\\{") else group.entries)


def _with_decimal_points(gold: str, answer: str) -> tuple[str, str]:
    """A decimal comma on one side as a point, where the other side is a decimal number."""
    if _DECIMAL.fullmatch(gold) and _DECIMAL_COMMA.fullmatch(answer):
        return gold, answer.replace(",", ".")
    if _SURE_DECIMAL_COMMA.fullmatch(gold) and _DECIMAL.fullmatch(answer):
        return gold.replace(",", "."), answer
    return gold, answer


def _domains(entries: Sequence[str]) -> set[str]:
    """What entries such as ``k \\in \\mathbb{Z}`` say of the letters; like a unit, the problem says it where it is left out."""
    return {re.sub(r"[\s{}]", "", entry) for entry in entries if _DOMAIN.fullmatch(entry)}


def _spread(entries: Sequence[str]) -> list[str]:
    return [text for entry in entries for text in signs_apart(entry)]
