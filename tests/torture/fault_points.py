"""The moments at which a process touches its files, so that it can be killed, or refused, at any of them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "shutil.rmtree",
    "os.link",
    "os.symlink",
}


def at_file_events(folder: Path, act: Callable[[int, str], None]) -> None:
    """Call ``act`` with 1, 2, 3, ... and the path before each change of a file below ``folder`` from now on.

    Python reports these changes to audit hooks. What compiled libraries write by themselves is not among them.
    """
    count, root = 0, str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        is_write = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & _WRITES)
        if not (is_write or event in _CHANGES) or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(root):
            count += 1
            act(count, path)

    sys.addaudithook(hook)


def kill_at_file_event(number: int, folder: Path) -> None:
    """From now on, end this process by SIGKILL at its file event of this number."""

    def act(count: int, path: str) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    at_file_events(folder, act)
