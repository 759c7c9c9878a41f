"""``scope train``: a run from its configuration to its report."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console
from scope_rlvr.errors import ExitCode, UserError
from scope_rlvr.run.config import RunConfig, dump_config, load_config
from scope_rlvr.run.folder import RunFolder, step_of
from scope_rlvr.run.sources import check_sources


def train(
    config: Annotated[Path | None, typer.Argument(help="TOML configuration; the embedded recipe without one")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.key=value, as often as needed")] = None,
    method: Annotated[str | None, typer.Option(help="the method, see scope methods")] = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps")] = None,
    eval_every: Annotated[int | None, typer.Option(help="evaluate on held-out problems every so many steps")] = None,
    out: Annotated[Path | None, typer.Option(help="a new run folder; runs/<method>-<time> without one")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this run from its last checkpoint")] = None,
) -> None:
    """Train a policy. Exit codes: 0 done, 2 bad input, 5 nothing to learn or not a number, 130 interrupted."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            f"scope train runs in one process and WORLD_SIZE is {os.environ['WORLD_SIZE']}: every process would write the "
            "same run folder; start it without a launcher, or use ScopeTrainer in a script of your own"
        )
    if resume is not None:
        if any(given is not None for given in (config, set_ or None, method, steps, eval_every, out)):
            raise UserError("--resume goes on with a run as it was configured; give no other argument with it")
        folder, found = RunFolder.open(resume), []
        settings = load_config(folder.path / "config.toml")
        check_sources(settings)
        _require_unfinished(settings, folder)
    else:
        overrides = list(set_ or [])
        overrides += [f"run.steps={steps}"] if steps is not None else []
        overrides += [f"evaluation.every={eval_every}"] if eval_every is not None else []
        settings = load_config(config, overrides, method)
        check_sources(settings)
        out = out or Path("runs") / f"{settings.method.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        found = _checked(settings, out)
        folder = RunFolder.create(out, dump_config(settings))
    try:
        exit_code = _run(settings, folder, found, is_resumed=resume is not None)
    except UserError:
        if resume is None:
            folder.discard_unused()
        raise
    except KeyboardInterrupt:
        open_console(stderr=True).print(
            f"scope: interrupted; go on with: scope train --resume {folder.path}", markup=False, soft_wrap=True
        )
        exit_code = ExitCode.INTERRUPTED
    raise typer.Exit(exit_code)


def _require_unfinished(settings: RunConfig, folder: RunFolder) -> None:
    summary = folder.read_json("summary.json")
    if summary is not None and summary["after"] is not None and summary["steps"] >= settings.run.steps:
        raise UserError(
            f"{folder.path} has done its {settings.run.steps} steps and is finished; there is nothing left to resume. "
            "Train a new run with more steps instead"
        )


def _checked(settings: RunConfig, out: Path) -> list[str]:
    """What the quick part of ``scope check`` has to say before the run starts; its errors end the command."""
    from scope_rlvr.run.check import quick_findings
    from scope_rlvr.run.findings import Severity

    findings = list(quick_findings(settings, out))
    errors = [
        f"{f.subject}: {f.message}{f'; {f.remedy}' if f.remedy else ''}"
        for f in findings
        if f.severity is Severity.ERROR
    ]
    if errors:
        raise UserError("; ".join(errors))
    data = [f"data      {f.message}" for f in findings if f.subject == "data" and f.severity is Severity.OK]
    warned = [f for f in findings if f.severity is Severity.WARNING]
    return [*data, *(f"warning   {f.subject}: {f.message}; {f.remedy}" for f in warned)]


def _run(settings: RunConfig, folder: RunFolder, found: list[str], *, is_resumed: bool) -> ExitCode:
    console = open_console()
    for line in [*settings.plan(), *found]:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"run       {folder.path}", markup=False, soft_wrap=True)
    checkpoint = folder.last_checkpoint() if is_resumed else None
    if is_resumed:
        first_step = step_of(checkpoint)
        folder.forget_after(first_step)
        console.print(f"resume    from step {first_step}; later steps are done again", markup=False)

    from scope_rlvr.report import write_report
    from scope_rlvr.report.live import LiveDisplay, final_table
    from scope_rlvr.run.quiet import quiet_libraries
    from scope_rlvr.run.train import train as run_training

    quiet_libraries(settings)
    with LiveDisplay(console, settings.run.steps, []) as display:
        outcome = run_training(settings, folder, display, checkpoint)
    report = write_report(folder.path)
    console.print(final_table(outcome.summary))
    console.print(f"report    {report}", markup=False, soft_wrap=True)
    if outcome.summary["after"] is not None:
        console.print(f"model     {folder.model}", markup=False, soft_wrap=True)
    if outcome.exit_code is not ExitCode.OK:
        console.print(f"stopped   {outcome.message}", markup=False, soft_wrap=True)
        if outcome.exit_code is ExitCode.INTERRUPTED:
            console.print(f"go on     scope train --resume {folder.path}", markup=False, soft_wrap=True)
    return outcome.exit_code
