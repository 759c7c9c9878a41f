"""The plots of a study: a mean line and an interval band an arm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from scope_rlvr.core.visible import visible
from scope_rlvr.report.plots import ARM_COLOURS, Plot
from scope_rlvr.report.wording import plain
from scope_rlvr.study.analysis import Analysis, is_share, measures_after
from scope_rlvr.study.plan import Cell
from scope_rlvr.study.statistics import Interval

_DASHES: Sequence[Any] = ("-", (0, (6, 2.5)), (0, (1.5, 1.8)), (0, (7, 2, 1.5, 2)))
_BAND_ALPHA = 0.14

SWEPT, BY_STEPS, BY_TOKENS, DIVERSITY, WHILE_TRAINING = (
    "After the last step, by value",
    "Held-out problems, by steps",
    "Held-out problems, by sampled tokens",
    "Diversity of held-out samples",
    "While training",
)
GROUPS = {
    SWEPT: "Test problems. An arm without a value is a level line.",
    BY_STEPS: "Development problems, evaluated while training.",
    BY_TOKENS: "The same over tokens that the policy sampled, as far as every seed of an arm came.",
    DIVERSITY: "Development problems, evaluated while training.",
    WHILE_TRAINING: "Training problems; accuracy and distinct right rollouts are of rollouts without help.",
}
"""Groups of plots in their order, each with a sentence."""


def plots_of(analysis: Analysis) -> list[Plot]:
    """Every plot for which there is something to draw, group by group, measure by measure."""
    evaluated = sorted((m for s in analysis.sets for m in analysis.measures_of(s)), key=lambda m: m.partition("/")[2])
    shares = sorted(analysis.headlines, key=lambda m: m.partition("/")[2])
    diverse = [m for m in evaluated if m.rpartition("/")[2] in ("text_bleu", "distinct_right_solutions")]
    plots = [_swept(analysis, m) for m in shares] if analysis.study.sweep is not None else []
    plots += [_curves(analysis, BY_STEPS, m, measure_title(m)) for m in shares]
    plots += [_curves(analysis, BY_TOKENS, m, measure_title(m)) for m in shares]
    plots += [_curves(analysis, DIVERSITY, m, measure_title(m)) for m in diverse]
    plots += [_curves(analysis, WHILE_TRAINING, name, title) for name, title in _WHILE_TRAINING.items()]
    return [plot for plot in plots if plot is not None]


_WHILE_TRAINING = {
    "accuracy": "accuracy",
    "diversity/distinct_right": "distinct right rollouts a group",
    "policy/entropy": "entropy, nats a token",
    "salvage/rate": "salvages admitted of those attempted",
    "gradient/teacher_token_share": "teacher's share of tokens with gradient",
    "groups/zero_advantage": "groups in which every advantage is zero",
}
_SHARES_WHILE_TRAINING = {"accuracy", "salvage/rate", "gradient/teacher_token_share", "groups/zero_advantage"}


def measure_title(measure: str) -> str:
    """A measure as a person reads it.

    >>> measure_title("reduction-6/pass_at_8"), measure_title("reduction-6/diversity/text_bleu")
    ('reduction-6, pass@8', 'reduction-6, text bleu')
    """
    set_name, _, name = measure.partition("/")
    name = re.sub(r"_at_(\d+)$", r"@\1", name.removeprefix("diversity/"))
    return f"{set_name}, {plain(name)}"


def _curves(analysis: Analysis, group: str, name: str, title: str) -> Plot | None:
    """A figure over steps or tokens, one line a cell."""
    over_tokens = group == BY_TOKENS
    found = {cell: analysis.curve(cell, name, over_tokens=over_tokens) for cell in analysis.cells}
    curves = {cell: curve for cell, curve in found.items() if curve is not None}
    if not curves:
        return None

    def draw(axes: Any) -> None:
        for cell, curve in curves.items():
            _draw_line(axes, curve.xs, curve.points, visible(cell.title), _style(analysis, cell))

    against = "tokens" if over_tokens else "steps"
    file = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{name}-by-{against}")
    share = is_share(name) or name in _SHARES_WHILE_TRAINING
    x_label = "tokens that the policy sampled" if over_tokens else "optimiser steps"
    return Plot(file, group, title, draw, x_label, share, over_tokens)


def _swept(analysis: Analysis, measure: str) -> Plot | None:
    """A measure after the last step over the values of the swept option; arms without a value as a level."""
    sweep = analysis.study.sweep
    assert sweep is not None, "only a study with a sweep has this plot"
    table = {cell: row[measure] for cell, row in analysis.table(measures_after).items() if measure in row}
    if not table:
        return None
    places = _places(sweep.values)

    def draw(axes: Any) -> None:
        for arm in dict.fromkeys(cell.arm for cell in table):
            cells = [cell for cell in table if cell.arm == arm]
            if cells[0].value is None:
                xs, points = [min(places.values()), max(places.values())], [table[cells[0]]] * 2
            else:
                cells.sort(key=lambda cell: places[cell.id.removeprefix(arm)])
                xs, points = [places[c.id.removeprefix(arm)] for c in cells], [table[c] for c in cells]
            style = _style(analysis, cells[0]) | {"linestyle": "-", "marker": "o" if len(cells) > 1 else ""}
            _draw_line(axes, xs, points, visible(cells[0].label), style)
        axes.set_xticks(list(places.values()), [name.removeprefix("-") for name in places])

    file = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{measure}-by-value")
    return Plot(file, SWEPT, measure_title(measure), draw, visible(sweep.label or sweep.key), is_share(measure))


def _places(values: Sequence[Any]) -> dict[str, float]:
    """Where each value stands: numbers at their place, names evenly apart."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    as_numbers = len(numbers) == len(values)
    return {Cell("", "", value).id: float(value) if as_numbers else float(i) for i, value in enumerate(values)}


def _style(analysis: Analysis, cell: Cell) -> dict[str, Any]:
    """Colour by arm, dashes by the value of the sweep."""
    arms = list(dict.fromkeys(c.arm for c in analysis.study.cells))
    values = [c.value for c in analysis.study.cells if c.arm == cell.arm]
    number = arms.index(cell.arm)
    # More arms than colours: the next round of colours is dashed.
    dash = values.index(cell.value) + number // len(ARM_COLOURS)
    return {"color": ARM_COLOURS[number % len(ARM_COLOURS)], "linestyle": _DASHES[dash % len(_DASHES)]}


def _draw_line(axes: Any, xs: Sequence[float], points: Sequence[Interval], label: str, style: dict[str, Any]) -> None:
    axes.plot(xs, [point.mean for point in points], label=label, linewidth=1.8, markersize=4, **style)
    if all(point.low is not None for point in points):
        lows, highs = [point.low for point in points], [point.high for point in points]
        axes.fill_between(xs, lows, highs, color=style["color"], alpha=_BAND_ALPHA, linewidth=0)
