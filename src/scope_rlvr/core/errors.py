"""Errors that a user can mend, each with the exit code that the command line ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Every exit code of ``scope``."""

    OK = 0
    INTERNAL_ERROR = 1
    BAD_INPUT = 2
    TRAINING_STOPPED = 5
    RUNS_FAILED = 6
    INTERRUPTED = 130


class UserError(ValueError):
    """Something in the configuration, the files or the arguments that the user can mend: exit code 2.

    The message says what was received, where, and the remedy.
    """


class CannotWrite(OSError):
    """A file that the system did not let be written, as on a full disk: exit code 1. What was written before is kept.

    >>> str(CannotWrite(28, "No space left on device", "runs/a/metrics.jsonl"))
    'runs/a/metrics.jsonl cannot be written: No space left on device'
    """

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {self.strerror}"


def first_line(error: BaseException) -> str:
    r"""The first line of what an error says, or its name if it says nothing.

    >>> first_line(OSError("no such folder\nTraceback ...")), first_line(MemoryError())
    ('no such folder', 'MemoryError')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]
