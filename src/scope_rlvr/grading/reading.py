"""Where verifiers without a grammar of their own find the answer in a response."""

from __future__ import annotations

import re

from scope_rlvr.grading.boxes import Extraction, last_box


class Reader:
    r"""Reads the last box of a response, or, with a pattern, the group of the pattern's last match.

    Raises ``ValueError`` for a pattern that is no regular expression or has not exactly one group.

    >>> Reader().read(r"\boxed{b}").answer, Reader(r"answer: (\w+)").read("answer: a\nanswer: b").answer
    ('b', 'b')
    >>> Reader(r"answer: (\w+)").read("b").reason
    'no_match'
    """

    def __init__(self, pattern: str | None = None) -> None:
        self._pattern = None if pattern is None else one_group(pattern)

    def read(self, response: str) -> Extraction:
        if self._pattern is None:
            return last_box(response)
        answers = [match[1] for match in self._pattern.finditer(response)]
        if not answers or answers[-1] is None or not answers[-1].strip():
            return Extraction(None, "no_match")
        return Extraction(answers[-1].strip())


def one_group(pattern: str) -> re.Pattern[str]:
    """The compiled pattern; ``ValueError`` where it is no regular expression or has not exactly one group."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the answer pattern {pattern!r} is not a regular expression: {error}") from error
    if compiled.groups != 1:
        raise ValueError(
            f"the answer pattern {pattern!r} has {compiled.groups} groups; it needs exactly one, around the answer"
        )
    return compiled
