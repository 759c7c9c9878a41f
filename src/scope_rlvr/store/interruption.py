"""What Ctrl-C and SIGTERM mean to a process that trains: finish what is in work, save, end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interruption:
    """Whether a signal asked this process to stop, and which one (``"SIGINT"`` or ``"SIGTERM"``)."""

    by: str = ""


@contextmanager
def interruptible(interruption: Interruption, note: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) is written down and told to ``note``; the second is an ordinary interruption."""

    def ask_to_stop(number: int, _: FrameType | None) -> None:
        if interruption.by:
            raise KeyboardInterrupt
        interruption.by = signal.Signals(number).name
        note(f"{interruption.by}: finishing this step, then saving")

    before = {number: signal.signal(number, ask_to_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
