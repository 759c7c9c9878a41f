"""``scope grade``: verdicts on responses in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from scope_rlvr.cli.console import open_console, print_lines, progress_bar
from scope_rlvr.cli.options import Overrides
from scope_rlvr.store.files import require_new_file, write_json

if TYPE_CHECKING:
    from scope_rlvr.measure.responses import GradedResponse


def grade(
    file: Annotated[Path, typer.Argument(help="JSONL, Parquet or CSV: rows with gold and response")],
    verifier: Annotated[str, typer.Option(metavar="KIND", help="what judges: a kind of [verifier]")] = "math",
    overrides: Overrides = None,
    show: Annotated[int, typer.Option(min=0, help="disputed verdicts shown")] = 10,
    out: Annotated[Path | None, typer.Option(help="a new JSON file for the verdicts")] = None,
) -> None:
    """Judge responses by a verifier, and show where a second grader without any algebra disagrees."""
    from scope_rlvr.measure import responses as grading

    if out is not None:
        require_new_file(out)
    plan = grading.plan_grading(file, verifier, overrides or ())
    console = open_console()
    with progress_bar(console) as progress:
        task = progress.add_task("grading", total=len(plan.attempts))
        graded, seconds = grading.grade(plan, lambda num_rows: progress.advance(task, num_rows))
    console.print(_outcomes(graded))
    disputed = [row for row in graded if row.is_disputed]
    rate = f", {len(graded) / seconds:,.0f} a second" if seconds else ""
    print_lines(
        console,
        f"\n{len(graded)} responses{rate}; the second grader disagrees on {len(disputed)} "
        f"({len(disputed) / len(graded):.1%})",
    )
    if disputed[:show]:
        console.print(_disputed(disputed[:show]))
    if out is not None:
        write_json(out, grading.record(plan, graded))
        print_lines(console, f"verdicts  {out}")


def _outcomes(graded: list[GradedResponse]) -> Table:
    from scope_rlvr.grading.reasons import REASONS
    from scope_rlvr.measure.responses import counts

    table = Table("verdict", "reason", box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("responses", justify="right")
    table.add_column("share", justify="right")
    table.add_column("meaning")
    for outcome, reasons in counts(graded).items():
        total = sum(reasons.values())
        table.add_row(outcome, "", str(total), f"{total / len(graded):.1%}", "")
        for reason, count in reasons.most_common():
            table.add_row("", Text(reason), str(count), "", Text(REASONS.get(reason, "")))
    return table


def _disputed(rows: list[GradedResponse]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("row", "gold", "answer", "verdict", "second"):
        table.add_column(column, overflow="fold")
    for row in rows:
        second = "right" if row.second_says_right else "wrong"
        verdict = f"{row.verdict.outcome.value} ({row.verdict.reason})"
        cells = (row.place, row.problem.reference, row.verdict.answer or "", verdict, second)
        table.add_row(*(Text(cell[:200]) for cell in cells))
    return table
