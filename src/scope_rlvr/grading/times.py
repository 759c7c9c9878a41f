r"""Times of day."""

from __future__ import annotations

import re

_HALF_DAY = 12 * 60 * 60
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(?:\\text\{\s*)?([ap])?(?:\.?\s*m\.?)?\s*\}?", re.IGNORECASE)


def seconds_of_day(text: str) -> tuple[int, bool] | None:
    r"""Seconds since midnight, and whether the half of the day is known; ``None`` for what is no time.

    >>> seconds_of_day("20:34"), seconds_of_day(r"8:34 \text{ P.M.}"), seconds_of_day("8:34"), seconds_of_day("2:3")
    ((74040, True), (74040, True), (30840, False), None)
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    hours, minutes, seconds, half = int(found[1]), int(found[2]), int(found[3] or 0), (found[4] or "").lower()
    if hours > 24 or minutes > 59 or seconds > 59 or (half and not 1 <= hours <= 12):
        return None
    if half:
        hours = hours % 12 + (12 if half == "p" else 0)
    return (hours * 60 + minutes) * 60 + seconds, bool(half) or hours > 12 or hours == 0


def times_agree(gold: tuple[int, bool], answer: tuple[int, bool]) -> bool:
    """Whether two times are the same; where one leaves the half of the day open, to the half day."""
    if gold[1] and answer[1]:
        return gold[0] == answer[0]
    return (gold[0] - answer[0]) % _HALF_DAY == 0
