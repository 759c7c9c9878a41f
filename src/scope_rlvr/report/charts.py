"""Curves as geometry: what the template draws as inline SVG.

Only coordinates are computed here. Colours are names of slots that the page's style sheet fills, so that one file is
right in a light and in a dark scheme, text stays text, and a chart costs a few kilobytes.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24

_MAX_POINTS = 240
_MAX_SMOOTH_POINTS = 75
_MAX_COLUMNS = 60
_SMOOTHING_SHARE = 0.06

Points = Sequence[tuple[float, float]]
Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """A named curve; ``slot`` is its colour and line style, ``shows_points`` marks where it was measured.

    ``extra`` are values measured in another way: dots of the same colour that the curve does not pass through.
    """

    name: str
    points: Points
    slot: str
    shows_points: bool = False
    extra: Points = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """Something drawn: a ``line``, a ``raw`` (faint) line or an ``area`` with its path; a ``dot`` or a ``test`` dot."""

    kind: str
    slot: str
    path: str = ""
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Legend:
    name: str
    slot: str
    latest: str


@dataclass(frozen=True, slots=True)
class Column:
    """A stretch of steps that tells its values when pointed at."""

    x: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    hint: str
    marks: tuple[Mark, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    legend: tuple[Legend, ...]
    columns: tuple[Column, ...]
    is_stacked: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps steps and values to the drawing."""

    first: float
    last: float
    top: float

    def x(self, step: float) -> float:
        if self.last == self.first:
            return LEFT + (WIDTH - LEFT - RIGHT) / 2
        return LEFT + (step - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - min(value, self.top) / self.top * (HEIGHT - TOP - BOTTOM)

    def path(self, points: Points) -> str:
        return "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)


def line_chart(
    title: str, hint: str, series: Sequence[Series], write: Format, *, smooth: bool = True, top: float | None = None
) -> Chart | None:
    """Curves over steps, from zero up; a noisy one is drawn faint with its moving average. ``None`` without data."""
    series = [s for s in series if s.points]
    if not series:
        return None
    steps = [x for s in series for x, _ in (*s.points, *s.extra)]
    highest = top if top is not None else max(y for s in series for _, y in (*s.points, *s.extra))
    y_ticks, ceiling = _scale(highest, write)
    frame = _Frame(min(steps), max(steps), ceiling)
    marks = [mark for s in series for mark in _line_marks(s, frame, smooth)]
    drawn = [(s.name, smoothed(s.points) if smooth else s.points) for s in series]
    return Chart(
        title,
        hint,
        tuple(marks),
        tuple(Tick(frame.y(tick), label) for tick, label in y_ticks),
        _step_ticks(frame),
        tuple(Legend(s.name, s.slot, write(points[-1][1])) for s, (_, points) in zip(series, drawn, strict=True)),
        _columns(drawn, frame, write),
        is_stacked=False,
    )


def _line_marks(series: Series, frame: _Frame, smooth: bool) -> list[Mark]:
    points = binned(series.points)
    dots = [Mark("dot", series.slot, x=frame.x(x), y=frame.y(y)) for x, y in points]
    tests = [Mark("test", series.slot, x=frame.x(x), y=frame.y(y)) for x, y in series.extra]
    if len(points) == 1:
        return [*dots, *tests]
    if series.shows_points:
        return [Mark("line", series.slot, frame.path(points)), *dots, *tests]
    if not smooth:
        return [Mark("line", series.slot, frame.path(points))]
    average = binned(smoothed(series.points), _MAX_SMOOTH_POINTS)
    return [Mark("raw", series.slot, frame.path(points)), Mark("line", series.slot, frame.path(average))]


def stacked_chart(
    title: str, hint: str, series: Sequence[Series], write: Format, *, top: float | None = None
) -> Chart | None:
    """Shares or amounts on top of each other; drawn as means over neighbouring steps; a value
    missing at a step counts as zero. ``None`` without data."""
    series = [s for s in series if any(y > 0 for _, y in s.points)]
    if not series:
        return None
    steps = sorted({x for s in series for x, _ in s.points})
    known = [dict(s.points) for s in series]
    layers = [binned([(x, values.get(x, 0.0)) for x in steps], _MAX_SMOOTH_POINTS) for values in known]
    sums = [math.fsum(layer[i][1] for layer in layers) for i in range(len(layers[0]))]
    y_ticks, ceiling = _scale(top if top is not None else max(sums), write)
    frame = _Frame(steps[0], steps[-1], ceiling)
    return Chart(
        title,
        hint,
        tuple(_area_marks(series, layers, frame)),
        tuple(Tick(frame.y(tick), label) for tick, label in y_ticks),
        _step_ticks(frame),
        tuple(Legend(s.name, s.slot, write(layer[-1][1])) for s, layer in zip(series, layers, strict=True)),
        _columns([(s.name, layer) for s, layer in zip(series, layers, strict=True)], frame, write),
        is_stacked=True,
    )


def _area_marks(series: Sequence[Series], layers: Sequence[Points], frame: _Frame) -> list[Mark]:
    marks, floor = [], [(x, 0.0) for x, _ in layers[0]]
    for one, layer in zip(series, layers, strict=True):
        roof = [(x, low + y) for (x, low), (_, y) in zip(floor, layer, strict=True)]
        if len(roof) == 1:
            x, y = frame.x(roof[0][0]), frame.y(roof[0][1])
            marks.append(Mark("area", one.slot, f"M{x - 20:.1f} {y:.1f}h40V{frame.y(floor[0][1]):.1f}h-40Z"))
        else:
            marks.append(Mark("area", one.slot, f"{frame.path(roof)}L{frame.path(floor[::-1])[1:]}Z"))
        floor = roof
    return marks


def binned(points: Points, limit: int = _MAX_POINTS) -> list[tuple[float, float]]:
    """At most ``limit`` points: means over neighbouring ones; the last step stays where it is.

    >>> binned([(1, 0.0), (2, 1.0), (3, 1.0), (4, 3.0)], 2)
    [(1.5, 0.5), (4, 2.0)]
    """
    if len(points) <= limit:
        return list(points)
    bounds = [i * len(points) // limit for i in range(limit + 1)]
    bins = [points[a:b] for a, b in pairwise(bounds)]
    means = [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in bins]
    means[-1] = (points[-1][0], means[-1][1])
    return means


def smoothed(points: Points) -> list[tuple[float, float]]:
    """The centred moving average over about a sixteenth of the curve; short curves stay as they are.

    >>> smoothed([(1, 0.0), (2, 1.0)])
    [(1, 0.0), (2, 1.0)]
    """
    reach = round(len(points) * _SMOOTHING_SHARE / 2)
    sums = [0.0, *accumulate(y for _, y in points)]
    windows = [(max(0, i - reach), min(len(points), i + reach + 1)) for i in range(len(points))]
    return [(x, (sums[b] - sums[a]) / (b - a)) for (x, _), (a, b) in zip(points, windows, strict=True)]


def _scale(highest: float, write: Format) -> tuple[list[tuple[float, str]], float]:
    """Round ticks from zero that reach the highest value, with the value at which the axis ends."""
    highest = highest if highest > 0 else 1.0
    step = _round_step(highest / 4)
    num_steps = math.ceil(highest / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(num_steps + 1)]
    return [(tick, write(tick).replace(".0 %", " %")) for tick in ticks], ticks[-1]


def _round_step(wanted: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below ``wanted``.

    >>> _round_step(0.23), _round_step(23), _round_step(6)
    (0.25, 25.0, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= wanted * (1 - 1e-9))


def _step_ticks(frame: _Frame) -> tuple[Tick, ...]:
    """About five round steps, none so close to the last step that labels would touch."""
    first, last = round(frame.first), round(frame.last)
    if first == last:
        return (Tick(frame.x(first), f"{first}"),)
    gap = max(1, round(_round_step((last - first) / 5)))
    inner = range((first // gap + 1) * gap, last, gap)
    ticks = [first, *(s for s in inner if s - first >= gap * 0.6 and last - s >= gap * 0.6), last]
    return tuple(Tick(frame.x(step), f"{step}") for step in ticks)


def _columns(drawn: Sequence[tuple[str, Points]], frame: _Frame, write: Format) -> tuple[Column, ...]:
    """Stretches that cover the chart, each with the values measured nearest to its middle."""
    steps = sorted({x for _, points in drawn for x, _ in points})
    centres = [x for x, _ in binned([(x, 0.0) for x in steps], _MAX_COLUMNS)]
    edges = [frame.x(frame.first), *((frame.x(a) + frame.x(b)) / 2 for a, b in pairwise(centres))]
    edges.append(frame.x(frame.last))
    columns = []
    for centre, (left, right) in zip(centres, pairwise(edges), strict=True):
        values = [f"{name}: {write(_nearest(points, centre))}" for name, points in drawn]
        columns.append(Column(left, max(right - left, 1.0), "\n".join([f"step {round(centre)}", *values])))
    return tuple(columns)


def _nearest(points: Points, step: float) -> float:
    after = min(bisect_left(points, step, key=lambda point: point[0]), len(points) - 1)
    before = max(after - 1, 0)
    return points[before if abs(points[before][0] - step) < abs(points[after][0] - step) else after][1]
