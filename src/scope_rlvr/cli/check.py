"""``scope check``: everything that can fail in a run, tried before anybody pays for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scope_rlvr.cli.console import open_console, print_lines
from scope_rlvr.cli.options import AsJson, ConfigArgument, MethodOption, Overrides
from scope_rlvr.core.errors import ExitCode
from scope_rlvr.core.lazy import quick_imports

if TYPE_CHECKING:
    from scope_rlvr.core.findings import Finding

CHECK_SCHEMA = 1


def check(
    config: ConfigArgument = None,
    overrides: Overrides = None,
    method: MethodOption = None,
    out: Annotated[Path | None, typer.Option(help="where the run would be written")] = None,
    processes: Annotated[int, typer.Option(min=1, help="how many processes the run will be started in")] = 1,
    zero_stage: Annotated[
        int, typer.Option(min=0, max=2, help="the stage of DeepSpeed's ZeRO that they will be started with")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="only what needs no model")] = False,
    as_json: AsJson = False,
) -> None:
    """Try a run without doing it. Exit codes: 0 nothing that stops it was found, 2 something was."""
    from scope_rlvr.run.config import load_config

    settings = load_config(config, overrides or (), method)

    import torch

    from scope_rlvr.check.quick import quick_check
    from scope_rlvr.core.findings import is_passed, ok
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.report.findings import findings_table
    from scope_rlvr.run.speed import settled

    quiet_libraries(settings.model_names)
    settings, measured = settled(settings)
    torch.set_num_threads(settings.run.threads)
    checked = quick_check(settings, out or Path("runs") / "check", processes, zero_stage)
    findings = [*checked.findings, *(ok("speed", said) for said in measured)]
    is_complete = not quick and is_passed(findings)
    if is_complete and checked.data is not None:
        with quick_imports():
            from scope_rlvr.check.with_models import model_findings

        findings += model_findings(settings, checked.data)
    if as_json:
        print(json.dumps(_record(findings, is_passed(findings), is_complete), indent=2))
    else:
        console = open_console()
        console.print(findings_table(findings))
        if not is_complete and not quick:
            print_lines(console, "The models were not tried: mend the errors first.")
    raise typer.Exit(ExitCode.OK if is_passed(findings) else ExitCode.BAD_INPUT)


def _record(findings: Sequence[Finding], passed: bool, is_complete: bool) -> dict[str, Any]:
    return {
        "schema": CHECK_SCHEMA,
        "passed": passed,
        "models_tried": is_complete,
        "findings": [finding.record() for finding in findings],
    }
