"""What a look at a configuration or at a machine found: each finding with its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad it is. An error would stop a run or make its figures worthless."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    >>> finding = Finding(Severity.WARNING, "disk", "2 GiB are free and 3 GiB are needed", "name another folder by --out")
    >>> finding.record()["severity"]
    'warning'
    """

    severity: Severity
    subject: str
    message: str
    remedy: str = ""

    def record(self) -> dict[str, Any]:
        """As it stands in JSON."""
        return asdict(self) | {"severity": self.severity.value}


def is_passed(findings: Iterable[Finding]) -> bool:
    """Whether nothing was found that would stop the run."""
    return not any(finding.severity is Severity.ERROR for finding in findings)


def ok(subject: str, message: str) -> Finding:
    """Nothing is wrong with it."""
    return Finding(Severity.OK, subject, message)


def warning(subject: str, message: str, remedy: str) -> Finding:
    """It will run; what is wrong may cost something."""
    return Finding(Severity.WARNING, subject, message, remedy)


def error(subject: str, message: str, remedy: str = "") -> Finding:
    """It will not run, or not do what it is for. Without a remedy of its own, the message says it."""
    return Finding(Severity.ERROR, subject, message, remedy)
