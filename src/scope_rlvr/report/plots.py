"""How a drawing with axes is made: one look for all of them, as SVG and as PNG.

Colours of an SVG that stands in a page are named by the page's style sheet, so that one drawing is right in a light
and in a dark scheme; files of their own have the light colours.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from scope_rlvr.core.visible import visible
from scope_rlvr.store.files import replacing, write_text

ARM_COLOURS = ("#0153e3", "#cf4b0c", "#01875a", "#af1884", "#1b8fb3", "#8a6d00", "#6b4fd8", "#8a8f98")
"""One colour an arm, in a light scheme; the style sheet has the dark ones under the same numbers."""

INK, SOFT, GRID = "#1b1e24", "#5c626d", "#e3e1da"
_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "scope study", "font.size": 8.5, "text.parse_math": False}
_SIZE = (4.4, 3.1)
_LEGEND_COLUMNS = 3
_LEGEND_CHARACTERS = 60
_LEGEND_HEIGHT = 0.45
"""Inches of a legend for which there is room in a picture of that size."""


@dataclass(frozen=True)
class Plot:
    """A drawing with its words. ``draw`` fills the axes."""

    name: str
    group: str
    title: str
    draw: Callable[[Any], None]
    x_label: str
    is_share: bool
    counts_tokens: bool = False
    has_whole_x: bool = False

    def save(self, folder: Path) -> str:
        """Write ``<name>.svg`` and ``<name>.png``; returns the SVG for the page."""
        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(_SETTINGS):
            figure = self._figure()
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
            write_text(folder / f"{self.name}.svg", _on_paper(text.getvalue()))
            with replacing(folder / f"{self.name}.png") as png:
                figure.savefig(png, format="png", dpi=160, facecolor="white", metadata={"Software": None})
        return for_page(text.getvalue(), self.name, self.title)

    def _figure(self) -> Figure:
        figure = Figure(figsize=_SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        self.draw(axes)
        axes.set_title(visible(self.title), loc="left", fontsize=9.5, color=INK)
        axes.set_xlabel(self.x_label, color=SOFT)
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=SOFT, length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        if self.is_share:
            # An interval may reach beyond what can be; the picture does not.
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -0.01), min(high, 1.01))
            axes.yaxis.set_major_formatter(FuncFormatter(_share))
        if self.counts_tokens:
            axes.xaxis.set_major_formatter(FuncFormatter(_tokens))
        if not axes.xaxis.get_converter():
            ticks = {"integer": True, "min_n_ticks": 1} if self.has_whole_x else {"steps": [1, 2, 2.5, 5, 10]}
            axes.xaxis.set_major_locator(MaxNLocator(6, **ticks))
        _add_legend(figure)
        return figure


def _add_legend(figure: Figure) -> None:
    """Names below the drawing, side by side as far as all of them can be read; the picture grows with their lines."""
    look: Any = {"frameon": False, "labelcolor": INK, "fontsize": 8, "handlelength": 2.6}
    handles, labels = figure.axes[0].get_legend_handles_labels()
    labels = [textwrap.fill(label, _LEGEND_CHARACTERS) for label in labels]
    for columns in range(min(_LEGEND_COLUMNS, len(labels)), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, **look)
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or columns == 1:
            figure.set_figheight(_SIZE[1] + max(0.0, extent.height / figure.dpi - _LEGEND_HEIGHT))
            return
        legend.remove()


def _tokens(value: float, _: int) -> str:
    """A number of tokens in as few characters as can be.

    >>> _tokens(250000, 0), _tokens(1500000, 0), _tokens(0, 0)
    ('250k', '1.5M', '0')
    """
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1000 else f"{value:g}"


def _share(value: float, _: int = 0) -> str:
    """
    >>> _share(0.4), _share(0.025)
    ('40 %', '2.5 %')
    """
    return f"{round(100 * value, 6):g} %"


def _on_paper(svg: str) -> str:
    """A file of its own on a white ground, so that it can be read in front of any."""
    return re.sub(r"(<svg [^>]*>)", r'\1<rect width="100%" height="100%" fill="#fff"/>', svg, count=1)


def for_page(svg: str, name: str, title: str) -> str:
    """An SVG as part of a page: without its own header, ids that no other drawing has, colours from the style sheet."""
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    for number, colour in enumerate(ARM_COLOURS):
        svg = svg.replace(colour, f"var(--arm-{number})")
    for colour, variable in ((INK, "ink"), (SOFT, "soft"), (GRID, "grid")):
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" aria-label="{escape(title)}"', svg, count=1)
