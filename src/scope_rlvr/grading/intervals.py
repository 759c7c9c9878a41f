r"""Inequalities and intervals: ``x > 2`` and ``(2, \infty)`` are two ways to write one set of numbers."""

from __future__ import annotations

import re

from scope_rlvr.grading.brackets import group_of

_SIGNS = {
    "<": re.compile(r"\\lt(?![A-Za-z])"),
    ">": re.compile(r"\\gt(?![A-Za-z])"),
    "≤": re.compile(r"\\le(?:q|qslant)?(?![A-Za-z])|<="),
    "≥": re.compile(r"\\ge(?:q|qslant)?(?![A-Za-z])|>="),
}
_SIGN = re.compile("([<>≤≥])")
_OR = re.compile(r"\s*(?:\\text\{\s*or\s*\}|(?<![A-Za-z\\])or(?![A-Za-z])|\\(?:lor|vee)(?![A-Za-z]))\s*")
_NAME = re.compile(r"(?:[A-Za-z]|\\(?:alpha|beta|gamma|theta|lambda|mu|phi|omega))(?:_(?:\w|\{\w+\}))?")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_SET_OF = re.compile(rf"\\\{{\s*{_NAME.pattern}(?:\s*\\in\s*\\mathbb\s*\{{?R\}}?)?\s*(?:\\mid|\\vert|:|\|)\s*(.+)\\\}}")
_LEAST, _MOST = r"-\infty", r"\infty"


def on_one_footing(gold: str, answer: str) -> tuple[str, str]:
    r"""Where one side is an interval or a set and the other inequalities of one letter, both as intervals; otherwise as they are.

    The letter that the inequalities are about must be the only one: in ``a > b`` it is not known which is meant.

    >>> on_one_footing(r"(2, \infty)", "x > 2"), on_one_footing(r"1 < x \le 3", "(1, 3]")
    (('(2, \\infty)', '(2,\\infty)'), ('(1,3]', '(1, 3]'))
    >>> on_one_footing("x > 2", "2 < x"), on_one_footing("(1, 3)", "a > b")
    (('x > 2', '2 < x'), ('(1, 3)', 'a > b'))
    """
    if not any(_is_interval(side) or _SET_OF.fullmatch(side) for side in (gold, answer)):
        return gold, answer
    return as_intervals(gold) or gold, as_intervals(answer) or answer


def as_intervals(latex: str) -> str | None:
    r"""The set of numbers for which inequalities of one letter hold, as intervals; ``None`` for anything else.

    >>> as_intervals("3 > x"), as_intervals(r"x < 1 \text{ or } x \ge 3"), as_intervals(r"\{x : 0 \le x < 1\}")
    ('(-\\infty,3)', '(-\\infty,1)\\cup[3,\\infty)', '[0,1)')
    >>> as_intervals("x > y"), as_intervals("1 < x > 0"), as_intervals("x = 2")
    (None, None, None)
    """
    set_of = _SET_OF.fullmatch(latex)
    text = set_of[1] if set_of else latex
    for sign, written in _SIGNS.items():
        text = written.sub(sign, text)
    found = [_interval(part) for part in _OR.split(text.strip())]
    intervals, names = [one[0] for one in found if one], {one[1] for one in found if one}
    return r"\cup".join(intervals) if len(intervals) == len(found) and len(names) == 1 else None


def _interval(text: str) -> tuple[str, str] | None:
    """The interval of a chain such as ``1 < x ≤ 3``, and the letter that it is about."""
    parts = [part.strip() for part in _SIGN.split(text)]
    if len(parts) == 3:
        left, sign, right = parts
        if _NAME.fullmatch(left):
            return _between("", sign, left, "", right) if sign in "<≤" else _between(right, sign, left, "", "")
        return _between(left, sign, right, "", "") if sign in "<≤" else _between("", sign, right, "", left)
    if len(parts) != 5 or (parts[1] in "<≤") != (parts[3] in "<≤"):
        return None
    low, first, name, second, high = parts if parts[1] in "<≤" else parts[::-1]
    return _between(low, first, name, second, high)


def _between(low: str, first: str, name: str, second: str, high: str) -> tuple[str, str] | None:
    """``low`` and ``high`` are empty where there is no such bound, which then has no sign of its own, either."""
    if not _NAME.fullmatch(name) or not (low or high) or any(map(_has_letters, (low, high))):
        return None
    opening = "[" if low and first in "≤≥" else "("
    closing = "]" if high and (second or first) in "≤≥" else ")"
    return f"{opening}{low or _LEAST},{high or _MOST}{closing}", name


def _has_letters(bound: str) -> bool:
    return bool(re.search("[A-Za-z]", _COMMAND.sub("", bound).replace("e", ""))) or "," in bound


def _is_interval(latex: str) -> bool:
    groups = [group_of(part.strip()) for part in re.split(r"\\cup(?![A-Za-z])", latex)]
    return all(group is not None and group.brackets and len(group.entries) == 2 for group in groups)
