"""References graded against themselves: what no response could ever be right about is found before anybody samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from scope_rlvr.ports import Verifier
from scope_rlvr.types import Outcome, Problem

_Item = TypeVar("_Item")


def spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most ``count`` items, evenly spread, the first one among them.

    >>> spread(range(10), 4)
    [0, 2, 5, 7]
    """
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def response_stating(answer: str, pattern: str | None) -> str:
    r"""A response that says nothing but its final answer: in a box, or as a pattern of plain text with one group wants it.

    >>> response_stating("7", None), response_stating("7", r"answer (\d+)")
    ('\\boxed{7}', 'answer 7')
    """
    if pattern is None:
        return rf"\boxed{{{answer}}}"
    before, _, rest = pattern.partition("(")
    return before + answer + rest.rpartition(")")[2]


def unverifiable(verifier: Verifier, problems: Sequence[Problem], pattern: str | None) -> dict[str, str]:
    """Ids of the problems whose reference, given as the answer, is not right, each with the verifier's reason."""
    attempts = [(problem, response_stating(problem.reference, pattern)) for problem in problems]
    verdicts = verifier.verify(attempts)
    return {
        problem.id: f"{problem.reference[:60]!r} is {verdict.outcome.value} ({verdict.reason})"
        for problem, verdict in zip(problems, verdicts, strict=True)
        if verdict.outcome is not Outcome.RIGHT
    }
