"""``scope scorer bench``: how well a step scorer finds the first wrong step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console, print_lines, progress_bar
from scope_rlvr.cli.options import Overrides, ScorerSpecOption, SkipBadRows
from scope_rlvr.store.files import write_json


def bench(
    scorer: ScorerSpecOption,
    data: Annotated[
        list[str],
        typer.Option(
            metavar="DATA", help="labelled solutions: a file, a Hub data set, or embedded:rollouts; repeatable"
        ),
    ],
    tune_on: Annotated[
        str | None, typer.Option(metavar="NAME", help="the file to tune on; the first without it")
    ] = None,
    overrides: Overrides = None,
    skip_bad_rows: SkipBadRows = False,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="folder for scores, results and pictures")] = None,
) -> None:
    """Judge a step scorer on labelled solutions by ProcessBench's protocol, with intervals, confusion and calibration."""
    from scope_rlvr.scorer_lab import bench_command as judge_scorer
    from scope_rlvr.scorer_lab.charts import save_charts
    from scope_rlvr.scorer_lab.report import bench_tables, file_notes, throughput_line

    spec = judge_scorer.ScorerSpec.parse(scorer, overrides or ())
    if out is not None:
        judge_scorer.require_free(out)
    files = judge_scorer.read_files(data, tune_on=tune_on, skip_bad_rows=skip_bad_rows)
    live = spec.load([solution for file in files for solution in file.solutions])
    journal = judge_scorer.journal_of(out, spec, live, files) if out is not None else None

    console = open_console()
    for file in files:
        print_lines(console, *file_notes(file))
    with progress_bar(console) as progress:
        task = progress.add_task("scoring", total=sum(len(file.solutions) for file in files))
        sets, throughput = judge_scorer.score_files(live, files, journal, lambda n: progress.advance(task, n))
    found = judge_scorer.judged(sets, live, tune_on)
    for part in bench_tables(found):
        console.print(part)
    print_lines(console, throughput_line(throughput))
    if out is not None:
        save_charts(found, out / judge_scorer.PLOTS)
        write_json(out / judge_scorer.BENCH_FILE, judge_scorer.bench_record(spec, files, found, throughput))
        print_lines(console, f"results   {out}")
