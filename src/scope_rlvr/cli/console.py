"""Where the commands print."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console that leaves what it is given as it is: no ``:word:`` becomes a picture, no number gets a colour.

    A quiet one prints nothing.
    """
    return Console(stderr=stderr, quiet=quiet, highlight=False, emoji=False)


def print_lines(console: Console, *lines: str) -> None:
    """Print lines as they are: brackets are no markup, and a long line is not broken."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def resume_command(*, is_resumed: bool) -> str:
    """The command line of this process with ``--resume``."""
    return shlex.join(["scope", *sys.argv[1:], *([] if is_resumed else ["--resume"])])


def progress_bar(console: Console) -> Progress:
    """A progress bar, removed at the end, and shown on a terminal only."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
