"""The charts of a bench of step scorers."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from scope_rlvr.core.visible import visible
from scope_rlvr.report.charts import SOFT, Chart, Key, short_percent
from scope_rlvr.report.palette import ARMS, COLOURS
from scope_rlvr.salvage.rules import Calibrated
from scope_rlvr.scorer_lab.bench import BenchResult, SetResult
from scope_rlvr.scorer_lab.first_error import PredictionOutcome

_OUTCOME_COLOURS = {
    PredictionOutcome.EXACT: "green",
    PredictionOutcome.EARLY: "ochre",
    PredictionOutcome.LATE: "orange",
    PredictionOutcome.MISSED: "purple",
    PredictionOutcome.UNSCORED_WRONG: "grey",
}
_SHARES = (-0.01, 1.01)
_WIDE = 48
"""Characters that fit side by side below a chart."""


def save_charts(found: BenchResult, folder: Path) -> list[Path]:
    """Write every chart in which there is something to see as SVG and as PNG; returns the files."""
    charts = []
    if any(result.own.num_wrong for result in found.results):
        charts.append(_outcomes(found))
    if any(result.own.distances for result in found.results):
        charts.append(_distances(found))
    if any(result.reliability is not None for result in found.results):
        charts.append(_reliability(found))
    for chart in charts:
        chart.save(folder)
    return [folder / f"{chart.name}.{kind}" for chart in charts for kind in ("svg", "png")]


def _outcomes(found: BenchResult) -> Chart:
    """The outcomes of the rows with a wrong step, file by file."""
    results = [result for result in found.results if result.own.num_wrong]
    shares = {outcome: [result.own.wrong[outcome].value or 0.0 for result in results] for outcome in _OUTCOME_COLOURS}
    shown = [outcome for outcome in _OUTCOME_COLOURS if any(shares[outcome])]

    def draw(axes: Axes) -> None:
        names = [_wrapped(result.name, _WIDE // len(results)) for result in results]
        below = [0.0] * len(results)
        for outcome in shown:
            axes.bar(names, shares[outcome], 0.6, bottom=below, color=COLOURS[_OUTCOME_COLOURS[outcome]].light)
            below = [a + b for a, b in zip(below, shares[outcome], strict=True)]

    keys = [Key(outcome.replace("_", " "), _OUTCOME_COLOURS[outcome], is_area=True) for outcome in shown]
    return Chart("outcomes", "Rows with a wrong step, own rule", keys, draw, "", write_y=short_percent, within=_SHARES)


def _distances(found: BenchResult) -> Chart:
    """How far the step that was found is from the first wrong one."""
    results = [result for result in found.results if result.own.distances]
    keys = _keys(results, is_area=True)

    def draw(axes: Axes) -> None:
        width = 0.8 / max(1, len(results))
        for i, (result, key) in enumerate(zip(results, keys, strict=True)):
            places = [steps + (i - (len(results) - 1) / 2) * width for steps in result.own.distances]
            shares = [count / result.own.num_wrong for count in result.own.distances.values()]
            axes.bar(places, shares, width, color=COLOURS[key.colour].light)
        axes.set_ylabel("rows with a wrong step", color=SOFT)

    return Chart(
        "distances",
        "How far off, own rule",
        keys,
        draw,
        "steps too early (below 0) or too late",
        write_y=short_percent,
        within=_SHARES,
        has_whole_x=True,
    )


def _reliability(found: BenchResult) -> Chart:
    """The share of right steps over the score; a scorer that means what it says lies on the diagonal."""
    results = [result for result in found.results if result.reliability is not None]
    diagonal, keys = Key("means what it says", "grey", "dotted"), _keys(results)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], linewidth=1, **diagonal.line)
        for result, key in zip(results, keys, strict=True):
            assert result.reliability is not None
            known = [b for b in result.reliability.bins if b.mean_score is not None and b.share_right is not None]
            xs, ys = np.array([(b.mean_score, b.share_right) for b in known], dtype=float).T
            areas = [6 + 94 * b.num_steps / result.reliability.num_steps for b in known]
            axes.plot(xs, ys, linewidth=1.2, **key.line)
            axes.scatter(xs, ys, s=areas, color=COLOURS[key.colour].light)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylabel("steps that are right", color=SOFT)

    label = "calibrated score of a step" if isinstance(found.own_rule, Calibrated) else "score of a step"
    return Chart(
        "reliability",
        "Reliability",
        [diagonal, *keys],
        draw,
        f"{label}; larger points are more steps",
        write_y=short_percent,
        within=_SHARES,
    )


def _keys(results: list[SetResult], *, is_area: bool = False) -> list[Key]:
    return [Key(visible(result.name), ARMS[i % len(ARMS)], is_area=is_area) for i, result in enumerate(results)]


def _wrapped(name: str, width: int) -> str:
    return "\n".join(textwrap.wrap(visible(name), max(4, width)))
