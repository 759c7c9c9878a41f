"""How a run begins and ends, as ``summary.json`` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scope_rlvr.core.errors import ExitCode
from scope_rlvr.run.config import RunConfig

SUMMARY_SCHEMA = 1

REACHED = "reached "
"""How ``stopped_because`` begins in the summary of a run that ended at ``evaluation.stop_at``."""


def is_done(summary: Mapping[str, Any], num_steps: int) -> bool:
    """Whether a run of so many steps has come to its end and was measured there.

    >>> is_done({"after": {}, "steps": 4, "stopped_because": "reached accuracy 0.3 on stories-4"}, 9)
    True
    >>> is_done({"after": {}, "steps": 4, "stopped_because": "interrupted by SIGINT"}, 9)
    False
    """
    is_at_its_end = summary["steps"] >= num_steps or summary["stopped_because"].startswith(REACHED)
    return summary["after"] is not None and is_at_its_end


@dataclass(frozen=True)
class RunOutcome:
    """The exit code, what ``summary.json`` holds, and why the run ended before its last step, if it did."""

    exit_code: ExitCode
    summary: dict[str, Any]
    message: str = ""


def new_summary(config: RunConfig) -> dict[str, Any]:
    """The summary of a run that begins."""
    return {
        "schema": SUMMARY_SCHEMA,
        "method": config.method.name,
        "seed": config.run.seed,
        "steps": 0,
        "stopped_because": "running",
        "seconds": 0.0,
        "before": None,
        "after": None,
        "salvage": {},
        "teacher": {},
        "tokens": {},
    }
