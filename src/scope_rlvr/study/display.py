"""What a person watches while a study runs: one table, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scope_rlvr.core.visible import visible
from scope_rlvr.report.palette import WORSE
from scope_rlvr.report.wording import duration, percent
from scope_rlvr.study.plan import Cell, Study
from scope_rlvr.study.runner import RunState, RunStatus

PLAIN_LINE_SECONDS = 60.0


class StudyDisplay:
    """Shows a study as it goes. ``clock`` is there for tests."""

    def __init__(
        self, console: Console, study: Study, num_at_once: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._study = study
        self._num_at_once = num_at_once
        self._clock = clock
        self._started = self._last_line = clock()
        self._states: Sequence[RunState] = ()
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=2)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def changed(self, state: RunState) -> None:
        """Without a terminal, a line; with one, only failures are printed."""
        if state.status is RunStatus.FAILED:
            self.note(f"{state.run.id} failed: {state.reason}")
        elif not self._console.is_terminal:
            again = " (resumed)" if state.status is RunStatus.RUNNING and state.is_resumed else ""
            self.note(f"{state.run.id} {_STARTED if state.status is RunStatus.RUNNING else state.status}{again}")

    def tick(self, states: Sequence[RunState]) -> None:
        self._states = states
        if not self._console.is_terminal and self._clock() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = self._clock()
            self.note(self._line())

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(visible(text)), soft_wrap=True)

    def _line(self) -> str:
        running = [f"{s.run.id} step {s.step}/{s.run.config.run.steps}" for s in self._states if _runs(s)]
        return " | ".join([self._progress(), *running])

    def _progress(self) -> str:
        counts = Counter(state.status for state in self._states)
        words = [
            f"{counts[s]} {s.value}" for s in (RunStatus.RUNNING, RunStatus.FAILED, RunStatus.STOPPED) if counts[s]
        ]
        done = f"{counts[RunStatus.FINISHED]} of {len(self._states)} runs finished"
        gone = self._clock() - self._started
        left = self.seconds_left
        ahead = "" if left is None else f", about {duration(round(left))} left"
        return f"{', '.join([done, *words])}; {duration(round(gone))} so far{ahead}"

    @property
    def seconds_left(self) -> float | None:
        """What is left at the pace so far, in steps; ``None`` before the first steps of this session."""
        ours = [state for state in self._states if not state.was_kept]
        done = sum(state.step for state in ours)
        left = sum(s.run.config.run.steps - s.step for s in ours if s.status in (RunStatus.WAITING, RunStatus.RUNNING))
        return (self._clock() - self._started) / done * left if done else None

    def _view(self) -> RenderableType:
        table = Table(title=visible(self._study.title), title_style="bold", title_justify="left", header_style="dim")
        table.add_column("arm")
        table.add_column("done", justify="right", no_wrap=True)
        table.add_column("running", no_wrap=True)
        table.add_column("accuracy while training", no_wrap=True)
        table.add_column("failed", style=WORSE)
        for cell in self._study.cells:
            table.add_row(*self._row(cell))
        return Group(table, Text(f"{self._progress()}; {self._num_at_once} at once"))

    def _row(self, cell: Cell) -> tuple[str, ...]:
        states = [state for state in self._states if state.run.cell == cell]
        finished = sum(state.status is RunStatus.FINISHED for state in states)
        running = [f"seed {s.run.seed}: {s.step}/{s.run.config.run.steps}" for s in states if _runs(s)]
        accuracy = [state.latest["accuracy"] for state in states if "accuracy" in state.latest]
        failed = [f"seed {state.run.seed}" for state in states if state.status is RunStatus.FAILED]
        latest = percent(round(fmean(accuracy), 3)) if accuracy else ""
        return visible(cell.title), f"{finished}/{len(states)}", "\n".join(running), latest, ", ".join(failed)


_STARTED = "started"


def _runs(state: RunState) -> bool:
    return state.status is RunStatus.RUNNING
