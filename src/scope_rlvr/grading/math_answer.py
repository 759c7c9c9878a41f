r"""Mathematical answers: the last box of a response against the gold, decided in processes that can be killed."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.grading.boxes import last_box
from scope_rlvr.grading.normal import normal
from scope_rlvr.grading.pipes import CRASHED
from scope_rlvr.grading.pool import Answer, WorkerPool

_MAX_REMEMBERED = 100_000
_INTEGER = re.compile(r"[+-]?\d{1,300}")


class MathVerifier:
    r"""Right where the last ``\boxed{...}`` of a response is equal to the reference, by ``math-verify``.

    The answer is read by :func:`~scope_rlvr.grading.boxes.last_box`; without one the verdict is wrong. Both sides are
    brought into one form (:mod:`~scope_rlvr.grading.normal`); integers are compared at once, anything else in a worker
    process (:mod:`~scope_rlvr.grading.math_judge`) that is killed after ``deadline`` seconds, or when it holds more than
    ``memory_mib``. What it could not decide, and a reference that is empty or cannot be parsed, is unknown. Every reason
    begins with a code; docs/grading.md lists them.

    A pair of reference and answer is graded once and remembered, time-outs included.

    >>> problem = Problem("p", "What is one half?", "0.5")
    >>> responses = [r"\boxed{\frac{2}{4}}", r"\boxed{0.5} or \boxed{2}", "0.5"]
    >>> with MathVerifier() as verifier:
    ...     verdicts = verifier.verify([(problem, text) for text in responses])
    >>> [(verdict.outcome.value, verdict.answer, verdict.reason) for verdict in verdicts]
    [('right', '\\frac{2}{4}', 'equal'), ('wrong', '2', 'unequal'), ('wrong', None, 'no_box')]
    """

    def __init__(self, *, workers: int = 2, deadline: float = 5.0, memory_mib: int = 1024) -> None:
        self.pool = WorkerPool(
            "scope_rlvr.grading.math_judge:make_judge",
            {},
            num_workers=workers,
            deadline=deadline,
            memory_mib=memory_mib,
        )
        self._remembered: OrderedDict[tuple[str, str], Answer] = OrderedDict()

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        self.pool.close()

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """One verdict for each problem and response, in order."""
        found = [last_box(response) for _, response in attempts]
        pairs = [
            (problem.reference.strip(), extraction.answer)
            for (problem, _), extraction in zip(attempts, found, strict=True)
        ]
        answers = self._grade([(gold, answer) for gold, answer in pairs if gold and answer is not None])
        verdicts = []
        for (gold, answer), extraction in zip(pairs, found, strict=True):
            if not gold:
                verdicts.append(Verdict(Outcome.UNKNOWN, answer, "no_gold"))
            elif answer is None:
                verdicts.append(Verdict(Outcome.WRONG, None, extraction.reason))
            else:
                graded = answers[gold, answer]
                verdicts.append(Verdict(graded.outcome, answer, graded.reason))
        return verdicts

    def _grade(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Answer]:
        """The answer to each pair; only what nobody asked before goes to a worker."""
        answers: dict[tuple[str, str], Answer] = {}
        for pair in dict.fromkeys(pairs):
            known = self._remembered.get(pair) or _compare_integers(*pair)
            if known is not None:
                answers[pair] = known
        asked = [pair for pair in dict.fromkeys(pairs) if pair not in answers]
        questions = [{"gold": gold, "answer": answer} for gold, answer in asked]
        for pair, answer in zip(asked, self.pool.ask(questions), strict=True):
            answers[pair] = answer
            # A crash may have been an accident of the machine.
            if not answer.reason.startswith(CRASHED):
                self._remember(pair, answer)
        return answers

    def _remember(self, pair: tuple[str, str], answer: Answer) -> None:
        self._remembered[pair] = answer
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)


def _compare_integers(gold: str, answer: str) -> Answer | None:
    """The answer where both sides are integers and nothing has to be parsed."""
    sides = normal(gold), normal(answer)
    if not all(_INTEGER.fullmatch(side.latex) for side in sides) or sides[0].unit != sides[1].unit:
        return None
    is_equal = int(sides[0].latex) == int(sides[1].latex)
    return Answer(Outcome.RIGHT, "equal") if is_equal else Answer(Outcome.WRONG, "unequal")
