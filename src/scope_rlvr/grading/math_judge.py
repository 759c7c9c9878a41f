r"""What the grading process decides: whether an answer is the gold.

Text that is equal, words and times of day are compared here. Anything else is a matter of
:mod:`~scope_rlvr.grading.comparison`. The process that this runs in is killed at the deadline.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from scope_rlvr.grading.algebra import Parser
from scope_rlvr.grading.brackets import split, without_outer_brackets
from scope_rlvr.grading.comparison import AnswerComparison
from scope_rlvr.grading.normal import Normal, normal, plain_words, without_introduction
from scope_rlvr.grading.times import seconds_of_day, times_agree
from scope_rlvr.grading.units import DEGREE, PERCENT, units_differ

_OPTION = re.compile(r"(?:([A-J])[).:]|\(([A-J])\)) (?![-+*/^=<>,] )[^\s+*/^=<>,].*")
"""An option with its letter: ``C. 42``, ``(C) x = 42``; not ``(C) + 1``."""
_EMPTY_SETS = {r"\emptyset", r"\{\}", "{}"}
_EMPTY_IN_WORDS = {"no solution", "no solutions", "empty set"}
_WARM_UP = (
    (r"\frac{3\sqrt{2}}{4}", "0.75"),
    (r"(-\infty, 2) \cup [3, \infty)", "x = 3"),
    (r"x^{2} - 2x + 1", "(x-1)^2"),
    (r"1 \pm \sqrt{19}", r"\sqrt{7}, 2"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\left(\frac{\pi}{2}, 3\right)"),
    (r"4.5\times 10^{33}", r"12\%"),
)

Verdict = tuple[str, str]


def make_judge() -> Callable[[str, str], Verdict]:
    """The judge, after it has parsed a few things: the first time costs a second."""
    for gold, answer in _WARM_UP:
        judge(gold, answer)
    return judge


def judge(gold: str, answer: str) -> Verdict:
    r"""Whether ``answer`` is ``gold``: outcome and reason code.

    >>> judge("5", "2+3=5"), judge("5", "4=5"), judge(r"4.5e33", r"45 \cdot 10^{32}")
    (('right', 'equal'), ('wrong', 'unequal_chain'), ('right', 'equal'))
    >>> judge("1e-8", "2e-8"), judge("\\frac{", "1"), judge("74", r"\angle APC = 74^\circ")
    (('wrong', 'unequal'), ('unknown', 'gold_unparsable'), ('right', 'equal'))
    """
    wanted, given = normal(without_introduction(gold)), normal(without_introduction(answer))
    if wanted.key == given.key:
        return ("wrong", "other_unit") if units_differ(wanted.unit, given.unit) else ("right", "same_text")
    by_text = _compare_text(wanted, given)
    if by_text is not None:
        return by_text
    if units_differ(wanted.unit, given.unit):
        return "wrong", "other_unit"
    comparison = AnswerComparison(Parser.of(wanted.latex, given.latex))
    reason = comparison.of_answers(_bare(wanted), _bare(given))
    return {"equal": "right", "gold_unparsable": "unknown"}.get(reason, "wrong"), reason


def _bare(side: Normal) -> str:
    """The formula of a side, with a unit that is part of its value."""
    return without_outer_brackets(side.latex) + {PERCENT: r"\%", DEGREE: r"^{\circ}"}.get(side.unit, "")


def _option(latex: str) -> str | None:
    """The letter of an option that is written out."""
    found = _OPTION.fullmatch(re.sub(r"\s+", " ", re.sub(r"\\text\{([^{}]*)\}", r"\1", latex)))
    return None if found is None else found[1] or found[2]


def _is_empty_set(side: Normal) -> bool:
    return side.key in _EMPTY_SETS or side.words in _EMPTY_IN_WORDS


def _compare_text(wanted: Normal, given: Normal) -> Verdict | None:
    """The verdict where the gold is a word, the letter of a choice, the empty set or a time of day; ``None`` for anything else."""
    options = _option(wanted.latex), _option(given.latex)
    if any(options):
        letters = [
            found or plain_words(side.latex).upper() for found, side in zip(options, (wanted, given), strict=True)
        ]
        if re.fullmatch("[A-J]", letters[0]):
            return ("right", "same_letter") if letters[0] == letters[1] else ("wrong", "other_letter")
    if _is_empty_set(wanted) and _is_empty_set(given):
        return "right", "equal"
    if wanted.words is not None:
        stated = plain_words(split(given.latex, "=")[-1])
        return ("right", "same_words") if stated == wanted.words else ("wrong", "other_words")
    times = seconds_of_day(wanted.latex), seconds_of_day(given.latex)
    if times[0] is not None and times[1] is not None:
        return ("right", "equal") if times_agree(times[0], times[1]) else ("wrong", "unequal")
    return None
