r"""A second opinion that shares nothing with the first beyond how answers are tidied: text, and exact fractions.

No computer algebra: two answers are equal where they read the same, where both are numbers that agree in six significant
digits, or where both are lists of such with the same entries. It calls ``2(x+1)`` and ``2x+2`` different. Where it and
a verifier disagree, a person should look.
"""

from __future__ import annotations

from scope_rlvr.grading.normal import normal, plain_words
from scope_rlvr.grading.numbers import are_close, read_number

SIX_DIGITS = 5e-6


def plainly_equal(gold: str, answer: str) -> bool:
    r"""Whether two answers are equal without any algebra.

    >>> plainly_equal("0.5", r"\frac{1}{2}"), plainly_equal("1, -2", "-2,1"), plainly_equal(r"\text{East}", "east")
    (True, True, True)
    >>> plainly_equal("5", "4=5"), plainly_equal("(1,2)", "(2,1)"), plainly_equal("2(x+1)", "2x+2")
    (False, False, False)
    """
    wanted, given = normal(gold), normal(answer)
    if wanted.key == given.key:
        return True
    if wanted.words is not None:
        return plain_words(given.latex) == wanted.words
    numbers = read_number(gold), read_number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return are_close(numbers[0], numbers[1], SIX_DIGITS)
    entries = _entries(wanted.latex), _entries(given.latex)
    return min(map(len, entries)) > 1 and _same_entries(*entries)


def value_key(answer: str) -> str:
    r"""One text for all writings of an answer that are the same without any algebra: what votes are counted by.

    Numbers by their exact value (a known unit left out), lists of them in any order, words whatever the capitals, anything
    else in its normal form.

    >>> value_key("0.5") == value_key(r"\frac{1}{2}") == value_key("1/2"), value_key("1, -2") == value_key("-2,1")
    (True, True)
    >>> value_key("2(x+1)") == value_key("2x+2")
    False
    """
    number = read_number(answer)
    if number is not None:
        return str(number)
    found = normal(answer)
    entries = _entries(found.latex) if found.words is None else []
    return ", ".join(sorted(map(value_key, entries))) if len(entries) > 1 else found.words or found.key


def _entries(latex: str) -> list[str]:
    """The entries of a list without brackets of its own; order does not matter there, in a tuple it does."""
    latex = latex.removeprefix(r"\{").removesuffix(r"\}")
    return [] if set("()[]{}") & set(latex) else [entry.strip() for entry in latex.split(",")]


def _same_entries(wanted: list[str], given: list[str]) -> bool:
    left = list(given)
    for entry in wanted:
        match = next((other for other in left if plainly_equal(entry, other)), None)
        if match is None:
            return False
        left.remove(match)
    return not left
