"""Findings as a table in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from scope_rlvr.core.findings import Finding, Severity

_STYLES = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}


def findings_table(findings: Sequence[Finding]) -> Table:
    """One row a finding; the remedy is below what was found."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("", "what", "found"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        remedy = f"\n→ {finding.remedy}" if finding.remedy else ""
        severity = Text(finding.severity.value, style=_STYLES[finding.severity])
        table.add_row(severity, finding.subject, Text(finding.message + remedy))
    return table
