"""Where a response says its final answer: the last ``\\boxed{...}`` after the thinking, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_ANSWER_CHARS = 512

_BOX = re.compile(r"\\f?box(?:ed)?(?![A-Za-z])\s*")
_THINKING_STARTS, _THINKING_ENDS = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Extraction:
    """The text of the final answer, or ``None`` and the reason code why there is none."""

    answer: str | None
    reason: str = ""


def last_box(response: str) -> Extraction:
    r"""The content of the last box, strictly.

    * Only what follows the last ``</think>`` counts; a response that opens ``<think>`` and never closes it has no answer.
    * The last ``\boxed`` (or ``\fbox``) counts, also where an earlier one looks better: one without braces, or whose
      braces never close, is no answer, and neither is an empty one or one of more than 512 characters.

    >>> last_box(r"so \boxed{3}, no: \boxed{\frac{1}{2}}.").answer
    '\\frac{1}{2}'
    >>> [last_box(text).reason for text in (r"it is 5", r"\boxed{5} \boxed{6", r"\boxed{ }", "<think> \\boxed{5}")]
    ['no_box', 'malformed_box', 'empty_box', 'unfinished_thinking']
    """
    _, closes, after = response.rpartition(_THINKING_ENDS)
    if _THINKING_STARTS in after:
        return Extraction(None, "unfinished_thinking")
    boxes = list(_BOX.finditer(after if closes else response))
    if not boxes:
        return Extraction(None, "no_box")
    content = braced(after, boxes[-1].end())
    if content is None:
        return Extraction(None, "malformed_box")
    if not content.strip():
        return Extraction(None, "empty_box")
    if len(content) > MAX_ANSWER_CHARS:
        return Extraction(None, "too_long")
    return Extraction(content.strip())


def braced(text: str, start: int) -> str | None:
    r"""The content of the braces that open at ``start``; ``None`` where none open there, or they never close.

    >>> braced(r"{a_{1}\}} b", 0), braced("{a", 0), braced("a", 0)
    ('a_{1}\\}', None, None)
    """
    if not text.startswith("{", start):
        return None
    depth, at = 0, start
    while at < len(text):
        if text[at] == "\\":
            at += 1  # An escaped brace is a sign, not a brace.
        elif text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return text[start + 1 : at]
        at += 1
    return None
