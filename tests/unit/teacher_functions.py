"""Teachers for the tests; worker processes import this module by its name."""

from __future__ import annotations

import time
from typing import Any

from scope_rlvr.core.types import Problem


def next_number(problem: Problem, prefix: str, separator: str | None) -> str | tuple[str, bool] | None:
    """Counts up to the reference, one number a step."""
    last = int(problem.reference)
    said = [int(number) for number in prefix.split(separator or ";") if number.strip()]
    if separator is None:
        return ";".join(map(str, range(len(said) + 1, last + 1)))
    if len(said) >= last:
        return None
    return str(len(said) + 1), len(said) + 1 == last


def writes_a_number(problem: Problem, prefix: str, separator: str | None) -> Any:
    return 7


def never_returns(problem: Problem, prefix: str, separator: str | None) -> str:
    time.sleep(600)
    return ""


def fails(problem: Problem, prefix: str, separator: str | None) -> str:
    raise LookupError("nothing here")


def says_the_answer(problem: Problem, prefix: str, separator: str | None) -> tuple[str, bool]:
    """As the embedded family wants it, whatever stands before."""
    return f"answer {problem.reference}", True
