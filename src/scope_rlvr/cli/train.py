"""``scope train``: a run from its configuration to its report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from scope_rlvr.check.inputs import check_inputs
from scope_rlvr.cli.console import open_console, print_lines
from scope_rlvr.cli.options import ConfigArgument, MethodOption, Overrides
from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.core.findings import Severity
from scope_rlvr.core.processes import Processes, launched_zero_stage
from scope_rlvr.engines.processes import leave, meet
from scope_rlvr.run.config import RunConfig, dump_config, load_config
from scope_rlvr.run.data import RunData
from scope_rlvr.store.folder import RunFolder, step_of

if TYPE_CHECKING:
    from scope_rlvr.run.train import RunOutcome


def train(
    config: ConfigArgument = None,
    overrides: Overrides = None,
    method: MethodOption = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps")] = None,
    eval_every: Annotated[int | None, typer.Option(help="evaluate on held-out problems every so many steps")] = None,
    out: Annotated[Path | None, typer.Option(help="a new run folder; runs/<method>-<time> without one")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this run from its last checkpoint")] = None,
    wait_minutes: Annotated[
        float, typer.Option(min=0.01, help="of several processes: how long one waits for the others before it gives up")
    ] = 30,
) -> None:
    """Train a policy. Exit codes: 0 done, 2 bad input, 5 nothing to learn, not a number, or a process lost, 130 interrupted."""
    processes = meet(wait_minutes * 60)
    changes = list(overrides or ())
    changes += [f"run.steps={steps}"] if steps is not None else []
    changes += [f"evaluation.every={eval_every}"] if eval_every is not None else []
    if resume is None:
        run = _new(config, changes, method, out, processes)
    elif any(given is not None for given in (config, overrides or None, method, steps, eval_every, out)):
        raise UserError("--resume goes on with a run as it was configured; give no other argument with it")
    else:
        run = _resumed(resume, processes)
    try:
        exit_code = _carry_out(run, processes, is_resumed=resume is not None)
    except UserError:
        if resume is None and processes.is_main:
            run.folder.discard_unused()
        raise
    except KeyboardInterrupt:
        print_lines(
            open_console(stderr=True, quiet=not processes.is_main),
            f"scope: interrupted; go on with: scope train --resume {run.folder.path}",
        )
        exit_code = ExitCode.INTERRUPTED
    else:
        leave(exit_code)
    raise typer.Exit(exit_code)


@dataclass(frozen=True)
class _Run:
    """A run that can start, and what a person should know of it before."""

    config: RunConfig
    data: RunData
    folder: RunFolder
    lines: list[str]


def _new(file: Path | None, overrides: list[str], method: str | None, out: Path | None, processes: Processes) -> _Run:
    """A new run folder for a configuration in which nothing wrong could be found without loading a model."""
    config = processes.once("reading the configuration", lambda: load_config(file, overrides, method))
    named = Path("runs") / f"{config.method.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path = processes.once("naming the run folder", lambda: out or named)
    data = _inputs(config, processes)

    def create() -> list[str]:
        lines = _findings(config, data, path, processes.count)
        RunFolder.create(path, dump_config(config))
        return lines

    lines = processes.once("making the run folder", create)
    return _Run(config, data, RunFolder(path, is_read_only=not processes.is_main), lines)


def _resumed(path: Path, processes: Processes) -> _Run:
    """A run folder whose run is not finished."""

    def opened() -> RunConfig:
        folder = RunFolder.open(path)
        config = load_config(folder.path / "config.toml")
        config.share(processes.count)
        _require_unfinished(config, folder)
        return config

    config = processes.once("opening the run folder", opened)
    data = _inputs(config, processes)
    return _Run(config, data, RunFolder(path, is_read_only=not processes.is_main), [])


def _inputs(config: RunConfig, processes: Processes) -> RunData:
    """The problems of the run, read once by each process, and looked at together with all else that it names."""
    with processes.as_one("looking at what the configuration names"):
        return check_inputs(config)


def _require_unfinished(config: RunConfig, folder: RunFolder) -> None:
    summary = folder.read_json("summary.json")
    if summary is not None and summary["after"] is not None and summary["steps"] >= config.run.steps:
        raise UserError(
            f"{folder.path} has done its {config.run.steps} steps and is finished; there is nothing left to resume. "
            "Train a new run with more steps instead"
        )


def _findings(config: RunConfig, data: RunData, out: Path, num_processes: int) -> list[str]:
    """What the quick part of ``scope check`` has to say before the run starts; its errors end the command."""
    from scope_rlvr.check.quick import input_findings, setup_findings

    findings = [
        *setup_findings(config, out, num_processes),
        *input_findings(config, data, out, num_processes, launched_zero_stage()),
    ]
    errors = [
        f"{f.subject}: {f.message}{f'; {f.remedy}' if f.remedy else ''}"
        for f in findings
        if f.severity is Severity.ERROR
    ]
    if errors:
        raise UserError("; ".join(errors))
    read = [f"data      {f.message}" for f in findings if f.subject == "data" and f.severity is Severity.OK]
    warned = [f for f in findings if f.severity is Severity.WARNING]
    return [*read, *(f"warning   {f.subject}: {f.message}; {f.remedy}" for f in warned)]


def _carry_out(run: _Run, processes: Processes, *, is_resumed: bool) -> ExitCode:
    config, folder = run.config, run.folder
    console = open_console(quiet=not processes.is_main)
    print_lines(console, *config.plan(processes.count), *run.lines)
    print_lines(console, f"run       {folder.path}")
    checkpoint = processes.once("looking for a checkpoint", folder.last_checkpoint) if is_resumed else None
    if is_resumed:
        first_step = step_of(checkpoint)
        folder.forget_after(first_step)
        print_lines(console, f"resume    from step {first_step}; later steps are done again")

    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.report.live import LiveDisplay
    from scope_rlvr.run.train import train as run_training

    quiet_libraries(config.model_names)
    with LiveDisplay(console, config.run.steps, []) as display:
        outcome = run_training(config, run.data, folder, display, checkpoint)
    if processes.is_main:
        _conclude(outcome, folder, console)
    return outcome.exit_code


def _conclude(outcome: RunOutcome, folder: RunFolder, console: Console) -> None:
    from scope_rlvr.report import write_report
    from scope_rlvr.report.live import final_table

    report = write_report(folder.path)
    console.print(final_table(outcome.summary))
    print_lines(console, f"report    {report}")
    if outcome.summary["after"] is not None:
        print_lines(console, f"model     {folder.model}")
    if outcome.exit_code is not ExitCode.OK:
        print_lines(console, f"stopped   {outcome.message}")
        if outcome.exit_code is ExitCode.INTERRUPTED:
            print_lines(console, f"go on     scope train --resume {folder.path}")
