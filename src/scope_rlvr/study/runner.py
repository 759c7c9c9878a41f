"""Runs the runs of a study, each in a process of its own, some at once; a failure stops no other run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Protocol

from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.run.config import dump_config
from scope_rlvr.store.files import is_leftover, read_tail, write_text
from scope_rlvr.store.journal import last_record
from scope_rlvr.study.folder import StudyFolder
from scope_rlvr.study.plan import PlannedRun, Study
from scope_rlvr.study.results import condense, is_finished, write_result

_POLL_SECONDS = 0.2
_REASON_LINES = 3
_REASON_CHARS = 400
_LOG_TAIL_BYTES = 1 << 16


class RunStatus(StrEnum):
    """How far a run of a study is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass
class RunState:
    """A run as the study sees it. ``was_kept``: it had finished before."""

    run: PlannedRun
    status: RunStatus = RunStatus.WAITING
    step: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    was_kept: bool = False
    is_resumed: bool = False


class StudyMonitor(Protocol):
    """Receives the progress of a study while it runs."""

    def changed(self, state: RunState) -> None:
        """A run has begun or ended."""

    def tick(self, states: Sequence[RunState]) -> None:
        """Called several times a second with the states of all runs."""

    def note(self, text: str) -> None:
        """Something that a person should read."""


Command = Callable[[Sequence[str]], list[str]]
"""From the arguments of ``scope`` to a command line."""


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command line of a run."""
    return [sys.executable, "-m", "scope_rlvr.cli.study_worker", *arguments]


@dataclass
class StudyRunner:
    """Works through a study. ``run`` returns the states in which the runs were left."""

    study: Study
    folder: StudyFolder
    num_at_once: int
    monitor: StudyMonitor
    command: Command = worker_command
    interruptions: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self) -> list[RunState]:
        """Do what is left to do; after an interruption, wait until what is running has saved itself."""
        states = [self._found(run) for run in self.study.runs]
        waiting = [state for state in states if state.status is RunStatus.WAITING]
        running: list[RunState] = []
        try:
            with self._interruptible():
                while running or (waiting and not self.interruptions):
                    while waiting and len(running) < self.num_at_once and not self.interruptions:
                        running.append(waiting.pop(0))
                        self._start(running[-1])
                    running = [state for state in running if not self._has_ended(state)]
                    self.monitor.tick(states)
                    time.sleep(_POLL_SECONDS)
        finally:
            for process in self.processes.values():
                process.kill()
        return states

    def _found(self, run: PlannedRun) -> RunState:
        """A run as the folder has it: with a result, finished without one, or still to be done."""
        state = RunState(run)
        if self.folder.result_file(run).is_file():
            state.status, state.was_kept, state.step = RunStatus.FINISHED, True, run.config.run.steps
        elif is_finished(self.folder.run(run), run.config):
            self._finish(state)
            state.was_kept = True
        return state

    def _start(self, state: RunState) -> None:
        run = state.run
        folder, config = self.folder.run(run), self.folder.config(run)
        if (folder.path / "config.toml").is_file():
            arguments = ["train", "--resume", str(folder.path)]
            state.is_resumed = True
        else:
            _remove_empty(folder.path)
            write_text(config, dump_config(run.config))
            arguments = ["train", str(config), "--out", str(folder.path)]
        with self.folder.log(run, "out").open("wb") as out, self.folder.log(run, "err").open("wb") as err:
            self.processes[run.id] = subprocess.Popen(
                self.command(arguments),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=_environment(run.config.run.threads),
                # Ctrl-C in a terminal reaches this process alone, which hands it on once.
                start_new_session=True,
            )
        state.status = RunStatus.RUNNING
        self.monitor.changed(state)

    def _has_ended(self, state: RunState) -> bool:
        process = self.processes[state.run.id]
        code = process.poll()
        state.latest = last_record(self.folder.run(state.run).metrics) or state.latest
        state.step = int(state.latest.get("step", 0))
        if code is None:
            return False
        if process.stdin is not None:
            process.stdin.close()
        del self.processes[state.run.id]
        if code == ExitCode.OK:
            self._finish(state)
        elif code == ExitCode.INTERRUPTED or self.interruptions:
            state.status, state.reason = RunStatus.STOPPED, "interrupted"
        else:
            state.status, state.reason = RunStatus.FAILED, self._reason(state.run, code)
        self.monitor.changed(state)
        return True

    def _finish(self, state: RunState) -> None:
        """Write the result of a run that says that it has finished."""
        run = state.run
        try:
            result = condense(run, self.folder.run(run), self.study.name, self.num_at_once)
            write_result(result, self.folder.result_file(run))
        except (UserError, OSError, KeyError) as error:
            state.status, state.reason = RunStatus.FAILED, f"its result cannot be read or written: {error}"
            return
        state.status, state.step = RunStatus.FINISHED, result.steps

    def _reason(self, run: PlannedRun, code: int) -> str:
        """Why a run failed, in its own words."""
        summary = self.folder.run(run).read_json("summary.json")
        if code == ExitCode.TRAINING_STOPPED and summary is not None:
            return str(summary["stopped_because"])
        lines = [
            line.strip()
            for line in read_tail(self.folder.log(run, "err"), _LOG_TAIL_BYTES).splitlines()
            if line.strip()
        ]
        said = "\n".join(lines[-_REASON_LINES:])[-_REASON_CHARS:]
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{how}: {said}" if said else how

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Every Ctrl-C (or SIGTERM) is handed on to the runs; the third one ends them by force."""

        def hand_on(number: int, _: FrameType | None) -> None:
            self.interruptions += 1
            for process in self.processes.values():
                if self.interruptions > 2:
                    process.kill()
                else:
                    process.send_signal(signal.SIGINT)

        before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _environment(num_threads: int) -> dict[str, str]:
    """Processes beside each other: no threads that spin while they wait, and no more than each was given."""
    return os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(num_threads)}


def _remove_empty(path: Path) -> None:
    """Take away what a process left that was killed before it had written a configuration."""
    if path.is_dir() and all(map(is_leftover, path.iterdir())):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
