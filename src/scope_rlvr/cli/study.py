"""``scope study``: methods by seeds, from one file to one table with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from scope_rlvr.cli.console import open_console, print_lines
from scope_rlvr.core.errors import ExitCode
from scope_rlvr.core.processes import usable_cores

if TYPE_CHECKING:
    from scope_rlvr.study.folder import StudyFolder
    from scope_rlvr.study.plan import Study
    from scope_rlvr.study.runner import RunState


def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY", help="TOML file with arms and seeds")],
    out: Annotated[Path | None, typer.Option(help="the study folder; runs/studies/<name> without one")] = None,
    results: Annotated[Path | None, typer.Option(help="folder of the result files; OUT/results without one")] = None,
    at_once: Annotated[int | None, typer.Option(min=1, help="runs at once; as many as there are cores")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and say what would run; write nothing")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="write the report from the result files")] = False,
) -> None:
    """Run a study, or go on with it. Exit codes: 0 done, 2 bad input, 6 a run failed, 130 interrupted."""
    from scope_rlvr.study.folder import StudyFolder
    from scope_rlvr.study.plan import load_study

    plan = load_study(file)
    folder = StudyFolder.at(out or Path("runs") / "studies" / plan.name, results)
    num_at_once = at_once or usable_cores() // max(run.config.run.threads for run in plan.runs) or 1
    console = open_console()
    _print_plan(console, plan, folder, num_at_once)
    if dry_run:
        folder.require_same(plan)
        return
    if report_only:
        folder.require_same(plan)
        _report(console, plan, folder, [])
        return
    folder.open_for(plan)
    with folder.locked():
        states = _run(console, plan, folder, num_at_once)
        raise typer.Exit(_end(console, plan, folder, states))


def _print_plan(console: Console, plan: Study, folder: StudyFolder, num_at_once: int) -> None:
    """The study in a few lines: arms with their seeds, and what is done already."""
    kept = sum(folder.result_file(run).is_file() for run in plan.runs)
    lines = [f"study     {plan.title}"]
    for cell in plan.cells:
        runs = plan.runs_of(cell)
        seeds = " ".join(str(run.seed) for run in runs)
        lines.append(f"arm       {cell.title}: {runs[0].config.run.steps} steps, seeds {seeds}")
    lines.append(f"compare   {plan.reference} with each other arm, by {plan.primary} after the last step")
    lines.append(f"runs      {len(plan.runs)}, {kept} finished before; {num_at_once} at once")
    lines.append(f"folder    {folder.path}, results in {folder.results}")
    print_lines(console, *lines)


def _run(console: Console, plan: Study, folder: StudyFolder, num_at_once: int) -> list[RunState]:
    from scope_rlvr.study.display import StudyDisplay
    from scope_rlvr.study.runner import StudyRunner

    with StudyDisplay(console, plan, num_at_once) as display:
        return StudyRunner(plan, folder, num_at_once, display).run()


def _end(console: Console, plan: Study, folder: StudyFolder, states: Sequence[RunState]) -> ExitCode:
    """Print what is finished and what is not; write the report if there is a result."""
    from scope_rlvr.study.runner import RunStatus

    failed = [state for state in states if state.status is RunStatus.FAILED]
    if any(state.status is RunStatus.FINISHED for state in states):
        _report(console, plan, folder, [(state.run.id, state.reason) for state in failed])
    for state in failed:
        print_lines(console, f"failed    {state.run.id}: {state.reason}")
        print_lines(console, f"          log {folder.log(state.run, 'err')}")
    num_open = sum(state.status in (RunStatus.WAITING, RunStatus.STOPPED) for state in states)
    if failed or num_open:
        print_lines(
            console, f"left      {len(failed)} failed, {num_open} unfinished; the same command goes on with them"
        )
    # The study was interrupted, or one of its runs was stopped.
    if num_open:
        return ExitCode.INTERRUPTED
    return ExitCode.RUNS_FAILED if failed else ExitCode.OK


def _report(console: Console, plan: Study, folder: StudyFolder, failed: Sequence[tuple[str, str]]) -> None:
    """Write the report of what is there; ``failed`` are runs with their reasons."""
    from scope_rlvr.study.report import write_report

    print_lines(console, f"report    {write_report(plan, folder, failed)}")
