"""The charts of a run: what is drawn over its steps."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scope_rlvr.report.charts import CARD, Chart, HoverText, Key, Write, short_percent
from scope_rlvr.report.evaluations import evaluation_tables
from scope_rlvr.report.palette import CLASSES, COLOURS
from scope_rlvr.report.reading import RecordedRun
from scope_rlvr.report.wording import GROUP_CLASSES, duration, number, percent

Points = Sequence[tuple[float, float]]

_PHASES = {"sampling": "blue", "scoring": "teal", "teacher": "purple", "continuation": "green", "verifying": "orange"}
_SET_STYLES = (
    ("blue", "solid"),
    ("orange", "dashed"),
    ("teal", "dotted"),
    ("purple", "solid"),
    ("grey", "dashed"),
    ("green", "solid"),
)
_MAX_POINTS = 240
_MAX_SMOOTH_POINTS = 75
_MAX_HOVER_TEXTS = 60
_SMOOTHING_SHARE = 0.06


@dataclass(frozen=True, slots=True)
class Series:
    """A named curve; ``shows_points`` marks where it was measured.

    ``extra`` are values measured in another way: dots of the same colour that the curve does not pass through.
    """

    name: str
    points: Points
    colour: str
    dash: str = "solid"
    shows_points: bool = False
    extra: Points = ()


def run_charts(run: RecordedRun) -> list[Chart]:
    """Every chart for which the run has data."""
    accuracy, *others = (_line_chart_of(run, *words) for words in _CURVES)
    charts = [
        accuracy,
        line_chart(
            "Held-out accuracy",
            "On problems that are never trained on. Filled dots: the test problems, before and after; "
            "rings: other held-out problems, watched while training.",
            _held_out(run),
            percent,
            smooth=False,
        ),
        stacked_chart(
            "What the groups can teach",
            "All-right and all-wrong groups teach nothing; a salvaged group would have been wrong in part or as a whole.",
            [Series(c.value, run.series(key), CLASSES[c]) for c, key in GROUP_CLASSES.items()],
            percent,
            top=1.0,
        ),
        *others,
        stacked_chart("Seconds per step", "Where the time goes.", _seconds(run), duration),
    ]
    return [chart for chart in charts if chart is not None]


_Curve = tuple[str, str, str, str]
"""The name in the legend, the metric, the colour and the dash of a curve."""

_CURVES: list[tuple[str, str, Write, list[_Curve]]] = [
    (
        "Accuracy while training",
        "Share of right answers among the rollouts that the policy wrote without help.",
        percent,
        [("plain rollouts", "accuracy", "blue", "solid")],
    ),
    (
        "Salvages",
        "Per step: how often the teacher was asked, and how many results the verifier accepted.",
        number,
        [
            ("attempted", "salvage/attempted", "grey", "dashed"),
            ("admitted", "salvage/admitted", "green", "solid"),
        ],
    ),
    (
        "Tokens that carry gradient",
        "Share of response tokens with a non-zero advantage; all others were sampled for nothing.",
        percent,
        [("with gradient", "gradient/token_share", "blue", "solid")],
    ),
    (
        "The teacher's share",
        "Of the tokens that carry gradient, and of the weight of the gradient. Small means: the policy learns from itself.",
        percent,
        [
            ("of tokens", "gradient/teacher_token_share", "purple", "solid"),
            ("of gradient weight", "gradient/teacher_share", "orange", "dashed"),
        ],
    ),
    (
        "Entropy",
        "How undecided the policy is, in nats a token. A fall to zero means that it stopped exploring.",
        number,
        [("entropy", "policy/entropy", "blue", "solid")],
    ),
    (
        "Length of rollouts",
        "Mean tokens of a response.",
        number,
        [("tokens", "rollouts/tokens", "blue", "solid")],
    ),
]


def _line_chart_of(run: RecordedRun, title: str, hint: str, write: Write, curves: list[_Curve]) -> Chart | None:
    series = [Series(name, run.series(metric), colour, dash) for name, metric, colour, dash in curves]
    return line_chart(title, hint, series, write)


def _held_out(run: RecordedRun) -> list[Series]:
    """One curve for each evaluation set: what was measured while training, or else before and after it."""
    summary = run.summary or {}
    tested: dict[str, list[tuple[float, float]]] = {}
    for when, step in (("before", 0.0), ("after", float(run.last_step))):
        for name, evaluation in (summary.get(when) or {}).items():
            if evaluation.get("accuracy") is not None:
                tested.setdefault(name, []).append((step, evaluation["accuracy"]))
    keys = sorted({key for row in run.metrics for key in row if re.fullmatch(r"eval/.+/accuracy", key)})
    watched = {key.removeprefix("eval/").removesuffix("/accuracy"): run.series(key) for key in keys}
    tables = evaluation_tables(summary)
    names = list(dict.fromkeys([*(table.name for table in tables if table.name in tested), *watched]))
    return [
        Series(name, watched.get(name) or tested[name], *_SET_STYLES[i % len(_SET_STYLES)], True, tested.get(name, ()))
        for i, name in enumerate(names)
    ]


def _seconds(run: RecordedRun) -> list[Series]:
    """The phases of a step, and the rest of it: mostly the gradient."""
    known = [row for row in run.metrics if any(key.startswith("seconds/") for key in row)]
    phases = [
        Series(phase, [(row["step"], row.get(f"seconds/{phase}", 0.0)) for row in known], colour)
        for phase, colour in _PHASES.items()
    ]
    rest = [
        (row["step"], max(0.0, row["seconds/step"] - sum(row.get(f"seconds/{phase}", 0.0) for phase in _PHASES)))
        for row in known
        if "seconds/step" in row
    ]
    return [*phases, Series("gradient and the rest", rest, "grey")]


# --- kinds of charts ----------------------------------------------------------------------------------------------


def line_chart(
    title: str, hint: str, series: Sequence[Series], write: Write, *, smooth: bool = True, top: float | None = None
) -> Chart | None:
    """Curves over steps, from zero up; a noisy one is drawn faint with its moving average. ``None`` without data."""
    series = [s for s in series if s.points]
    if not series:
        return None
    shown = [moving_average(s.points) if smooth and not s.shows_points else s.points for s in series]
    keys = [Key(s.name, s.colour, s.dash, latest=write(ys[-1][1])) for s, ys in zip(series, shown, strict=True)]
    values = [point for s in series for point in (*s.points, *s.extra)]
    highest = max(y for _, y in values) if top is None else top

    def draw(axes: Axes) -> None:
        for i, (one, key) in enumerate(zip(series, keys, strict=True)):
            _draw_curve(axes, one, key.line | {"gid": f"line-{i}"}, smooth)
        _set_frame(axes, [x for x, _ in values], highest)

    return _chart(title, hint, keys, draw, write, shown)


def stacked_chart(
    title: str, hint: str, series: Sequence[Series], write: Write, *, top: float | None = None
) -> Chart | None:
    """Shares or amounts on top of each other, as means over neighbouring steps. ``None`` without data.

    A value that is missing at a step counts as zero.
    """
    series = [s for s in series if any(y > 0 for _, y in s.points)]
    if not series:
        return None
    steps = sorted({x for s in series for x, _ in s.points})
    known = [dict(s.points) for s in series]
    layers = [binned([(x, values.get(x, 0.0)) for x in steps], _MAX_SMOOTH_POINTS) for values in known]
    sums = [math.fsum(layer[i][1] for layer in layers) for i in range(len(layers[0]))]
    keys = [
        Key(s.name, s.colour, is_area=True, latest=write(layer[-1][1])) for s, layer in zip(series, layers, strict=True)
    ]
    colours = [COLOURS[s.colour].light for s in series]

    def draw(axes: Axes) -> None:
        # One step is drawn as a column.
        xs = [x for x, _ in layers[0]] if len(sums) > 1 else [steps[0] - 0.1, steps[0] + 0.1]
        heights = [[y for _, y in layer] * (len(xs) // len(layer)) for layer in layers]
        areas = axes.stackplot(xs, *heights, colors=colours, alpha=0.82, edgecolor=CARD, linewidth=0.9)
        for i, area in enumerate(areas):
            area.set_gid(f"area-{i}")
        _set_frame(axes, steps, max(sums) if top is None else top)

    return _chart(title, hint, keys, draw, write, layers)


def _chart(
    title: str, hint: str, keys: list[Key], draw: Callable[[Axes], None], write: Write, shown: Sequence[Points]
) -> Chart:
    return Chart(
        name=re.sub(r"[^a-z]+", "-", title.lower()),
        title=title,
        keys=keys,
        draw=draw,
        x_label="step",
        hint=hint,
        write_y=short_percent if write is percent else write,
        hover_texts=_hover_texts([key.name for key in keys], shown, write),
    )


def _draw_curve(axes: Axes, series: Series, line: dict[str, Any], smooth: bool) -> None:
    colour, points = line["color"], binned(series.points)
    rings = {"marker": "o", "markersize": 4, "markerfacecolor": CARD, "markeredgecolor": colour, "markeredgewidth": 1.4}
    if len(points) == 1 or series.shows_points:
        axes.plot(*_xy(points), linewidth=1.6, **line, **rings)
        axes.plot(*_xy(series.extra), "o", color=colour, markersize=5.5, markeredgecolor=CARD, markeredgewidth=1)
    elif not smooth:
        axes.plot(*_xy(points), linewidth=1.6, **line)
    else:
        axes.plot(*_xy(points), linewidth=0.7, color=colour, alpha=0.3)
        axes.plot(*_xy(binned(moving_average(series.points), _MAX_SMOOTH_POINTS)), linewidth=1.6, **line)


def _xy(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _set_frame(axes: Axes, steps: Sequence[float], highest: float) -> None:
    """Round ticks from zero to above the highest value, and from the first step to the last."""
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(0.0, highest if highest > 0 else 1.0)
    axes.set_yticks([tick for tick in ticks if tick >= 0])
    axes.set_ylim(0.0, max(ticks[-1], highest))
    first, last = min(steps), max(steps)
    axes.set_xticks(step_ticks(round(first), round(last)))
    room = 0.01 * (last - first) or 0.5
    axes.set_xlim(first - room, last + room)


def step_ticks(first: int, last: int) -> list[int]:
    """About five steps: the first, the last, and round ones that keep away from both.

    >>> step_ticks(1, 300), step_ticks(7, 7)
    ([1, 100, 200, 300], [7])
    """
    if first == last:
        return [first]
    inner = MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]).tick_values(first, last)
    room = 0.6 * (inner[1] - inner[0])
    return [first, *(round(tick) for tick in inner if tick - first >= room and last - tick >= room), last]


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


def moving_average(points: Points) -> list[tuple[float, float]]:
    """The centred moving average over about a sixteenth of the curve; short curves stay as they are.

    >>> moving_average([(1, 0.0), (2, 1.0)])
    [(1, 0.0), (2, 1.0)]
    """
    reach = round(len(points) * _SMOOTHING_SHARE / 2)
    sums = [0.0, *accumulate(y for _, y in points)]
    windows = [(max(0, i - reach), min(len(points), i + reach + 1)) for i in range(len(points))]
    return [(x, (sums[b] - sums[a]) / (b - a)) for (x, _), (a, b) in zip(points, windows, strict=True)]


def _hover_texts(names: Sequence[str], shown: Sequence[Points], write: Write) -> list[HoverText]:
    """The values of every curve at some of the steps."""
    steps = sorted({x for points in shown for x, _ in points})
    hover_texts = []
    for step, _ in binned([(x, 0.0) for x in steps], _MAX_HOVER_TEXTS):
        values = [f"{name}: {write(_nearest(points, step))}" for name, points in zip(names, shown, strict=True)]
        hover_texts.append(HoverText(step, "\n".join([f"step {round(step)}", *values])))
    return hover_texts


def _nearest(points: Points, step: float) -> float:
    after = min(bisect_left(points, step, key=lambda point: point[0]), len(points) - 1)
    before = max(after - 1, 0)
    return points[before if abs(points[before][0] - step) < abs(points[after][0] - step) else after][1]
