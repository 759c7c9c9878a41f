"""Messages as JSON lines over pipes: what the grading processes speak, so that nothing they exchange is a pickle."""

from __future__ import annotations

import json
import os
from typing import Any

TIME_OUT, OUT_OF_MEMORY, CRASHED = "time_out", "out_of_memory", "worker_crashed"
"""How the reasons begin that do not come from the judge."""


class Lines:
    """The messages that arrive at one end of a pipe, whole lines at a time.

    >>> import os
    >>> receiving, sending = os.pipe()
    >>> lines = Lines(receiving)
    >>> _ = os.write(sending, b'{"a": 1}\\n{"b"')
    >>> lines.read(), os.close(sending), lines.read(), os.close(receiving)
    ([{'a': 1}], None, None, None)
    """

    def __init__(self, file: int) -> None:
        self.file = file
        self._unfinished = b""

    def read(self) -> list[dict[str, Any]] | None:
        """The messages that are complete, after waiting for some bytes; ``None`` where the other end is closed."""
        piece = os.read(self.file, 1 << 16)
        if not piece:
            return None
        *whole, self._unfinished = (self._unfinished + piece).split(b"\n")
        return [json.loads(line) for line in whole]


def send(file: int, message: dict[str, Any]) -> None:
    """Write one message; ``BrokenPipeError`` where nobody reads any more."""
    rest = memoryview(json.dumps(message).encode() + b"\n")
    while rest:
        rest = rest[os.write(file, rest) :]
