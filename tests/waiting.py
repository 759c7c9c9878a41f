"""Waiting for what another process or thread does."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE_SECONDS = 900
"""When a test that waits is given up for lost. It says nothing about how long anything should take."""

_SECONDS_BETWEEN_LOOKS = 0.01


def wait_until(is_so: Callable[[], object], what: str, process: subprocess.Popen[str] | None = None) -> None:
    """Return once it is so; ``what`` says what is waited for.

    Raises ``AssertionError`` with what the process said where it has ended first, and ``TimeoutError`` where nothing happens.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{what}: the process has ended: {process.communicate()}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE_SECONDS} s")
        time.sleep(_SECONDS_BETWEEN_LOOKS)
