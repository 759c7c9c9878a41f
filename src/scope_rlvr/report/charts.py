"""The one way to draw: axes by matplotlib, as part of a page or as files of their own.

In a page the title and the legend are text around the axes, colours are named by the page's style sheet, so that one
drawing is right in a light and in a dark scheme, and the chart tells its values when it is pointed at. A file has the
title and the legend inside and light colours.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import AutoLocator, FuncFormatter, MaxNLocator

from scope_rlvr.core.visible import visible
from scope_rlvr.report.palette import COLOURS, SURFACES
from scope_rlvr.store.files import replacing, write_text

Write = Callable[[float], str]
"""Writes a value for a person."""

DASHES: dict[str, Any] = {
    "solid": "-",
    "dashed": (0, (6, 2.5)),
    "dotted": (0, (1.5, 1.8)),
    "dash-dotted": (0, (7, 2, 1.5, 2)),
}
INK, SOFT, GRID, CARD = (SURFACES[name].light for name in ("ink", "soft", "grid", "card"))

_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "scope study", "font.size": 8.5, "text.parse_math": False}
_PAGE_SIZE, _FILE_SIZE = (3.8, 2.2), (4.4, 3.1)
"""Inches; a page scales its charts to the width of their column."""

_LEGEND_COLUMNS = 3
_LEGEND_CHARACTERS = 60
_LEGEND_HEIGHT = 0.45
"""Inches of a legend that fits into a file of the usual size."""

_POINTS_AN_INCH = 72
_COORDINATES = re.compile(r' (?:d|x|y|transform)="[^"]*"')


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend, and how what it names is drawn: a colour of the palette and a dash, or an area.

    ``latest`` is its last value as text, which a page shows beside the name.
    """

    name: str
    colour: str
    dash: str = "solid"
    is_area: bool = False
    marker: str = ""
    latest: str = ""

    @property
    def line(self) -> dict[str, Any]:
        """The look of a line, for matplotlib."""
        return {"color": COLOURS[self.colour].light, "linestyle": DASHES[self.dash]}

    @property
    def dash_array(self) -> str:
        """The look of a line, for SVG; empty for a solid one."""
        return "" if self.dash == "solid" else " ".join(f"{length:g}" for length in DASHES[self.dash][1])

    def handle(self) -> Line2D | Patch:
        """What the legend of a file shows."""
        if self.is_area:
            return Patch(color=COLOURS[self.colour].light)
        return Line2D([], [], linewidth=1.8, marker=self.marker, markersize=4, **self.line)


@dataclass(frozen=True, slots=True)
class HoverText:
    """What a chart says where it is pointed at: the values at ``x``, one a line."""

    x: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A drawing with its words. ``draw`` fills the axes.

    ``name`` is that of its files. ``within`` cuts the vertical axis to what can be: the interval of a share may reach
    below zero, and the picture does not. Ticks that ``draw`` sets stay as they are.
    """

    name: str
    title: str
    keys: Sequence[Key]
    draw: Callable[[Axes], None]
    x_label: str
    hint: str = ""
    group: str = ""
    write_x: Write | None = None
    write_y: Write | None = None
    within: tuple[float, float] | None = None
    has_whole_x: bool = False
    hover_texts: Sequence[HoverText] = ()

    def for_page(self) -> Markup:
        """The axes as SVG, for a page."""
        with mpl.rc_context(_SETTINGS):
            figure = self._axes(_PAGE_SIZE)
            svg = _svg(figure)
            probes = _probes(figure, self.hover_texts)
        return Markup(_for_page(svg, self.name, self.title).replace("</svg>", f"{probes}</svg>"))

    def save(self, folder: Path) -> None:
        """Write ``<name>.svg`` and ``<name>.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(_SETTINGS):
            figure = self.figure()
            write_text(folder / f"{self.name}.svg", _on_paper(_svg(figure)))
            with replacing(folder / f"{self.name}.png") as png:
                figure.savefig(png, format="png", dpi=160, facecolor="white", metadata={"Software": None})

    def figure(self) -> Figure:
        """The whole chart, with title and legend."""
        figure = self._axes(_FILE_SIZE)
        figure.axes[0].set_title(visible(self.title), loc="left", fontsize=9.5, color=INK)
        _add_legend(figure, self.keys)
        return figure

    def _axes(self, size: tuple[float, float]) -> Figure:
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        self.draw(axes)
        axes.set_xlabel(self.x_label, color=SOFT)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=SOFT, length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        if self.within is not None:
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, self.within[0]), min(high, self.within[1]))
        for axis, write in ((axes.xaxis, self.write_x), (axes.yaxis, self.write_y)):
            if write is not None:
                axis.set_major_formatter(FuncFormatter(lambda value, _, write=write: write(value)))
        if isinstance(axes.xaxis.get_major_locator(), AutoLocator):
            ticks: Any = {"integer": True, "min_n_ticks": 1} if self.has_whole_x else {"steps": [1, 2, 2.5, 5, 10]}
            axes.xaxis.set_major_locator(MaxNLocator(6, **ticks))
        return figure


def _add_legend(figure: Figure, keys: Sequence[Key]) -> None:
    """Names below the drawing, as many side by side as fit; the picture grows with their lines."""
    if not keys:
        return
    look: Any = {"frameon": False, "labelcolor": INK, "fontsize": 8, "handlelength": 2.6}
    handles = [key.handle() for key in keys]
    labels = [textwrap.fill(visible(key.name), _LEGEND_CHARACTERS) for key in keys]
    for columns in range(min(_LEGEND_COLUMNS, len(labels)), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, **look)
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or columns == 1:
            figure.set_figheight(_FILE_SIZE[1] + max(0.0, extent.height / figure.dpi - _LEGEND_HEIGHT))
            return
        legend.remove()


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return text.getvalue()


def _on_paper(svg: str) -> str:
    """A file of its own on a white ground, so that it can be read in front of any."""
    return re.sub(r"(<svg [^>]*>)", r'\1<rect width="100%" height="100%" fill="#fff"/>', svg, count=1)


def _for_page(svg: str, name: str, title: str) -> str:
    """An SVG as part of a page: without its own header, with ids that no other drawing has and colours from the style sheet."""
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    # A hundredth of a point is less than anybody sees.
    svg = _COORDINATES.sub(lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), svg)
    for variable, colour in (COLOURS | SURFACES).items():
        svg = svg.replace(colour.light, f"var(--{variable})")
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" aria-label="{escape(title)}"', svg, count=1)


def _probes(figure: Figure, hover_texts: Sequence[HoverText]) -> str:
    """Invisible stretches beside each other that cover the axes, each with the text that it shows when pointed at."""
    axes = figure.axes[0]
    points = _POINTS_AN_INCH / figure.dpi
    frame = axes.get_window_extent()
    xs = [axes.transData.transform((hover.x, 0))[0] for hover in hover_texts]
    edges = [frame.x0, *((a + b) / 2 for a, b in pairwise(xs)), frame.x1]
    top, height = (figure.bbox.height - frame.y1) * points, frame.height * points
    return "".join(
        f'<rect class="probe" x="{left * points:.1f}" width="{max(right - left, 1.0) * points:.1f}" y="{top:.1f}" '
        f'height="{height:.1f}"><title>{escape(visible(hover.text))}</title></rect>'
        for hover, (left, right) in zip(hover_texts, pairwise(edges), strict=bool(hover_texts))
    )


def short_percent(share: float) -> str:
    """A share on an axis.

    >>> short_percent(0.4), short_percent(0.025)
    ('40 %', '2.5 %')
    """
    return f"{round(100 * share, 6):g} %"


def short_count(value: float) -> str:
    """A large number on an axis, in as few characters as can be.

    >>> short_count(250000), short_count(1500000), short_count(0)
    ('250k', '1.5M', '0')
    """
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1000 else f"{value:g}"
