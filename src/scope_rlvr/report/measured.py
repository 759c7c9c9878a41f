"""Figures of an evaluation in a terminal: every measure with its interval, set by set, level by level."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from scope_rlvr.core.visible import visible
from scope_rlvr.evaluation.against import SetComparison
from scope_rlvr.evaluation.evaluate import EvaluationResult
from scope_rlvr.evaluation.measures import AT_K, Figure, Sample, figures
from scope_rlvr.formulas.diagnostics import Shift
from scope_rlvr.report.wording import number, percent, plain

_SHARES = {*AT_K, "truncated", "effective_groups", "right_prefix"}


def evaluation_table(results: Sequence[EvaluationResult]) -> Table:
    """One section a set; below it one for each of its levels, where it has several."""
    table = Table(title="unaided rollouts", title_style="bold", title_justify="left", header_style="dim")
    table.add_column("measured")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for result in results:
        size = f"{result.evaluation_set.size} problems × {result.samples_per_problem} samples"
        unknown = f", {result.num_unknown} without a verdict" if result.num_unknown else ""
        _add_section(table, result.name, size + unknown, result.figures, len(result.measured))
        levels = result.by_level()
        for level, measured in levels.items() if len(levels) > 1 else ():
            found = figures([m.values for m in measured])
            _add_section(table, f"{result.name}, level {level}", f"{len(measured)} problems", found, len(measured))
    return table


def responses_table(samples: Sequence[Sample]) -> Table:
    """The first response to each problem, as it was written, with its verdict."""
    table = Table(title="responses", title_style="bold", title_justify="left", show_header=False, show_lines=True)
    for sample in samples:
        problem, verdict = sample.group.problem, sample.verdicts[0]
        reason = f" ({verdict.reason})" if verdict.reason else ""
        table.add_row(
            Text.assemble(
                (f"{problem.id}, answer {visible(problem.reference)}\n", "dim"),
                f"{visible(problem.prompt.strip())}\n\n",
                (f"{visible(sample.texts[0].rstrip())}\n\n", "cyan"),
                (f"{verdict.outcome.value}{visible(reason)}", "bold"),
            )
        )
    return table


def _add_section(table: Table, name: str, size: str, found: dict[str, Figure], num_problems: int) -> None:
    table.add_row(Text.assemble((visible(name), "bold"), (f"  {size}", "dim")))
    has_average = any(name.startswith("avg@") for name in found)
    for metric, figure in found.items():
        # One sample tells the average once more.
        if metric in ("pass@1", "maj@1") and has_average:
            continue
        write = percent if metric.partition("@")[0] in _SHARES else number
        label = Text(f"  {plain(metric)}")
        if figure.num_problems < num_problems:
            label.append(f"  {figure.num_problems} problems", style="dim")
        low, high = figure.interval
        table.add_row(label, Text(write(figure.value), style="bold"), f"{write(low)} to {write(high)}")
    table.add_section()


def comparison_table(comparisons: Sequence[SetComparison]) -> Table:
    """What changed since an earlier evaluation: which problems are solved at all, and where success rose and fell."""
    table = Table(title="against the earlier policy", title_style="bold", title_justify="left", header_style="dim")
    table.add_column("measured")
    table.add_column("value", justify="right", no_wrap=True)
    for one in comparisons:
        support = one.support
        table.add_row(Text(visible(one.name), style="bold"))
        table.add_row("  problems solved by both", str(support.kept))
        table.add_row("  lost: solved before alone", str(support.lost))
        table.add_row("  found: solved now alone", str(support.found))
        table.add_row("  solved by neither", str(support.neither))
        for label, rate in (("retention", support.retention), ("discovery", support.discovery), ("net", support.net)):
            table.add_row(f"  support, {label}", "–" if math.isnan(rate) else percent(rate))
        crossing = "never" if one.crossing is None else f"pass@{one.crossing}"
        table.add_row("  the earlier policy is ahead from", crossing)
        for shift in one.shifts:
            label = f"  success before {_range(shift)}, {shift.num_problems} problems"
            table.add_row(label, f"{percent(shift.before)} → {percent(shift.after)}")
        table.add_section()
    return table


def _range(shift: Shift) -> str:
    return "0" if shift.high == 0 else f"{percent(shift.low)} to {percent(shift.high)}"
