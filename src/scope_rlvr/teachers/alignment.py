"""Where in a worked solution somebody else's beginning stands, and which step of the solution comes next.

A worked solution is one order of steps of several that are valid, so places are not compared. Each calculation of the
solution is done if the beginning has its result. It is not needed if all calculations that take its result as an input are
done: then the beginning went another way. What comes next is the first step with a calculation that is needed and not done.
Where the solution calculates nothing, its steps are told by their words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from fractions import Fraction
from functools import lru_cache

from scope_rlvr.problems.calculations import Calculation, numbers_in, read_calculations, split_solution

_REMEMBERED = 1024
_LEAST_SIMILARITY = 0.6
"""Two steps with at least this share of words in common, in the same order, are one step in other words."""

_NUMBERING = re.compile(r"^\W*(?:step\s+)?\d+[.):]", re.IGNORECASE | re.MULTILINE)

_Result = tuple[Fraction, tuple[Fraction, ...]]


class UnalignedError(Exception):
    """A solution that cannot go on from a beginning; the message says why."""


@dataclass(frozen=True, slots=True)
class WorkedSolution:
    """The steps of a solution, and what it calculates: the number of the step and the calculation, in order.

    A sentence that leads to a calculation is one step with it.
    """

    steps: tuple[str, ...]
    calculations: tuple[tuple[int, Calculation], ...]

    @classmethod
    @lru_cache(maxsize=_REMEMBERED)
    def read(cls, text: str, separator: str) -> WorkedSolution:
        r"""A solution, cut at the separator; at the ends of lines where it has none.

        >>> WorkedSolution.read("First the eggs.\n2 x 6 = 12\n12 - 5 = 7\nAnswer: 7", "\n\n").steps
        ('First the eggs. 2 x 6 = 12', '12 - 5 = 7', 'Answer: 7')
        """
        pieces = split_solution(text, separator)
        if any(read_calculations(piece).found for piece in pieces):
            pieces = _with_what_they_lead_to(pieces)
        found = [(k, found) for k, piece in enumerate(pieces) for found in read_calculations(piece).found]
        return cls(tuple(pieces), tuple(found))

    def rest(self, problem: str, beginning: str, separator: str) -> tuple[str, ...]:
        r"""The steps that a beginning lacks, the next one first.

        Raises :class:`UnalignedError` where none of the solution is in the beginning although it calculates or says something,
        and where it lacks nothing.

        >>> solution = WorkedSolution.read("2 x 6 = 12\n\n3 + 1 = 4\n\n12 - 4 = 8\n\nAnswer: 8", "\n\n")
        >>> solution.rest("2 boxes of 6; he eats 3, then 1", "So 3 + 1 = 4\n\n", "\n\n")
        ('2 x 6 = 12', '12 - 4 = 8', 'Answer: 8')
        >>> solution.rest("2 boxes of 6; he eats 3, then 1", "2 x 6 - 3 - 1 = 8\n\n", "\n\n")
        ('Answer: 8',)
        """
        if not beginning.strip():
            return self.steps
        written = split_solution(beginning, separator)
        missing = self._uncalculated(problem, written) if self.calculations else self._unsaid(written)
        if not missing:
            raise UnalignedError("it has nothing that is not there already")
        return tuple(self.steps[k] for k in missing)

    def _uncalculated(self, problem: str, written: Sequence[str]) -> list[int]:
        worked = [found for piece in written for found in read_calculations(piece).found]
        is_done_C = self._done(problem, written, worked)
        if worked and not any(is_done_C):
            raise UnalignedError("it has none of the results that are there")
        is_needed_C = self._needed(is_done_C)
        missing = {step for (step, _), is_needed in zip(self.calculations, is_needed_C, strict=True) if is_needed}
        # Sentences and equations with letters have a place and no result.
        done = {step for (step, _), is_done in zip(self.calculations, is_done_C, strict=True) if is_done}
        calculating = {step for step, _ in self.calculations}
        others = [k for k in range(len(self.steps)) if k not in calculating]
        reached = max(done | {k for k in others if self._is_said(k, written)}, default=-1)
        return sorted(missing | {k for k in others if k > reached})

    def _done(self, problem: str, written: Sequence[str], worked: Sequence[Calculation]) -> list[bool]:
        """Whether what was ``written`` has the result of each calculation; each that was ``worked`` stands for one at most."""
        own = [calculation for _, calculation in self.calculations]
        theirs = Counter(map(_signature, worked))
        is_done_C = [False] * len(own)
        for i, calculation in enumerate(own):
            if theirs[_signature(calculation)]:
                theirs[_signature(calculation)] -= 1
                is_done_C[i] = True
        results = Counter(result for result, _ in theirs.elements())
        for i, calculation in enumerate(own):
            if not is_done_C[i] and results[calculation.result]:
                results[calculation.result] -= 1
                is_done_C[i] = True
        # A number that stands in no calculation, and that the problem does not give, was worked out without saying how.
        in_calculations = {number for found in worked for number in (found.result, *found.inputs)}
        said = numbers_in(_NUMBERING.sub("", "\n".join(written))) - numbers_in(problem) - in_calculations
        return [done or calculation.result in said for done, calculation in zip(is_done_C, own, strict=True)]

    def _needed(self, is_done_C: Sequence[bool]) -> list[bool]:
        """Whether each calculation is not done, and something that is needed, or nothing at all, takes its result."""
        own = [calculation for _, calculation in self.calculations]
        is_needed_C = [False] * len(own)
        for i in reversed(range(len(own))):
            users = [j for j in range(i + 1, len(own)) if own[i].result in own[j].inputs]
            is_needed_C[i] = not is_done_C[i] and (not users or any(is_needed_C[j] for j in users))
        return is_needed_C

    def _unsaid(self, written: Sequence[str]) -> list[int]:
        """The steps after the last one that was written in similar words."""
        known = [k for k in range(len(self.steps)) if self._is_said(k, written)]
        if not known:
            raise UnalignedError("it has no step in words like those that are there")
        return list(range(known[-1] + 1, len(self.steps)))

    def _is_said(self, step: int, written: Sequence[str]) -> bool:
        """Whether a step was written in similar words."""
        matcher = SequenceMatcher(autojunk=False)
        matcher.set_seq2(_words(self.steps[step]))
        for piece in written:
            matcher.set_seq1(_words(piece))
            if matcher.ratio() >= _LEAST_SIMILARITY:
                return True
        return False


def _with_what_they_lead_to(pieces: Sequence[str]) -> list[str]:
    """Steps that calculate or state something, each with the plain sentences before it; the last step stays by itself."""
    *others, last = pieces
    joined: list[str] = []
    sentences: list[str] = []
    for piece in others:
        sentences.append(piece)
        if "=" in piece:
            joined.append(" ".join(sentences))
            sentences = []
    return [*joined, *([" ".join(sentences)] if sentences else []), last]


def _signature(calculation: Calculation) -> _Result:
    return calculation.result, tuple(sorted(calculation.inputs))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
