"""``scope scorer label``: labels for the steps of rollouts, by continuing from each and grading what comes of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console, progress_bar
from scope_rlvr.core.errors import ExitCode, UserError


def label(
    rollouts: Annotated[
        Path, typer.Argument(help="a run folder, its rollouts.jsonl, or JSONL: problem, response, reference")
    ],
    policy: Annotated[str, typer.Option(help="the model that continues: a folder, a Hub name, or embedded:policy")],
    samples: Annotated[int, typer.Option(min=1, help="continuations for each step")],
    out: Annotated[Path, typer.Option(help="a new JSONL file for the labels")],
    resume: Annotated[bool, typer.Option("--resume", help="go on with interrupted work of the same command")] = False,
    first_error_only: Annotated[
        bool, typer.Option("--first-error-only", help="find the first wrong step by binary search")
    ] = False,
    right_above: Annotated[float, typer.Option(help="share of right continuations that a right step exceeds")] = 0.0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one key of the configuration; repeatable")
    ] = None,
    rows_at_once: Annotated[int, typer.Option(min=1, help="responses that are labelled and written together")] = 16,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many responses")] = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="leave out rows that cannot be used, and say which")
    ] = False,
) -> None:
    """Label the steps of rollouts: continue from the end of each, and see what share of the continuations is right."""
    if not 0 <= right_above < 1:
        raise UserError(
            f"--right-above {right_above:g}: a step is right above this share; give a number from 0 to below 1"
        )
    from scope_rlvr.models.quiet import quiet_libraries
    from scope_rlvr.scorer_lab.label import LabelJournal, LabelRequest, label_all, load_labeller, plan_labels

    quiet_libraries([policy])
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
    plan = plan_labels(request)
    journal = LabelJournal.open(plan, resume=resume)
    console = open_console()
    for line in plan.lines():
        console.print(line, markup=False, soft_wrap=True)
    labeller = load_labeller(plan)
    if resume:
        console.print(f"resume    after {journal.num_done} responses", markup=False)
    try:
        with progress_bar(console) as progress:
            task = progress.add_task("labelling", total=len(plan.responses), completed=journal.num_done)
            label_all(plan, labeller, journal, lambda num_responses: progress.advance(task, num_responses))
    except KeyboardInterrupt:
        go_on = shlex.join(["scope", *sys.argv[1:], *([] if resume else ["--resume"])])
        open_console(stderr=True).print(f"scope: interrupted; go on with: {go_on}", markup=False, soft_wrap=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    for reason, number in journal.left_out.items():
        console.print(f"left out  {number} {reason}", markup=False, soft_wrap=True)
    console.print(f"labels    {out}", markup=False, soft_wrap=True)
