"""Text that no tokenizer and no server takes: JSON can hold half of a character where it was cut in two."""

from __future__ import annotations

import re

_HALF = re.compile("[\ud800-\udfff]")


def is_encodable(*texts: str) -> bool:
    r"""Whether texts can be written in UTF-8: none of them holds a lone surrogate.

    >>> is_encodable("so 7", "😀"), is_encodable("so 7", "\ud83d")
    (True, False)
    """
    return not any(_HALF.search(text) for text in texts)
