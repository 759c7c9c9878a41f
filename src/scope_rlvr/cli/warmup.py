"""``scope warmup``: a policy that imitates solutions until reinforcement learning has something to work with."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scope_rlvr.cli.options import ConfigArgument, Overrides
from scope_rlvr.cli.train import carry_out
from scope_rlvr.core.processes import ONE_PROCESS

if TYPE_CHECKING:
    from scope_rlvr.check.start import RunStart


def warmup(
    config: ConfigArgument = None,
    overrides: Overrides = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps at most")] = None,
    out: Annotated[Path | None, typer.Option(help="a new run folder; runs/warmup-<time> without one")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this warm-up from its last checkpoint")] = None,
) -> None:
    """Let the policy of a configuration imitate solutions, before it is trained. Exit codes as of scope train."""
    from scope_rlvr.check.start import ConfigRequest, WarmupRequest, new_run, resumed_run

    changes = list(overrides or ())
    changes += [f"warmup.steps={steps}"] if steps is not None else []
    with ExitStack() as held:
        if resume is None:
            request = WarmupRequest(config, tuple(changes))
            folder = out or Path("runs") / f"warmup-{time.strftime('%Y%m%d-%H%M%S')}"
            run = new_run(request, folder, ONE_PROCESS, held)
        else:
            run = resumed_run(resume, ConfigRequest(config, tuple(changes)), out, ONE_PROCESS, held)
        exit_code = carry_out(run, ONE_PROCESS, _require_solutions)
    raise typer.Exit(exit_code)


def _require_solutions(run: RunStart) -> None:
    from scope_rlvr.run.warmup import require_solutions

    if run.data is not None:
        require_solutions(run.config, run.data.training)
