r"""Sequences that go on: ``1, 3, 5, \ldots, 2n-1``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from scope_rlvr.grading.brackets import split

_DOTS = re.compile(r"\\(?:ldots|dots|dotsc|cdots)(?![A-Za-z])|\.\.\.|…")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_UNKNOWN = "gold_unparsable"


def compare_sequences(gold: str, answer: str, compare: Callable[[str, str], str]) -> str | None:
    r"""The result for two sequences with dots; ``None`` where not both are. ``compare`` gives that of two terms.

    Terms that both state must agree. Equal are sequences that state the same terms, and those that begin alike and
    end in the same term with a letter; of what the dots stand for nothing else is known.

    >>> def compare(one, other): return "equal" if one == other else "unequal"
    >>> compare_sequences(r"1, 2, \ldots, n", r"1, 3, \ldots, 2n-1", compare)
    'unequal'
    >>> compare_sequences(r"1, 2, \ldots, n", r"1, 2, 3, \dots, n", compare)
    'equal'
    >>> compare_sequences(r"1, 2, \ldots", r"1, 2, 3, \ldots", compare)
    'gold_unparsable'
    """
    for sign in (",", ":"):
        wanted, given = _parts(gold, sign), _parts(answer, sign)
        if wanted is not None and given is not None:
            found = _compared(wanted, given, compare)
            backwards = _compared(wanted, (given[1][::-1], given[0][::-1]), compare)
            # Read from its other end it may be the same list.
            return _UNKNOWN if found == "unequal" and backwards != "unequal" and sign == "," else found
    return None


_Parts = tuple[Sequence[str], Sequence[str]]
"""The terms before the dots, and those after them."""


def _parts(latex: str, sign: str) -> _Parts | None:
    terms = split(latex, sign)
    at = [index for index, term in enumerate(terms) if _DOTS.fullmatch(term.strip())]
    return (terms[: at[0]], terms[at[0] + 1 :]) if len(at) == 1 and at[0] >= 1 else None


def _compared(wanted: _Parts, given: _Parts, compare: Callable[[str, str], str]) -> str:
    beginnings, ends = zip(wanted[0], given[0], strict=False), zip(wanted[1][::-1], given[1][::-1], strict=False)
    found = {compare(*pair) for pair in (*beginnings, *ends)}
    if found - {"equal"}:
        return "unequal" if found <= {"equal", "unequal"} else _UNKNOWN
    is_same = [len(side) for side in wanted] == [len(side) for side in given]
    return "equal" if is_same or (_has_letter(wanted[1]) and len(wanted[1]) == len(given[1])) else _UNKNOWN


def _has_letter(terms: Sequence[str]) -> bool:
    return bool(terms) and bool(re.search("[A-Za-z]", _COMMAND.sub("", terms[-1])))
