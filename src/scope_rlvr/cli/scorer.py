"""``scope scorer``: step scorers, made and measured."""

from __future__ import annotations

import typer

app = typer.Typer(help="Step scorers (process reward models).", no_args_is_help=True)


@app.callback()
def scorer() -> None:
    """Step scorers (process reward models)."""
