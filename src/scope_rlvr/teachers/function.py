"""A function of the user's as the teacher, in processes that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from scope_rlvr.core.ports import Fault, TeacherReply, TeacherRequest
from scope_rlvr.core.types import Outcome, Problem
from scope_rlvr.grading.function import DOES_NOT_KNOW, RETURNED_OTHER, FunctionSettings, imported
from scope_rlvr.grading.pipes import TIME_OUT
from scope_rlvr.grading.pool import Answer

JUDGE = "scope_rlvr.teachers.function:make_writer"
"""What makes a worker's answers."""

_FAULTS = {DOES_NOT_KNOW: Fault.EMPTY, RETURNED_OTHER: Fault.MALFORMED, TIME_OUT: Fault.TIMEOUT}


class FunctionTeacher:
    """Writes what a function of yours returns: ``def write(problem, prefix, separator): ...``.

    It is called with a :class:`~scope_rlvr.core.types.Problem`, the text so far, and the text that ends a step: then it returns the
    next step, or the pair of the step and ``True`` where the step ends the solution. Where ``separator`` is ``None`` it returns the
    rest of the solution. ``None`` is that it has nothing to say. An exception, a time-out or another value is a reply with an error.

    Raises :class:`~scope_rlvr.grading.pool.WorkerStartError` where the function cannot be imported.
    """

    def __init__(self, settings: FunctionSettings) -> None:
        self._pool = settings.pool(JUDGE)

    def close(self) -> None:
        """End the worker processes."""
        self._pool.close()

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        """One reply for each request, in order. A token budget is the caller's to look at: nothing is cut off here."""
        questions = [
            {"problem": asdict(r.problem), "prefix": r.prefix_text, "separator": r.stop_text} for r in requests
        ]
        answers = self._pool.ask(questions)
        return [_reply(answer, request.stop_text) for request, answer in zip(requests, answers, strict=True)]


def _reply(answer: Answer, separator: str | None) -> TeacherReply:
    if answer.value is None:
        fault = _FAULTS.get(answer.reason.partition(":")[0], Fault.OTHER)
        return TeacherReply(error=f"the function says nothing: {answer.reason}", fault=fault)
    text, is_end = answer.value
    if separator is None or is_end:
        return TeacherReply(text=text, finished=True)
    return TeacherReply(text=text if separator in text else text.rstrip() + separator)


def make_writer(path: str) -> Callable[..., tuple[str, str, tuple[str, bool] | None]]:
    """What a worker process answers with: calls the user's function."""
    user_function = imported(path)

    def write(problem: dict[str, Any], prefix: str, separator: str | None) -> tuple[str, str, tuple[str, bool] | None]:
        said = user_function(Problem(**problem), prefix, separator)
        if said is None:
            return Outcome.UNKNOWN, DOES_NOT_KNOW, None
        text, is_end = said if isinstance(said, tuple) and len(said) == 2 else (said, False)
        if not isinstance(text, str) or not isinstance(is_end, bool):
            told = f"{RETURNED_OTHER}: {type(said).__name__} instead of a text, a text and True, or None"
            return Outcome.UNKNOWN, told, None
        return Outcome.RIGHT, "written", (text, is_end)

    return write
