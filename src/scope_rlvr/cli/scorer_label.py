"""``scope scorer label``: labels for the steps of rollouts, by continuing from each and grading the continuations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from scope_rlvr.cli.console import open_console, print_lines, progress_bar, resume_command
from scope_rlvr.cli.options import Overrides, ResumeSameCommand, SkipBadRows
from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.core.lazy import quick_imports

if TYPE_CHECKING:
    from scope_rlvr.scorer_lab.label import LabelRequest

_LINES = 20

Rollouts = Annotated[Path, typer.Argument(help="a run folder, or JSONL: problem, response, reference")]
Policy = Annotated[str, typer.Option(help="the model that continues: a folder, a Hub name, or embedded:policy")]
Samples = Annotated[int, typer.Option(min=1, help="continuations for each step")]
Out = Annotated[Path, typer.Option(help="a new JSONL file for the labels")]
FirstErrorOnly = Annotated[bool, typer.Option("--first-error-only", help="find the first wrong step by binary search")]
RightAbove = Annotated[float, typer.Option(help="share of right continuations that a right step exceeds")]
RowsAtOnce = Annotated[int, typer.Option(min=1, help="responses that are labelled and written together")]
Limit = Annotated[int | None, typer.Option(min=1, help="only the first so many responses")]


def label(
    rollouts: Rollouts,
    policy: Policy,
    samples: Samples,
    out: Out,
    resume: ResumeSameCommand = False,
    first_error_only: FirstErrorOnly = False,
    right_above: RightAbove = 0.0,
    overrides: Overrides = None,
    rows_at_once: RowsAtOnce = 4,
    limit: Limit = None,
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Label the steps of rollouts: continue from the end of each, and see what share of the continuations is right."""
    if not 0 <= right_above < 1:
        raise UserError(
            f"--right-above {right_above:g}: a step is right above this share; give a number from 0 to below 1"
        )
    with quick_imports():
        from scope_rlvr.scorer_lab.label import LabelRequest

    request = LabelRequest(
        rollouts=rollouts,
        policy=policy,
        samples=samples,
        out=out,
        overrides=tuple(overrides or ()),
        first_error_only=first_error_only,
        right_above=right_above,
        rows_at_once=rows_at_once,
        limit=limit,
        skip_bad_rows=skip_bad_rows,
    )
    _label(request, resume=resume)


def _label(request: LabelRequest, *, resume: bool) -> None:
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.scorer_lab.label import (
        LabelJournal,
        label_all,
        load_labeller,
        off_policy_warning,
        plan_labels,
        tokenizer_codec,
    )

    quiet_libraries([request.policy])
    plan = plan_labels(request)
    journal = LabelJournal.open(plan, resume=resume)
    console = open_console()
    print_lines(console, *plan.lines())
    labeller = load_labeller(plan)
    if warning := off_policy_warning(plan, tokenizer_codec(labeller)):
        print_lines(console, f"warning   {warning}")
    if resume:
        print_lines(console, f"resume    after {journal.num_done} responses")
    try:
        with progress_bar(console) as progress:
            on_progress = _shown_progress(console, progress, journal.num_done, len(plan.responses))
            label_all(plan, labeller, journal, on_progress)
    except KeyboardInterrupt:
        print_lines(open_console(stderr=True), f"scope: interrupted; go on with: {resume_command(is_resumed=resume)}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    print_lines(console, *(f"left out  {number} {reason}" for reason, number in journal.left_out.items()))
    print_lines(console, f"labels    {request.out}")


def _shown_progress(console: Console, progress: Progress, num_done: int, num_all: int) -> Callable[[int], None]:
    """Shows how many responses are labelled: a bar on a terminal, else some twenty lines."""
    task = progress.add_task("labelling", total=num_all, completed=num_done)

    def on_progress(num_responses: int) -> None:
        nonlocal num_done
        is_due = num_done * _LINES // num_all < (num_done + num_responses) * _LINES // num_all
        num_done += num_responses
        progress.advance(task, num_responses)
        if is_due and not console.is_terminal:
            print_lines(console, f"{num_done} of {num_all} responses labelled")

    return on_progress
