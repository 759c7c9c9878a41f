"""``scope scorer calibrate``: the decision rule and the map that suit a scorer, from a few labelled solutions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scope_rlvr.cli.console import open_console, print_lines, progress_bar
from scope_rlvr.cli.options import Overrides, ScorerSpecOption, SkipBadRows
from scope_rlvr.store.files import require_new_file, write_json


def calibrate(
    scorer: ScorerSpecOption,
    data: Annotated[
        str, typer.Option(metavar="DATA", help="labelled solutions: a file, a Hub data set, or embedded:rollouts")
    ],
    late_cost: Annotated[float, typer.Option(help="cost of a cut that came too late; one that came too early costs 1")],
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="a new JSON file for rule and calibration")],
    missed_cost: Annotated[float, typer.Option(help="cost of a wrong solution in which no wrong step was found")] = 1.0,
    false_alarm_cost: Annotated[float, typer.Option(help="cost of a wrong step found where there is none")] = 1.0,
    rows: Annotated[int, typer.Option(min=1, help="rows drawn at random from the file")] = 200,
    seed: Annotated[int, typer.Option(help="seed of that draw")] = 0,
    overrides: Overrides = None,
    skip_bad_rows: SkipBadRows = False,
) -> None:
    """Choose a decision rule by what its mistakes cost, and fit a map from scores to probabilities."""
    from scope_rlvr.scorer_lab import bench_command as judge_scorer
    from scope_rlvr.scorer_lab import calibrate as calibrate_scorer
    from scope_rlvr.scorer_lab.report import calibration_lines, file_notes

    costs = calibrate_scorer.make_costs(late_cost, missed_cost, false_alarm_cost)
    spec = judge_scorer.ScorerSpec.parse(scorer, overrides or ())
    require_new_file(out)
    (whole,) = judge_scorer.read_files([data], tune_on=None, skip_bad_rows=skip_bad_rows)
    file = calibrate_scorer.draw_rows(whole, rows, seed)
    live = spec.load(file.solutions)

    console = open_console()
    print_lines(console, *file_notes(whole))
    with progress_bar(console) as progress:
        task = progress.add_task("scoring", total=len(file.solutions))
        (scored,), _ = judge_scorer.score_files(live, [file], on_scored=lambda n: progress.advance(task, n))
    found = calibrate_scorer.calibrate(scored, judge_scorer.own_rule(live), costs)
    print_lines(console, *calibration_lines(found))
    write_json(out, calibrate_scorer.calibration_record(spec, file, found, seed))
    print_lines(console, f"written   {out}")
