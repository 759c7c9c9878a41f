"""``scope train``: a run from its configuration to its report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from scope_rlvr.cli.console import open_console, print_lines
from scope_rlvr.cli.options import ConfigArgument, MethodOption, Overrides
from scope_rlvr.core.errors import CannotWrite, ExitCode, UserError
from scope_rlvr.core.lazy import quick_imports
from scope_rlvr.core.processes import Processes, end_with_launcher
from scope_rlvr.engines.processes import leave, meet
from scope_rlvr.store.checkpoints import step_of
from scope_rlvr.store.folder import RunFolder

if TYPE_CHECKING:
    from scope_rlvr.check.start import RunStart
    from scope_rlvr.run.data import RunData
    from scope_rlvr.run.outcome import RunOutcome


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
    from scope_rlvr.check.start import ConfigRequest, new_run, resumed_run

    end_with_launcher()
    processes = meet(wait_minutes * 60)
    changes = list(overrides or ())
    changes += [f"run.steps={steps}"] if steps is not None else []
    changes += [f"evaluation.every={eval_every}"] if eval_every is not None else []
    request = ConfigRequest(config, tuple(changes), method)
    with ExitStack() as held:
        if resume is None:
            run = new_run(request, out, processes, held)
        else:
            run = resumed_run(resume, request, out, processes, held)
        exit_code = carry_out(run, processes)
    leave(exit_code)
    raise typer.Exit(exit_code)


def carry_out(run: RunStart, processes: Processes, check: Callable[[RunStart], None] = lambda run: None) -> ExitCode:
    """Do what remains to be done of a run that can start; ``check`` may still refuse it, before its models are loaded."""
    try:
        check(run)
        return _carry_out(run, processes)
    except UserError:
        if not run.is_resumed and processes.is_main:
            run.folder.discard_unused()
        raise
    except (KeyboardInterrupt, CannotWrite) as error:
        console = open_console(stderr=True, quiet=not processes.is_main)
        command = f"scope train --resume {run.folder.path}"
        if isinstance(error, CannotWrite):
            print_lines(console, f"scope: go on, once the cause is mended, with: {command}")
            raise
        print_lines(console, f"scope: interrupted; go on with: {command}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _carry_out(run: RunStart, processes: Processes) -> ExitCode:
    from scope_rlvr.run.outcome import RunOutcome

    console = open_console(quiet=not processes.is_main)
    print_lines(console, *run.config.plan(processes.count), *run.lines, f"run       {run.folder.path}")
    if run.data is not None:
        outcome = _train(run, run.data, console, processes)
    else:
        print_lines(console, "resume    everything is done but the report")
        summary = processes.once("reading the summary", lambda: run.folder.read_json("summary.json"))
        outcome = RunOutcome(ExitCode.OK, summary or {})
    if processes.is_main:
        _conclude(outcome, run.folder, console)
    return outcome.exit_code


def _train(run: RunStart, data: RunData, console: Console, processes: Processes) -> RunOutcome:
    checkpoint = None
    if run.is_resumed:
        damaged: list[str] = []
        checkpoint = processes.once("looking for a checkpoint", lambda: run.folder.last_checkpoint(damaged.append))
        print_lines(console, *(f"warning   {damage}; an earlier one is used" for damage in damaged))
        first_step = step_of(checkpoint)
        run.folder.forget_after(first_step)
        print_lines(console, f"resume    from step {first_step}; later steps are done again")

    with quick_imports():
        from scope_rlvr.models.quiet import quiet_libraries
        from scope_rlvr.report.live import LiveDisplay

        run_training = _training_on(run.config.engine.kind)

    quiet_libraries(run.config.model_names)
    with LiveDisplay(console, run.config.run.steps, []) as display:
        return run_training(run.config, data, run.folder, display, checkpoint)


def _training_on(engine: str) -> Callable[..., RunOutcome]:
    """Who carries out a run, by the ``kind`` of its engine."""
    if engine == "tinker":
        from scope_rlvr.run.remote import train_on_server

        return train_on_server
    from scope_rlvr.run.train import train

    return train


def _conclude(outcome: RunOutcome, folder: RunFolder, console: Console) -> None:
    from scope_rlvr.report import write_report
    from scope_rlvr.report.live import final_table

    report = write_report(folder.path)
    console.print(final_table(outcome.summary))
    print_lines(console, f"report    {report}")
    if outcome.summary["after"] is not None:
        print_lines(console, f"model     {folder.model}")
    if outcome.message:
        print_lines(console, f"stopped   {outcome.message}")
    if outcome.exit_code is ExitCode.INTERRUPTED:
        print_lines(console, f"go on     scope train --resume {folder.path}")
