"""``scope embedded``: the tiny models that ship with the package, made again from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.store.files import require_new_folder

app = typer.Typer(help="The embedded models.", no_args_is_help=True)


@app.callback()
def embedded() -> None:
    """The embedded models."""


@app.command()
def build(out: Annotated[Path, typer.Option(help="a new folder for policy, teacher and step scorer")]) -> None:
    """Train the three embedded models from nothing (about an hour on one CPU core)."""
    require_new_folder(out)
    from scope_rlvr.embedded_lab.build import build as build_models

    build_models(out)
