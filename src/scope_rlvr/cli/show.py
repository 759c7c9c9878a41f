"""``scope show``: the salvaged rollouts of a run in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console, print_lines
from scope_rlvr.core.errors import UserError


def show(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    step: Annotated[int | None, typer.Option(help="the step; the last one with a salvage without it")] = None,
    limit: Annotated[int, typer.Option(min=1, help="rollouts shown")] = 5,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="write every rollout, or those of --step, as one JSON object a line")
    ] = False,
) -> None:
    """Show kept prefix, rejected step, teacher's step and continuation of salvaged rollouts, with step scores."""
    if jsonl:
        _write_lines(run, step)
        return
    from scope_rlvr.report.terminal import show_run

    show_run(run, step, open_console(), limit)


def _write_lines(run: Path, step: int | None) -> None:
    """Whole rollouts as JSON lines on stdout, as docs/formats.md describes them."""
    from scope_rlvr.store.journal import encoded
    from scope_rlvr.store.rollouts import Rollouts

    rollouts = Rollouts.of(run)
    if not rollouts.files:
        raise UserError(f"{run} has no rollouts; give the folder that a training run wrote (runs/<name>)")
    if step is not None and step not in rollouts.steps:
        raise UserError(f"no rollouts of step {step} are recorded in {run}; there are {len(rollouts.steps)} steps")
    for _, record in rollouts.records(step):
        sys.stdout.buffer.write(encoded(record))
    sys.stdout.buffer.flush()
    print_lines(open_console(stderr=True), *rollouts.notes())
