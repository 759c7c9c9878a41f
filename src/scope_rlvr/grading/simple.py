r"""Verifiers that need no algebra: letters of multiple-choice questions, exact text, numbers within a tolerance."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.grading.normal import normal, plain_words
from scope_rlvr.grading.numbers import are_close, read_number
from scope_rlvr.grading.reading import Reader
from scope_rlvr.grading.units import units_differ


class _ReadAndCompare(ABC):
    """Reads an answer and compares it with the reference; every reason begins with a code."""

    def __init__(self, answer_pattern: str | None) -> None:
        self._reader = Reader(answer_pattern)

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """One verdict for each problem and response, in order."""
        return [self._verify_one(problem.reference.strip(), response) for problem, response in attempts]

    def _verify_one(self, gold: str, response: str) -> Verdict:
        found = self._reader.read(response)
        if not gold:
            return Verdict(Outcome.UNKNOWN, found.answer, "no_gold")
        if found.answer is None:
            return Verdict(Outcome.WRONG, None, found.reason)
        return self._compare(gold, found.answer)

    @abstractmethod
    def _compare(self, gold: str, answer: str) -> Verdict: ...


class ExactVerifier(_ReadAndCompare):
    r"""Right where the answer is the reference, letter for letter but for the spaces around it.

    >>> problem = Problem("p", "Capital of France?", "Paris")
    >>> [v.outcome.value for v in ExactVerifier().verify([(problem, r"\boxed{ Paris }"), (problem, r"\boxed{paris}")])]
    ['right', 'wrong']
    """

    def __init__(self, *, answer_pattern: str | None = None, ignore_case: bool = False) -> None:
        super().__init__(answer_pattern)
        self._ignore_case = ignore_case

    def _compare(self, gold: str, answer: str) -> Verdict:
        is_equal = gold.casefold() == answer.casefold() if self._ignore_case else gold == answer
        return Verdict(Outcome.RIGHT, answer, "same_text") if is_equal else Verdict(Outcome.WRONG, answer, "other_text")


class NumericVerifier(_ReadAndCompare):
    r"""Right where the answer is a number with ``|answer - gold| <= max(relative * max(|answer|, |gold|), absolute)``.

    Numbers are read by :func:`~scope_rlvr.grading.numbers.read_number`; a reference that is none is unknown.

    >>> problem = Problem("p", "How fast is light, in m/s?", "2.998e8")
    >>> verifier = NumericVerifier(relative_tolerance=0.01)
    >>> [v.outcome.value for v in verifier.verify([(problem, r"\boxed{3\times 10^8}"), (problem, r"\boxed{3.1e8}")])]
    ['right', 'wrong']
    """

    def __init__(
        self,
        *,
        answer_pattern: str | None = None,
        relative_tolerance: float = 1e-6,
        absolute_tolerance: float = 0.0,
    ) -> None:
        super().__init__(answer_pattern)
        self._relative = relative_tolerance
        self._absolute = absolute_tolerance

    def _compare(self, gold: str, answer: str) -> Verdict:
        wanted, given = read_number(gold), read_number(answer)
        if wanted is None:
            return Verdict(Outcome.UNKNOWN, answer, "gold_unparsable")
        if given is None:
            return Verdict(Outcome.WRONG, answer, "answer_unparsable")
        if units_differ(normal(gold).unit, normal(answer).unit):
            return Verdict(Outcome.WRONG, answer, "other_unit")
        if are_close(wanted, given, self._relative, self._absolute):
            return Verdict(Outcome.RIGHT, answer, "equal")
        return Verdict(Outcome.WRONG, answer, "unequal")


class ChoiceVerifier(_ReadAndCompare):
    r"""Right where the answer is the letter of the reference, as in ARC, GPQA and MMLU-Pro.

    The letter is the whole box, or stands at its beginning with a bracket, a full stop or a colon behind it, as in
    ``\boxed{(B) 7}``; a box that names two letters is wrong. Without a box it is what follows the last "answer is" or
    "Answer:". ``letters`` are the choices there may be; a reference that is none of them is unknown.

    >>> problem = Problem("p", "Which?", "B")
    >>> texts = [r"\boxed{\text{(B)}}", "The answer is (B).", "Answer: B or C", r"\boxed{A}", "B is tempting"]
    >>> [(v.outcome.value, v.answer) for v in ChoiceVerifier().verify([(problem, text) for text in texts])]
    [('right', 'B'), ('right', 'B'), ('wrong', None), ('wrong', 'A'), ('wrong', None)]
    """

    def __init__(self, *, answer_pattern: str | None = None, letters: str = "ABCDEFGHIJ") -> None:
        super().__init__(answer_pattern)
        self._has_pattern = answer_pattern is not None
        self._letters = letters.upper()
        one = f"[{re.escape(self._letters)}]"
        self._letter = re.compile(rf"\(?({one})(?:\)|[.:)]\s.*|\)\s.*|[.:])?", re.IGNORECASE | re.DOTALL)
        self._said = re.compile(
            rf"answer(?:\s+is)?\s*:?\s*\**\s*\(?({one})\)?\**(?![\w'])(?!\s*(?:,|or|and|/)\s*\(?{one}\b)", re.IGNORECASE
        )

    def _verify_one(self, gold: str, response: str) -> Verdict:
        found = self._reader.read(response)
        if found.reason == "no_box" and not self._has_pattern:
            said = _last_said(self._said, response)
            if said is not None:
                return self._compare(gold, said) if gold else Verdict(Outcome.UNKNOWN, said, "no_gold")
        return super()._verify_one(gold, response)

    def _compare(self, gold: str, answer: str) -> Verdict:
        wanted, given = self._letter_of(gold), self._letter_of(answer)
        if wanted is None:
            return Verdict(Outcome.UNKNOWN, given, "gold_unparsable")
        if given is None:
            return Verdict(Outcome.WRONG, None, "no_letter")
        return Verdict(
            *((Outcome.RIGHT, given, "same_letter") if given == wanted else (Outcome.WRONG, given, "other_letter"))
        )

    def _letter_of(self, text: str) -> str | None:
        found = self._letter.fullmatch(plain_words(normal(text).latex))
        return None if found is None else found[1].upper()


def _last_said(pattern: re.Pattern[str], response: str) -> str | None:
    """The last letter that a response calls the answer, after its thinking."""
    letters = pattern.findall(response.rpartition("</think>")[2])
    return letters[-1] if letters else None
