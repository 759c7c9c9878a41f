"""A verifier that reads the final answer from the last line of a response, strictly and without evaluating anything."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scope_rlvr.core.types import Outcome, Problem, Verdict

DEFAULT_PATTERN = r"answer (\d+)"
_INTEGER = re.compile(r"[+-]?\d{1,1000}")


class FinalAnswerVerifier:
    """Compares the answer in the last line of a response with the reference.

    ``pattern`` is a regular expression with exactly one group. It must match the whole last line that is not empty,
    without the spaces around it, and the group is the answer: an answer in the middle of a response, or with anything
    beside it, does not count. Two integers are compared as integers, anything else as text without surrounding spaces.
    A problem without a reference gives the verdict unknown.

    Raises ``ValueError`` for a pattern that is no regular expression or has not exactly one group.

    >>> problem = Problem(id="p", prompt="reduce 3 4\\n\\n", reference="7")
    >>> verifier = FinalAnswerVerifier()
    >>> responses = ["3 + 4 = 7 : 7\\n\\nanswer 7", "answer 7 or 8"]
    >>> [verdict.outcome.value for verdict in verifier.verify([(problem, text) for text in responses])]
    ['right', 'wrong']
    """

    def __init__(self, pattern: str = DEFAULT_PATTERN) -> None:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"the answer pattern {pattern!r} is not a regular expression: {error}") from error
        if compiled.groups != 1:
            raise ValueError(
                f"the answer pattern {pattern!r} has {compiled.groups} groups; it needs exactly one, around the answer"
            )
        self._pattern = compiled

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """One verdict for each problem and response, in order."""
        return [self._verify_one(problem.reference.strip(), response) for problem, response in attempts]

    def _verify_one(self, reference: str, response: str) -> Verdict:
        answer = self._answer_in(response)
        if not reference:
            return Verdict(Outcome.UNKNOWN, answer, "the problem has no reference answer")
        if answer is None:
            return Verdict(Outcome.WRONG, None, f"the last line does not match {self._pattern.pattern!r}")
        if canonical(answer) == canonical(reference):
            return Verdict(Outcome.RIGHT, answer, "the final answer is the reference")
        return Verdict(Outcome.WRONG, answer, f"the final answer is {answer!r}, the reference {reference!r}")

    def _answer_in(self, response: str) -> str | None:
        lines = response.strip().splitlines()
        match = self._pattern.fullmatch(lines[-1].strip()) if lines else None
        # A group inside an alternative that was not taken is None although the pattern matched.
        return None if match is None or match[1] is None else match[1].strip()


def canonical(answer: str) -> str:
    """One way to write an answer, the same for two that the verifier calls equal: integers by value, else the text.

    >>> canonical("+07"), canonical("-0"), canonical("7.0")
    ('7', '0', '7.0')
    """
    return str(int(answer)) if _INTEGER.fullmatch(answer) else answer
