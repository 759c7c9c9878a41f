"""A step scorer's figures in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from scope_rlvr.core.visible import visible
from scope_rlvr.problems.labelled import LabelledFile
from scope_rlvr.report.wording import duration, number, percent
from scope_rlvr.salvage.rules import AnyRule
from scope_rlvr.scorer_lab.bench import BenchResult, SetResult
from scope_rlvr.scorer_lab.bench_command import Throughput
from scope_rlvr.scorer_lab.calibrate import Calibration
from scope_rlvr.scorer_lab.first_error import Estimate, FirstErrorFigures, PredictionOutcome

_UNSCORED = "  not scored"
_FIGURES: list[tuple[str, Callable[[FirstErrorFigures], Estimate]]] = [
    ("F1", lambda f: f.f1),
    ("with a wrong step: exact", lambda f: f.accuracy_wrong),
    ("  too early", lambda f: f.wrong[PredictionOutcome.EARLY]),
    ("  too late", lambda f: f.wrong[PredictionOutcome.LATE]),
    ("  missed", lambda f: f.wrong[PredictionOutcome.MISSED]),
    (_UNSCORED, lambda f: f.wrong[PredictionOutcome.UNSCORED_WRONG]),
    ("without one: left alone", lambda f: f.accuracy_right),
    ("  false alarm", lambda f: f.right[PredictionOutcome.FALSE_ALARM]),
    (_UNSCORED, lambda f: f.right[PredictionOutcome.UNSCORED_RIGHT]),
]


def rule_text(rule: AnyRule) -> str:
    """A rule in a few words.

    >>> from scope_rlvr.salvage.rules import Drop, Threshold
    >>> rule_text(Threshold(threshold=0.31)), rule_text(Drop(drop=0.05))
    ('threshold 0.31', 'drop 0.05')
    """
    options = {name: value for name, value in rule.model_dump(exclude={"kind", "map"}).items() if value is not None}
    named = [
        f"{value:.3g}" if name in ("threshold", "drop") else f"{name} {value:.3g}" for name, value in options.items()
    ]
    return " ".join([rule.kind, *named])


def bench_tables(found: BenchResult) -> Iterator[RenderableType]:
    """The rules, then one table a file with the scorer's own rule and the tuned one beside each other, then the means."""
    on = visible(found.tuned_on)
    tuned = (
        f"{rule_text(found.tuned_rule)}, on {on}"
        if found.is_tuned
        else f"as its own: F1 wants scored rows with and without a wrong step, and {on} has not both"
    )
    yield Text(f"own rule  {rule_text(found.own_rule)}\ntuned     {tuned}\n")
    for result in found.results:
        yield _table(result, is_tuned_here=found.is_tuned and result.name == found.tuned_on)
    if len(found.results) > 1:
        yield Text(
            f"mean F1   {_percent(found.mean_f1)} with its own rule; {_percent(found.mean_tuned_f1)} with the tuned one, over "
            "the files that it was not tuned on"
        )


def _table(result: SetResult, *, is_tuned_here: bool) -> Table:
    unscored = f", {result.num_unscored} could not be scored" if result.num_unscored else ""
    here = ", tuned here" if is_tuned_here else ""
    sizes = f"  {result.own.num_wrong} rows with a wrong step, {result.own.num_right} without{unscored}{here}"
    table = Table(
        title=Text.assemble((visible(result.name), "bold"), (sizes, "dim")),
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
    )
    table.add_column()
    for header in ("own rule", "tuned"):
        table.add_column(header, justify="right", no_wrap=True)
        table.add_column("95 % interval", justify="right", no_wrap=True)
    for label, read in _FIGURES:
        if result.num_unscored or label != _UNSCORED:
            table.add_row(label, *_cells(read(result.own)), *_cells(read(result.tuned)))
    if result.on_wrong_answers is not None:
        table.add_row("wrong answers: exact", *_cells(result.on_wrong_answers.accuracy_wrong))
    if result.reliability is not None:
        table.add_row("calibration error", *_cells(result.reliability.error))
    table.add_row()
    return table


def _cells(found: Estimate) -> tuple[Text, str]:
    interval = "" if found.interval is None else f"{100 * found.interval[0]:.1f} to {100 * found.interval[1]:.1f}"
    return Text(_percent(found.value), style="bold"), interval


def _percent(value: float | None) -> str:
    return "undefined" if value is None else percent(value)


def file_notes(file: LabelledFile) -> list[str]:
    """What a file holds, and what was left out of it, in lines."""
    num_wrong = sum(solution.first_wrong is not None for solution in file.solutions)
    lines = [f"data      {visible(str(file.path))}: {len(file.solutions)} solutions, {num_wrong} with a wrong step"]
    if num_wrong and all(s.first_wrong in (None, len(s.steps) - 1) for s in file.solutions):
        lines.append(
            "          the wrong step is always the last one: no cut can come too late, so F1 is no ProcessBench figure"
        )
    lines += [f"          left out: {count} rows, {reason}" for reason, count in sorted(file.left_out.items())]
    if file.bad_rows:
        lines.append(f"          left out: {len(file.bad_rows)} bad rows; the first: {visible(file.bad_rows[0])}")
    return lines


def throughput_line(found: Throughput) -> str:
    """How fast it went, where anything was scored now."""
    if found.steps_per_second is None or found.solutions_per_second is None:
        return "speed     nothing was left to score"
    return (
        f"speed     {number(found.solutions_per_second)} solutions a second, {number(found.steps_per_second)} steps a second "
        f"({number(found.solutions)} solutions in {duration(found.seconds)})"
    )


def calibration_lines(found: Calibration) -> list[str]:
    """The chosen rule, how sure the choice is, and what it costs beside doing without it."""
    choice, costs = found.choice, found.costs
    shares = ", ".join(f"{kind} {percent(share)}" for kind, share in choice.kind_shares.items() if share)
    low, high = choice.level_interval
    before = "" if found.before is None else f"{_with_interval(found.before.error, number)} before, "
    lines = [
        f"rule      {rule_text(choice.rule)}; resamples choose {shares}, and of this kind levels from {low:.3g} to {high:.3g}",
        f"costs     too early 1, too late {costs.late:g}, missed {costs.missed:g}, false alarm {costs.false_alarm:g}",
        f"cost      {_with_interval(choice.cost, number)} a row; on rows it was not chosen on "
        f"{_with_interval(choice.cost_elsewhere, number)}",
        f"          the scorer's own rule ({rule_text(found.own_rule)}) {number(found.own_cost)}, no cut at all "
        f"{number(found.cost_of_no_cut)}",
        f"found     exact {_percent(found.figures.accuracy_wrong.value)}, "
        f"too early {_percent(found.figures.wrong[PredictionOutcome.EARLY].value)}, "
        f"too late {_percent(found.figures.wrong[PredictionOutcome.LATE].value)}, "
        f"missed {_percent(found.figures.wrong[PredictionOutcome.MISSED].value)}, "
        f"false alarm {_percent(found.figures.right[PredictionOutcome.FALSE_ALARM].value)}",
        f"map       {len(found.map.scores)} points; calibration error {before}{_with_interval(found.after.error, number)} after, "
        "on rows it was not fitted to",
    ]
    if choice.cost_elsewhere.interval is not None and choice.cost_elsewhere.interval[1] >= found.cost_of_no_cut:
        lines.append(
            "beware    on rows it was not chosen on, the rule is not surely cheaper than cutting nowhere: at these costs the "
            "scorer may not be worth listening to"
        )
    return lines


def _with_interval(found: Estimate, write: Callable[[float], str]) -> str:
    if found.value is None or found.interval is None:
        return "undefined"
    return f"{write(found.value)} ({' to '.join(map(write, found.interval))})"
