"""``scope report``: one self-contained HTML file about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.core.errors import UserError


def report(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    out: Annotated[Path | None, typer.Option(help="the HTML file; RUN/report.html without one")] = None,
) -> None:
    """Write the report of a run, finished or not."""
    from scope_rlvr.report import write_report

    try:
        print(write_report(run, out))
    except OSError as error:
        raise UserError(f"the report cannot be written to {out or run}: {error.strerror or error}") from error
