"""Where the commands print."""

from __future__ import annotations

from rich.console import Console


def open_console(*, stderr: bool = False) -> Console:
    """A console that leaves what it is given as it is: no ``:word:`` becomes a picture, no number gets a colour."""
    return Console(stderr=stderr, highlight=False, emoji=False)
