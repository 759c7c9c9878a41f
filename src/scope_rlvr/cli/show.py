"""``scope show``: the salvaged rollouts of a run in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console


def show(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    step: Annotated[int | None, typer.Option(help="the step; the last one with a salvage without it")] = None,
    limit: Annotated[int, typer.Option(min=1, help="rollouts shown")] = 5,
) -> None:
    """Show kept prefix, rejected step, teacher's step and continuation of salvaged rollouts, with step scores."""
    from scope_rlvr.report.terminal import show_run

    show_run(run, step, open_console(), limit)
