"""``scope scorer``: step scorers, made and measured."""

from __future__ import annotations

import typer

from scope_rlvr.cli import scorer_bench, scorer_calibrate, scorer_label, scorer_train

app = typer.Typer(help="Step scorers (process reward models).", no_args_is_help=True)


@app.callback()
def scorer() -> None:
    """Step scorers (process reward models)."""


app.command("train")(scorer_train.train)
app.command("label")(scorer_label.label)
app.command("bench")(scorer_bench.bench)
app.command("calibrate")(scorer_calibrate.calibrate)
