"""A run folder as a report finds it: finished, still growing, interrupted, or with half a line at its end.

Nothing here changes a run. What cannot be read is left out and said in a note; only a folder without anything to show
is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.journal import Line, read_lines
from scope_rlvr.store.rollouts import Rollouts, rollout_files
from scope_rlvr.store.toml import parse_toml

RUNNING = "running"
"""What the summary of a run gives as the reason of its end while it has none."""


class ReportError(UserError):
    """A run cannot be shown; the message says why, and what to do about it."""


@dataclass(slots=True)
class JsonLines:
    """The objects of a ``.jsonl`` file, one at a time.

    A torn last line (the writer is in the middle of it, or died there) and unreadable lines are left out and noted.
    """

    path: Path
    unreadable: list[Line] = field(default_factory=list)
    has_torn_end: bool = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.unreadable, self.has_torn_end = [], False
        if not self.path.exists():
            return
        for line in read_lines(self.path):
            if not line.fault:
                yield line.value
            elif line.has_line_break:
                self.unreadable.append(line)
            else:
                self.has_torn_end = True

    def notes(self) -> list[str]:
        """What was left out when the file was last read to its end."""
        notes = []
        if self.has_torn_end:
            notes.append(f"The last line of {self.path.name} was not written to its end; it is left out.")
        if self.unreadable:
            first = self.unreadable[0]
            notes.append(
                f"{len(self.unreadable)} lines of {self.path.name} are not JSON objects; they are left out. The first is line "
                f"{first.number}: {first.fault}."
            )
        return notes


@dataclass(frozen=True)
class RecordedRun:
    """All of a run folder but its rollouts, which are streamed. What is missing is empty or ``None``."""

    path: Path
    metrics: tuple[dict[str, float], ...]
    summary: dict[str, Any] | None
    config: dict[str, Any]
    environment: dict[str, Any]
    written: datetime | None
    notes: tuple[str, ...] = field(default=())

    @property
    def rollouts(self) -> Rollouts:
        return Rollouts.of(self.path)

    @property
    def has_ended(self) -> bool:
        """Whether the run itself said why it stopped."""
        return self.summary is not None and self.summary.get("stopped_because") != RUNNING

    @property
    def last_step(self) -> int:
        """The last step that left metrics, else what the summary says, else 0."""
        if self.metrics:
            return int(self.metrics[-1]["step"])
        return int((self.summary or {}).get("steps") or 0)

    def series(self, key: str) -> list[tuple[float, float]]:
        """The finite values of a metric with their steps; empty where it was never written."""
        return [(row["step"], row[key]) for row in self.metrics if key in row]

    def total(self, key: str) -> float:
        """The sum of a metric over all steps."""
        return math.fsum(value for _, value in self.series(key))


def read_run(run: Path) -> RecordedRun:
    """Read a run folder; raises ``ReportError`` when it is missing or has nothing to show yet."""
    if not run.is_dir():
        raise ReportError(f"there is no run folder at {run}; give the folder that a training run wrote (runs/<name>)")
    notes: list[str] = []
    metrics_file = JsonLines(run / "metrics.jsonl")
    metrics = _metrics(metrics_file)
    notes += metrics_file.notes()
    summary = _read(run / "summary.json", json.loads, notes)
    if not metrics and not summary and not any(file.stat().st_size for file in rollout_files(run)):
        raise ReportError(
            f"the run folder {run} has no metrics, no rollouts and no summary, so there is nothing to show; "
            "wait for the first training step to end, or check that this is the folder of a run"
        )
    data = RecordedRun(
        path=run,
        metrics=metrics,
        summary=summary,
        config=_read(run / "config.toml", parse_toml, notes) or {},
        environment=_read(run / "environment.json", json.loads, notes) or {},
        written=_last_written(run),
        notes=tuple(notes),
    )
    if data.has_ended:
        return data
    unfinished = "The run is still going, or it was interrupted: this is what it had written so far."
    return replace(data, notes=(unfinished, *notes))


def _metrics(lines: JsonLines) -> tuple[dict[str, float], ...]:
    """Finite numbers by step, ascending; where a step was written twice (a resumed run), the later line counts."""
    by_step: dict[float, dict[str, float]] = {}
    for row in lines:
        numbers = {
            key: float(value)
            for key, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        }
        if "step" in numbers:
            by_step[numbers["step"]] = numbers
    return tuple(by_step[step] for step in sorted(by_step))


def _read(path: Path, parse: Callable[[str], Any], notes: list[str]) -> dict[str, Any] | None:
    """A small file of the folder, ``None`` with a note when it is there but cannot be read."""
    if not path.exists():
        return None
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        notes.append(f"{path.name} could not be read ({error}); it is left out.")
        return None
    if not isinstance(value, dict):
        notes.append(f"{path.name} does not hold an object; it is left out.")
        return None
    return value


def _last_written(run: Path) -> datetime | None:
    files = [run / "metrics.jsonl", run / "summary.json", *rollout_files(run)]
    times = [file.stat().st_mtime for file in files if file.exists()]
    return datetime.fromtimestamp(max(times)).astimezone() if times else None


def method_name(run: RecordedRun) -> str:
    """The method of a run: from its summary, else from its configuration."""
    named = (run.summary or {}).get("method") or run.config.get("method") or "unknown method"
    if isinstance(named, dict):
        named = named.get("kind") or named.get("name") or "unknown method"
    return str(named)
