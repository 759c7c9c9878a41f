"""A command of ``scope`` in a process of its own that may hang, crash or be killed without harm to the caller.

Everything that is slow to import is imported once, and each command runs in a fork of this process.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

BEGAN = 77
"""The exit code of a command whose training or other work would have begun."""

_SECONDS_BETWEEN_LOOKS = 0.01
_MOST_MEMORY = 8 << 30
"""Bytes beside what this process has already."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. ``code`` is negative for a signal and ``None`` where it had to be killed at its deadline."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def has_traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.err


def run_forked(work: Callable[[], None], folder: Path, deadline: float, *, kill_after: float = math.inf) -> Ended:
    """``work()`` in a fork of this process whose current folder is ``folder``; it ends by ``SystemExit``, or with 0.

    What it prints is kept beside ``folder``, so that the folder holds what the command wrote and nothing else. With all that
    it started it is killed ``kill_after`` seconds after its start, and at its deadline.
    """
    out, err = (folder.with_name(f"{folder.name}.{name}") for name in ("out", "err"))
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _in_child(work, folder, out, err)
    code = _wait(pid, min(deadline, kill_after))
    if code is None and kill_after <= deadline:
        code = -signal.SIGKILL
    seconds = time.monotonic() - started
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in (out, err)]
    out.unlink()
    err.unlink()
    return Ended(code, *texts, seconds)


def run_scope(
    arguments: Sequence[str],
    folder: Path,
    deadline: float,
    prepare: Callable[[], None] = lambda: None,
    *,
    kill_after: float = math.inf,
) -> Ended:
    """``scope ARGUMENTS`` in a fork; ``prepare`` is called there first."""

    def work() -> None:
        from scope_rlvr.cli.main import main

        prepare()
        sys.argv = ["scope", *arguments]
        main()

    return run_forked(work, folder, deadline, kill_after=kill_after)


def stop_before_work() -> None:
    """Where training would begin, end with :data:`BEGAN`."""
    import scope_rlvr.run.train as train

    def began(*_: object, **__: object) -> None:
        sys.stdout.flush()
        os._exit(BEGAN)

    train._evaluate = began  # type: ignore[assignment]
    train._train = began  # type: ignore[assignment]


def _in_child(work: Callable[[], None], folder: Path, out: Path, err: Path) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for number, file in ((1, out), (2, err)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_MEMORY,) * 2)
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid: int, deadline: float) -> int | None:
    until = time.monotonic() + deadline
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(_SECONDS_BETWEEN_LOOKS)
