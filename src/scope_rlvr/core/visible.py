"""Text of others on a screen of ours."""

from __future__ import annotations

import re

_NOT_SHOWN_AS_IS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)


def visible(text: str) -> str:
    """Text in which nothing acts on the screen that shows it: control, direction and broken characters become marks.

    >>> visible("a\\x00b\\x1b[31m")
    'a⟨U+0000⟩b⟨U+001B⟩[31m'
    """
    return _NOT_SHOWN_AS_IS.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", text)
