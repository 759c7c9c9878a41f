"""Step scorers for the tests; worker processes import this module by its name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from scope_rlvr.core.types import Problem


def half_right(problem: Problem, steps: Sequence[str]) -> list[float] | None:
    """1, 1/2, 1/3, ...; nothing for a problem without steps."""
    return [1 / (k + 1) for k in range(len(steps))] or None


def does_not_know(problem: Problem, steps: Sequence[str]) -> None:
    return None


def too_few(problem: Problem, steps: Sequence[str]) -> list[float]:
    return [1.0]


def too_high(problem: Problem, steps: Sequence[str]) -> list[float]:
    return [2.0] * len(steps)


def a_word(problem: Problem, steps: Sequence[str]) -> Any:
    return "good"


def never_returns(problem: Problem, steps: Sequence[str]) -> list[float]:
    time.sleep(600)
    return []


def fails(problem: Problem, steps: Sequence[str]) -> list[float]:
    raise LookupError("nothing here")
