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
from contextlib import suppress
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

    With all that it started it is killed ``kill_after`` seconds after its start, and at its deadline.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # Pipes: limits on files do not hold for them.
    pipes = os.pipe(), os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _in_child(work, folder, pipes)
    for _, end in pipes:
        os.close(end)
    try:
        code, said = _wait(pid, min(deadline, kill_after), [end for end, _ in pipes])
    finally:
        for end, _ in pipes:
            os.close(end)
    if code is None and kill_after <= deadline:
        code = -signal.SIGKILL
    out, err = (text.decode("utf-8", errors="replace") for text in said)
    return Ended(code, out, err, time.monotonic() - started)


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


def _in_child(work: Callable[[], None], folder: Path, pipes: Sequence[tuple[int, int]]) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for number, (_, end) in enumerate(pipes, start=1):
            os.dup2(end, number)
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
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _wait(pid: int, seconds: float, ends: Sequence[int]) -> tuple[int | None, tuple[bytes, bytes]]:
    """The exit code, ``None`` where the process had to be killed, and what it printed."""
    until, said = time.monotonic() + seconds, [bytearray(), bytearray()]
    for end in ends:
        os.set_blocking(end, False)

    def read() -> tuple[bytes, bytes]:
        for end, text in zip(ends, said, strict=True):
            with suppress(BlockingIOError):
                while piece := os.read(end, 1 << 16):
                    text.extend(piece)
        return bytes(said[0]), bytes(said[1])

    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), read()
        read()
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None, read()
        time.sleep(_SECONDS_BETWEEN_LOOKS)
