"""What a person watches while a run trains, and the table that it ends with."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from statistics import fmean
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scope_rlvr.core.groups import GroupClass
from scope_rlvr.core.visible import visible
from scope_rlvr.report.evaluations import evaluation_tables
from scope_rlvr.report.palette import BETTER, CLASSES, COLOURS, WORSE
from scope_rlvr.report.wording import GROUP_CLASSES, duration, number, percent, teacher_failures

PLAIN_LINE_EVERY = 10

_SMOOTHING_STEPS = 20
_SPARK_WIDTH = 32
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*#"
_CLASS_STYLE = {group_class: COLOURS[colour].terminal for group_class, colour in CLASSES.items()}
_CURVE_STYLE = COLOURS["blue"].terminal
_CLASS_BAR_WIDTH = 24
_TEACHER_COUNTS = ("teacher/asked", "teacher/errors")


def sparkline(values: Sequence[float], width: int = _SPARK_WIDTH, blocks: str = _BLOCKS) -> str:
    """A curve in one line of text, from its lowest value to its highest; a span below 0.05 is not blown up.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▄█'
    """
    if not values:
        return ""
    width = min(width, len(values))
    means = [fmean(values[i * len(values) // width : (i + 1) * len(values) // width]) for i in range(width)]
    low, span = min(means), max(max(means) - min(means), 0.05)
    return "".join(blocks[int((mean - low) / span * (len(blocks) - 1))] for mean in means)


class LiveDisplay:
    """Shows a training run as it goes; where the console is no terminal, one plain line every ten steps.

    Use it as a context manager: ``update`` after every step with the step's metrics (missing ones are not shown),
    ``note`` for what a person should read. ``clock`` is there for tests.
    """

    def __init__(
        self,
        console: Console,
        total_steps: int,
        plan_lines: list[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._total_steps = total_steps
        self._plan_lines = [visible(line) for line in plan_lines]
        self._clock = clock
        self._started = clock()
        self._step_ends: deque[float] = deque(maxlen=_SMOOTHING_STEPS + 1)
        self._step = 0
        self._metrics: dict[str, float] = {}
        self._held_out: dict[str, tuple[float, int]] = {}
        self._accuracy: deque[float] = deque(maxlen=_SMOOTHING_STEPS)
        self._smooth_accuracy: list[float] = []
        self._entropy: list[float] = []
        self._attempted = self._admitted = 0.0
        self._teacher: Counter[str] = Counter()
        self._blocks = _BLOCKS if console.encoding.startswith("utf") else _ASCII_BLOCKS
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=4, auto_refresh=True)

    def __enter__(self) -> Self:
        self._started = self._clock()
        if self._console.is_terminal:
            self._live.start()
        else:
            for line in self._plan_lines:
                self._print(line)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()
        elif self._step % PLAIN_LINE_EVERY and self._step != self._total_steps:
            self._print(self._line())

    def update(self, metrics: dict[str, float]) -> None:
        """Take in the metrics of one more step."""
        self._step = int(metrics.get("step", self._step + 1))
        self._metrics = dict(metrics)
        self._step_ends.append(self._clock())
        self._attempted += metrics.get("salvage/attempted", 0)
        self._admitted += metrics.get("salvage/admitted", 0)
        self._teacher.update({key: int(n) for key, n in metrics.items() if key.startswith(_TEACHER_COUNTS)})
        if "accuracy" in metrics:
            self._accuracy.append(metrics["accuracy"])
            self._smooth_accuracy.append(fmean(self._accuracy))
        if "policy/entropy" in metrics:
            self._entropy.append(metrics["policy/entropy"])
        for key, value in metrics.items():
            if key.startswith("eval/") and key.endswith("/accuracy"):
                self._held_out[key.removeprefix("eval/").removesuffix("/accuracy")] = (value, self._step)
        if not self._console.is_terminal and (
            self._step % PLAIN_LINE_EVERY == 0 or self._step in (1, self._total_steps)
        ):
            self._print(self._line())

    def note(self, text: str) -> None:
        """Print a line that stays, above the display."""
        self._print(visible(text))

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    @property
    def seconds_left(self) -> float | None:
        """The time that the remaining steps will take at the pace of the latest ones; ``None`` before the second.

        What came before the first step (loading, measuring) says nothing about the pace.
        """
        if len(self._step_ends) < 2:
            return None
        pace = (self._step_ends[-1] - self._step_ends[0]) / (len(self._step_ends) - 1)
        return pace * max(0, self._total_steps - self._step)

    def _timing(self) -> str:
        gone = duration(round(self._clock() - self._started))
        left = self.seconds_left
        if left is None:
            return f"{gone} so far"
        return (
            f"{gone} so far, about {duration(round(left))} left" if self._step < self._total_steps else f"{gone} in all"
        )

    def _line(self) -> str:
        """The state of the run in one line."""
        metrics = self._metrics
        parts = [f"step {self._step}/{self._total_steps}"]
        if self._smooth_accuracy:
            parts.append(f"accuracy {percent(self._smooth_accuracy[-1])}")
        parts += [f"{name} {percent(value)}" for name, (value, step) in self._held_out.items() if step == self._step]
        if self._attempted:
            parts.append(f"salvages {number(self._admitted)} of {number(self._attempted)} tried")
        if failing := teacher_failures(self._teacher):
            parts.append(failing)
        if "gradient/token_share" in metrics:
            parts.append(f"gradient on {percent(metrics['gradient/token_share'])} of tokens")
        if "policy/entropy" in metrics:
            parts.append(f"entropy {number(metrics['policy/entropy'])}")
        return visible(" | ".join([*parts, self._timing()]))

    def _view(self) -> RenderableType:
        """The whole display of a terminal."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        for name, value in self._rows():
            grid.add_row(name, value)
        plan = [Text(line, style="dim") for line in self._plan_lines]
        return Panel(Group(*plan, self._progress(), grid), title="training", title_align="left", border_style="dim")

    def _progress(self) -> RenderableType:
        line = Table.grid(padding=(0, 2), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        bar = ProgressBar(
            total=max(1, self._total_steps), completed=self._step, complete_style=_CURVE_STYLE, finished_style=BETTER
        )
        line.add_row(Text(f"step {self._step} of {self._total_steps}", style="bold"), bar, self._timing())
        return line

    def _rows(self) -> list[tuple[str, RenderableType]]:
        """What there is to say, leaving out what was not measured."""
        metrics, rows = self._metrics, list[tuple[str, RenderableType]]()
        if self._smooth_accuracy:
            rows.append(("accuracy, plain rollouts", self._trend(percent, self._smooth_accuracy)))
        for name, (value, step) in self._held_out.items():
            at_step = Text.assemble((percent(value), "bold"), (f"  at step {step}", "dim"))
            rows.append((f"held out, {visible(name)}", at_step))
        if any(key in metrics for key in GROUP_CLASSES.values()):
            rows.append(("groups", self._classes()))
        if "salvage/attempted" in metrics:
            rows.append(("salvages", self._salvages()))
        if failing := teacher_failures(self._teacher):
            rows.append(("teacher", Text(failing, style=f"bold {_CLASS_STYLE[GroupClass.ALL_WRONG]}")))
        if "gradient/token_share" in metrics:
            rows.append(("tokens with gradient", Text(percent(metrics["gradient/token_share"]), style="bold")))
        if self._entropy:
            rows.append(("entropy", self._trend(number, self._entropy)))
        return rows

    def _trend(self, write: Callable[[float], str], values: Sequence[float]) -> Text:
        curve = sparkline(values, blocks=self._blocks)
        return Text.assemble((f"{write(values[-1]):<7}", "bold"), (curve, _CURVE_STYLE))

    def _classes(self) -> Text:
        """A bar of the groups by class, and the same in words."""
        shares = [(c, self._metrics.get(key, 0.0)) for c, key in GROUP_CLASSES.items()]
        shares = [(group_class, share) for group_class, share in shares if share > 0]
        bar, words, end, drawn = Text(), Text("  "), 0.0, 0
        for position, (group_class, share) in enumerate(shares):
            style, end = _CLASS_STYLE[group_class], end + share
            width = round(end * _CLASS_BAR_WIDTH) - drawn
            drawn += width
            bar.append(("█" if self._blocks == _BLOCKS else "#") * width, style=style)
            words.append(" · " if position else "").append(f"{group_class.value} {share:.0%}", style=style)
        return bar.append_text(words)

    def _salvages(self) -> Text:
        now = (
            f"{number(self._metrics.get('salvage/admitted', 0))} of {number(self._metrics['salvage/attempted'])} tried"
        )
        text = Text.assemble((now, "bold"), " at this step")
        if not self._attempted:
            return text
        rate = percent(self._admitted / self._attempted)
        total = f"  ·  {number(self._admitted)} of {number(self._attempted)} in all ({rate})"
        return text.append(total)


def final_table(summary: dict[str, Any]) -> Table:
    """Before and after, at each evaluation set, and the salvage figures of a finished run's ``summary.json``."""
    table = Table(title="before and after", title_style="bold", title_justify="left", header_style="dim")
    table.add_column("measured")
    for name in ("before", "after", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    style = {"up": f"bold {BETTER}", "down": f"bold {WORSE}", "even": ""}
    for evaluation in evaluation_tables(summary):
        about = f"{evaluation.role}, {evaluation.size}" if evaluation.role else evaluation.size
        table.add_row(Text.assemble((visible(evaluation.name), "bold"), (f"  {visible(about)}", "dim")))
        for m in evaluation.measures:
            difference = Text(m.difference or "–", style=style[m.trend])
            table.add_row(Text(f"  {visible(m.name)}"), m.before or "–", m.after or "–", difference)
        table.add_section()
    for name, value in _figures(summary):
        table.add_row(name, "", value, "")
    return table


def _figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    salvage, tokens = summary.get("salvage") or {}, summary.get("tokens") or {}
    figures = [(f"failures {name}", salvage[key]) for key, name in _SALVAGE_FIGURES if key in salvage]
    rows = [(name, number(value)) for name, value in figures]
    if salvage.get("attempted"):
        rows.append(("salvages admitted of those tried", percent(salvage.get("admitted", 0) / salvage["attempted"])))
    return rows + [(f"tokens {name}", number(tokens[key])) for key, name in _TOKEN_FIGURES if key in tokens]


_SALVAGE_FIGURES = (("failures", "seen"), ("attempted", "tried to salvage"), ("admitted", "salvaged and admitted"))
_TOKEN_FIGURES = (("sampled", "sampled"), ("continuation", "of continuations"), ("teacher", "by the teacher"))
