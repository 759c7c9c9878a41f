"""The charts of a study: a line of means and a band of intervals for each arm."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes

from scope_rlvr.core.visible import visible
from scope_rlvr.report.charts import DASHES, Chart, HoverText, Key, Write, short_count, short_percent
from scope_rlvr.report.palette import ARMS
from scope_rlvr.report.wording import number, percent, plain
from scope_rlvr.study.analysis import Analysis, is_share, measures_after
from scope_rlvr.study.plan import Cell
from scope_rlvr.study.statistics import Interval, interpolate

_SHARES_END = (-0.01, 1.01)
"""An interval may reach beyond what can be; the picture does not."""

_BAND_ALPHA = 0.14
_MAX_HOVER_TEXTS = 60

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
"""Groups of charts in their order, each with a sentence."""


def charts_of(analysis: Analysis) -> list[Chart]:
    """Every chart for which there is something to draw, group by group, measure by measure."""
    evaluated = sorted((m for s in analysis.sets for m in analysis.measures_of(s)), key=lambda m: m.partition("/")[2])
    shares = sorted(analysis.headlines, key=lambda m: m.partition("/")[2])
    diverse = [m for m in evaluated if m.rpartition("/")[2] in ("text_bleu", "distinct_right_solutions")]
    charts = [_swept(analysis, m) for m in shares] if analysis.study.sweep is not None else []
    charts += [_curves(analysis, BY_STEPS, m, measure_title(m)) for m in shares]
    charts += [_curves(analysis, BY_TOKENS, m, measure_title(m)) for m in shares]
    charts += [_curves(analysis, DIVERSITY, m, measure_title(m)) for m in diverse]
    charts += [_curves(analysis, WHILE_TRAINING, name, title) for name, title in _WHILE_TRAINING.items()]
    return [chart for chart in charts if chart is not None]


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


def _curves(analysis: Analysis, group: str, name: str, title: str) -> Chart | None:
    """A figure over steps or tokens, one line a cell."""
    over_tokens = group == BY_TOKENS
    found = {cell: analysis.curve(cell, name, over_tokens=over_tokens) for cell in analysis.cells}
    curves = {cell: curve for cell, curve in found.items() if curve is not None}
    if not curves:
        return None
    share = is_share(name) or name in _SHARES_WHILE_TRAINING
    lines = [_Line(_key(analysis, cell, cell.title), curve.xs, curve.points) for cell, curve in curves.items()]
    against = "tokens" if over_tokens else "steps"
    x_label = "tokens that the policy sampled" if over_tokens else "optimiser steps"
    return _line_chart(f"{name}-by-{against}", title, group, lines, x_label, share, over_tokens=over_tokens)


def _swept(analysis: Analysis, measure: str) -> Chart | None:
    """A measure after the last step over the values of the swept option; arms without a value as a level."""
    sweep = analysis.study.sweep
    assert sweep is not None, "only a study with a sweep has this chart"
    table = {cell: row[measure] for cell, row in analysis.table(measures_after).items() if measure in row}
    if not table:
        return None
    places = _places(sweep.values)
    lines = []
    for arm in dict.fromkeys(cell.arm for cell in table):
        cells = [cell for cell in table if cell.arm == arm]
        key = replace(_key(analysis, cells[0], cells[0].label), dash="solid", marker="o" if len(cells) > 1 else "")
        if cells[0].value is None:
            xs, points = [min(places.values()), max(places.values())], [table[cells[0]]] * 2
        else:
            cells.sort(key=lambda cell: places[cell.id.removeprefix(arm)])
            xs, points = [places[c.id.removeprefix(arm)] for c in cells], [table[c] for c in cells]
        lines.append(_Line(key, xs, points))
    ticks = {place: name.removeprefix("-") for name, place in places.items()}
    x_label, share = visible(sweep.label or sweep.key), is_share(measure)
    return _line_chart(f"{measure}-by-value", measure_title(measure), SWEPT, lines, x_label, share, ticks=ticks)


@dataclass(frozen=True)
class _Line:
    """What is drawn of a cell: means with their intervals."""

    key: Key
    xs: Sequence[float]
    points: Sequence[Interval]

    @property
    def band(self) -> tuple[list[float], list[float]] | None:
        """The lower and the upper ends of the intervals; ``None`` where one is not known."""
        lows = [point.low for point in self.points if point.low is not None]
        highs = [point.high for point in self.points if point.high is not None]
        return (lows, highs) if len(lows) == len(highs) == len(self.points) else None


def _line_chart(
    name: str,
    title: str,
    group: str,
    lines: Sequence[_Line],
    x_label: str,
    is_of_shares: bool,
    *,
    over_tokens: bool = False,
    ticks: Mapping[float, str] | None = None,
) -> Chart:
    """A line and a band a cell; ``ticks`` names places on the horizontal axis."""
    write_x = short_count if over_tokens else None

    def draw(axes: Axes) -> None:
        for line in lines:
            _draw_line(axes, line)
        if ticks is not None:
            axes.set_xticks(list(ticks), list(ticks.values()))

    return Chart(
        name=re.sub(r"[^A-Za-z0-9_.-]+", "-", name),
        title=title,
        keys=[line.key for line in lines],
        draw=draw,
        x_label=x_label,
        group=group,
        write_x=write_x,
        write_y=short_percent if is_of_shares else None,
        within=_SHARES_END if is_of_shares else None,
        hover_texts=_hover_texts(lines, x_label, percent if is_of_shares else number, write_x or number, ticks or {}),
    )


def _draw_line(axes: Axes, line: _Line) -> None:
    means = [point.mean for point in line.points]
    axes.plot(line.xs, means, linewidth=1.8, marker=line.key.marker, markersize=4, **line.key.line)
    if line.band is not None:
        axes.fill_between(line.xs, *line.band, color=line.key.line["color"], alpha=_BAND_ALPHA, linewidth=0)


def _hover_texts(
    lines: Sequence[_Line], x_label: str, write: Write, write_x: Write, ticks: Mapping[float, str]
) -> list[HoverText]:
    """The mean and the interval of every line at the places at which any was measured, straight between its own."""
    xs = sorted({x for line in lines for x in line.xs})
    hover_texts = []
    for x in xs[:: math.ceil(len(xs) / _MAX_HOVER_TEXTS)]:
        values = [f"{line.key.name}: {told}" for line in lines if (told := _told(line, x, write))]
        hover_texts.append(HoverText(x, "\n".join([f"{x_label}: {ticks.get(x) or write_x(x)}", *values])))
    return hover_texts


def _told(line: _Line, x: float, write: Write) -> str:
    """The mean and the interval of a line at a place; empty beyond its ends."""
    mean = interpolate(line.xs, [point.mean for point in line.points], x)
    if mean is None:
        return ""
    ends = [interpolate(line.xs, end, x) for end in line.band or ()]
    interval = ", ".join(write(end) for end in ends if end is not None)
    return f"{write(mean)} [{interval}]" if interval else write(mean)


def _places(values: Sequence[Any]) -> dict[str, float]:
    """The place of each value on the axis: numbers at their own, names evenly apart."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    as_numbers = len(numbers) == len(values)
    return {Cell("", "", value).id: float(value) if as_numbers else float(i) for i, value in enumerate(values)}


def _key(analysis: Analysis, cell: Cell, name: str) -> Key:
    """Colour by arm, dashes by the value of the sweep."""
    arms = list(dict.fromkeys(c.arm for c in analysis.study.cells))
    values = [c.value for c in analysis.study.cells if c.arm == cell.arm]
    number = arms.index(cell.arm)
    # More arms than colours: the next round of colours is dashed.
    dash = values.index(cell.value) + number // len(ARMS)
    return Key(visible(name), ARMS[number % len(ARMS)], tuple(DASHES)[dash % len(DASHES)])
