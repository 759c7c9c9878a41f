"""A function of the user's in processes that can be killed: as the verifier here, as a step scorer and a teacher elsewhere."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import Field

from scope_rlvr.core.settings import Settings
from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.grading.pool import WorkerPool

FUNCTION_PATH = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"

DOES_NOT_KNOW, RETURNED_OTHER = "function_does_not_know", "function_returned_other"


class FunctionSettings(Settings):
    """A function of the user's, and what it may take."""

    path: str = Field(..., pattern=FUNCTION_PATH, description="where it is, `package.module:name`")
    workers: int = Field(2, ge=1, le=256, description="processes that work at a time")
    deadline: float = Field(60.0, gt=0, le=3600, description="seconds for one call; then it has failed")
    memory_mib: int = Field(4096, ge=64, description="most memory of a process; above it the call has failed")

    def pool(self, judge: str) -> WorkerPool:
        """Processes that call the function; ``judge`` makes, from its path, what they answer with.

        Raises :class:`~scope_rlvr.grading.pool.WorkerStartError` where the function cannot be imported.
        """
        pool = WorkerPool(
            judge, {"path": self.path}, num_workers=self.workers, deadline=self.deadline, memory_mib=self.memory_mib
        )
        pool.wait_until_ready()
        return pool


_WORDS = {True: (Outcome.RIGHT, "function_said_right"), False: (Outcome.WRONG, "function_said_wrong")}


class FunctionVerifier:
    """Right where a function of yours returns ``True``: ``def is_right(problem, response): ...``.

    ``path`` is ``package.module:name``; the function is imported in the worker processes, from where Python finds modules and
    from the current folder. It is called with a :class:`~scope_rlvr.core.types.Problem` and the whole response, and returns
    ``True``, ``False``, or ``None`` where it cannot tell. An exception, a time-out or another value is an unknown verdict
    with the reason; it is never a zero reward. What the function takes for the answer is not known.

    Raises :class:`~scope_rlvr.grading.pool.WorkerStartError` where the function cannot be imported.

    >>> with FunctionVerifier("operator:eq") as verifier:
    ...     [verdict] = verifier.verify([(Problem("p", "?", "1"), "1")])
    >>> verdict.outcome.value, verdict.reason
    ('wrong', 'function_said_wrong')
    """

    def __init__(self, path: str, *, workers: int = 2, deadline: float = 5.0, memory_mib: int = 4096) -> None:
        self.pool = WorkerPool(
            "scope_rlvr.grading.function:make_judge",
            {"path": path},
            num_workers=workers,
            deadline=deadline,
            memory_mib=memory_mib,
        )
        self.pool.wait_until_ready()

    def __enter__(self) -> FunctionVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        self.pool.close()

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """One verdict for each problem and response, in order."""
        questions = [{"problem": asdict(problem), "response": response} for problem, response in attempts]
        return [Verdict(answer.outcome, None, answer.reason) for answer in self.pool.ask(questions)]


def imported(path: str) -> Callable[..., Any]:
    """A function by ``package.module:name``, from where Python finds modules and from the current folder. For workers alone."""
    sys.path.insert(0, os.getcwd())
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _require_two_arguments(function: Callable[..., Any], path: str) -> None:
    """Raise ``TypeError`` for a function that could not be called with a problem and a response."""
    try:
        inspect.signature(function).bind(None, None)
    except ValueError:  # A function in C may have no signature that could be looked at.
        return
    except TypeError as error:
        raise TypeError(f"{path} is to be called as is_right(problem, response), and cannot: {error}") from error


def make_judge(path: str) -> Callable[..., tuple[str, str]]:
    """The judge of a worker process: calls the user's function."""
    user_function = imported(path)
    _require_two_arguments(user_function, path)

    def judge(problem: dict[str, Any], response: str) -> tuple[str, str]:
        said = user_function(Problem(**problem), response)
        if said is None:
            return Outcome.UNKNOWN, DOES_NOT_KNOW
        if not isinstance(said, bool):
            return Outcome.UNKNOWN, f"{RETURNED_OTHER}: {type(said).__name__} instead of True, False or None"
        return _WORDS[said]

    return judge
