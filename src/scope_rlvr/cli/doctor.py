"""``scope doctor``: what this machine is, and what it has room for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console
from scope_rlvr.cli.options import AsJson
from scope_rlvr.core.errors import ExitCode

DOCTOR_SCHEMA = 1


def doctor(
    configs: Annotated[
        list[Path] | None, typer.Argument(help="TOML configurations; those in the folder recipes without one")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at this machine: versions, devices, memory, which recipes fit. Loads and writes nothing."""
    from scope_rlvr.check.doctor import doctor_findings
    from scope_rlvr.core.findings import is_passed
    from scope_rlvr.report.findings import findings_table

    findings = list(doctor_findings(configs or ()))
    passed = is_passed(findings)
    if as_json:
        record = {"schema": DOCTOR_SCHEMA, "passed": passed, "findings": [finding.record() for finding in findings]}
        print(json.dumps(record, indent=2))
    else:
        open_console().print(findings_table(findings))
    raise typer.Exit(ExitCode.OK if passed else ExitCode.BAD_INPUT)
