"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scope_rlvr.core.errors import ExitCode


@dataclass(frozen=True)
class RunOutcome:
    """The exit code, what ``summary.json`` holds, and why the run ended before its last step, if it did."""

    exit_code: ExitCode
    summary: dict[str, Any]
    message: str = ""
