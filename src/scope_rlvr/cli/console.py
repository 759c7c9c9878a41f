"""Where the commands print."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that leaves what it is given as it is: no ``:word:`` becomes a picture, no number gets a colour.

    A quiet one prints nothing.
    """
    return Console(stderr=stderr, quiet=quiet, highlight=False, emoji=False)


def progress_bar(console: Console) -> Progress:
    """A bar that is gone when all is done, and never there where nobody looks."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
