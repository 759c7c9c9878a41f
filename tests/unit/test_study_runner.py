"""The runner with processes that only pretend to train: order, failures, retries, interruptions."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from scope_rlvr.run.config import dump_config
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.study.display import StudyDisplay
from scope_rlvr.study.folder import StudyFolder
from scope_rlvr.study.plan import load_study
from scope_rlvr.study.runner import RunState, RunStatus, StudyRunner, worker_command
from tests.waiting import PATIENCE_SECONDS, wait_until

STUDY = """
name = "pretended"
seeds = [1, 2]
[base]
run.steps = 4
evaluation.num_problems = 2
[arms.scope]
method = "scope"
[arms.grpo]
method = "grpo"
"""

PRETENDER = """
import json, os, pathlib, signal, sys, time
arguments = sys.argv[1:]
is_resumed = arguments[1] == "--resume"
folder = pathlib.Path(arguments[2] if is_resumed else arguments[3])
name = folder.name
with open(os.environ["PRETENDER_LOG"], "a") as log:
    log.write(f"{'resume' if is_resumed else 'start'} {name}\\n")
if not is_resumed:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(pathlib.Path(arguments[1]).read_text())
def end(after, reason, code):
    summary = {"steps": 2 if after is None else 4, "stopped_because": reason, "seconds": 2.0, "before": None, "after": after,
               "salvage": {}, "tokens": {"sampled": 9, "teacher": 0, "continuation": 0}}
    (folder / "summary.json").write_text(json.dumps(summary))
    sys.exit(code)
for step in range(1, 5):
    with open(folder / "metrics.jsonl", "a") as journal:
        journal.write(json.dumps({"step": step, "accuracy": 0.5, "seconds/step": 0.5}) + "\\n")
"""


class Spy:
    """Looks on and remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, RunStatus]] = []
        self.most_at_once = 0

    def changed(self, state: RunState) -> None:
        self.events.append((state.run.id, state.status))

    def tick(self, states: Sequence[RunState]) -> None:
        self.most_at_once = max(self.most_at_once, sum(s.status is RunStatus.RUNNING for s in states))

    def note(self, text: str) -> None: ...


class Stage:
    """A study folder with a pretender whose last lines are written by the test."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "study.toml").write_text(STUDY)
        self.study = load_study(folder / "study.toml")
        self.folder = StudyFolder.at(folder / "out")
        self.log = folder / "log.txt"
        self.script = folder / "pretender.py"
        self.folder.open_for(self.study)
        monkeypatch.setenv("PRETENDER_LOG", str(self.log))

    def run(self, ending: str = "end({}, 'finished', 0)\n", num_at_once: int = 2) -> tuple[dict[str, RunState], Spy]:
        self.script.write_text(PRETENDER + ending)
        spy = Spy()
        runner = StudyRunner(
            self.study, self.folder, num_at_once, spy, lambda a: [sys.executable, str(self.script), *a]
        )
        return {state.run.id: state for state in runner.run()}, spy

    def called(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_every_run_is_done_once_and_kept(stage: Stage) -> None:
    states, spy = stage.run(num_at_once=1)
    order = ["scope-seed1", "grpo-seed1", "scope-seed2", "grpo-seed2"]
    assert stage.called() == [f"start {name}" for name in order]
    assert [name for name, status in spy.events if status is RunStatus.FINISHED] == order
    assert spy.most_at_once <= 1
    assert all(state.step == 4 and not state.was_kept for state in states.values())
    states, spy = stage.run()
    assert stage.called() == []
    assert spy.events == []
    assert all(state.status is RunStatus.FINISHED and state.was_kept for state in states.values())


def test_a_result_is_enough_without_its_run_and_a_run_without_its_result(stage: Stage) -> None:
    stage.run()
    stage.called()
    first, second = stage.study.runs[:2]
    for file in sorted(stage.folder.run(first).path.iterdir()):
        file.unlink()
    stage.folder.run(first).path.rmdir()
    stage.folder.result_file(second).unlink()
    states, _ = stage.run()
    assert stage.called() == []
    assert states[second.id].was_kept
    assert stage.folder.result_file(second).is_file()


def test_failures_stop_nobody_are_told_and_tried_again(stage: Stage) -> None:
    states, _ = stage.run(
        "if name == 'scope-seed1': sys.stderr.write('Traceback\\n  line\\nOops: no\\n'); sys.exit(1)\n"
        "if name == 'grpo-seed1': end(None, 'nothing could be learned', 5)\n"
        "if name == 'scope-seed2': os.kill(os.getpid(), signal.SIGKILL)\n"
        "end({}, 'finished', 0)\n"
    )
    assert {name: state.status for name, state in states.items()} == {
        "scope-seed1": RunStatus.FAILED,
        "grpo-seed1": RunStatus.FAILED,
        "scope-seed2": RunStatus.FAILED,
        "grpo-seed2": RunStatus.FINISHED,
    }
    assert states["scope-seed1"].reason == "exit code 1: Traceback\nline\nOops: no"
    assert states["grpo-seed1"].reason == "nothing could be learned"
    assert states["scope-seed2"].reason == "killed by SIGKILL"
    assert len(stage.called()) == 4
    states, _ = stage.run()
    assert sorted(stage.called()) == ["resume grpo-seed1", "resume scope-seed1", "resume scope-seed2"]
    assert all(state.status is RunStatus.FINISHED for state in states.values())


def test_a_run_that_says_it_is_done_and_is_not_has_failed(stage: Stage) -> None:
    states, _ = stage.run("sys.exit(0)\n")
    assert all(state.status is RunStatus.FAILED for state in states.values())
    assert "has not finished: no summary" in states["scope-seed1"].reason


def test_a_folder_that_was_never_filled_is_begun_anew(stage: Stage) -> None:
    path = stage.folder.run(stage.study.runs[0]).path
    path.mkdir(parents=True)
    (path / ".config.toml.tmp").write_text("torn")
    states, _ = stage.run()
    assert "start scope-seed1" in stage.called()
    assert states["scope-seed1"].status is RunStatus.FINISHED


def test_an_interruption_is_handed_on_and_nothing_new_begins(stage: Stage) -> None:
    stage.script.write_text(
        PRETENDER + "def stop(*_): end(None, 'interrupted by SIGINT', 130)\n"
        "signal.signal(signal.SIGINT, stop)\npathlib.Path(os.environ['PRETENDER_LOG'] + name).touch()\ntime.sleep(60)\n"
    )

    class Impatient(Spy):
        def tick(self, states: Sequence[RunState]) -> None:
            if all(Path(f"{stage.log}{seed}").exists() for seed in ("scope-seed1", "grpo-seed1")):
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    runner = StudyRunner(stage.study, stage.folder, 2, Impatient(), lambda a: [sys.executable, str(stage.script), *a])
    states = runner.run()
    assert [state.status for state in states] == [
        RunStatus.STOPPED,
        RunStatus.STOPPED,
        RunStatus.WAITING,
        RunStatus.WAITING,
    ]
    assert runner.interruptions
    assert signal.getsignal(signal.SIGINT) is before
    assert sorted(stage.called()) == ["start grpo-seed1", "start scope-seed1"]


def test_a_worker_ends_with_the_study(tmp_path: Path) -> None:
    arguments = ["train", "--out", str(tmp_path / "run"), "--set", "evaluation.num_problems=1"]
    process = subprocess.Popen(worker_command(arguments), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "run" / "config.toml").is_file, "the run folder")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=PATIENCE_SECONDS) == 130


def test_plain_lines_where_there_is_no_terminal(stage: Stage) -> None:
    text, now = io.StringIO(), [0.0]
    display = StudyDisplay(Console(file=text, width=200), stage.study, 2, clock=lambda: now[0])
    states = [RunState(run) for run in stage.study.runs]
    with display:
        states[0].status, states[0].step, states[0].latest = RunStatus.RUNNING, 1, {"accuracy": 0.25}
        display.changed(states[0])
        display.tick(states)
        now[0] = 61.0
        display.tick(states)
        states[0].status, states[0].reason = RunStatus.FAILED, "exit code 1: Oops"
        display.changed(states[0])
    lines = text.getvalue().splitlines()
    assert lines[0] == "scope-seed1 started"
    assert lines[1].startswith(
        "0 of 4 runs finished, 1 running; 1 min 1 s so far, about 15 min 15 s left | scope-seed1 step 1/4"
    )
    assert lines[2] == "scope-seed1 failed: exit code 1: Oops"


def test_one_table_in_a_terminal(stage: Stage) -> None:
    text = io.StringIO()
    display = StudyDisplay(Console(file=text, width=100, force_terminal=True), stage.study, 2)
    states = [RunState(run) for run in stage.study.runs]
    states[0].status, states[0].step, states[0].latest = RunStatus.RUNNING, 3, {"accuracy": 0.25}
    states[1].status = RunStatus.FAILED
    with display:
        display.tick(states)
    shown = text.getvalue()
    assert "seed 1: 3/4" in shown
    assert "25.0 %" in shown
    assert "0/2" in shown


def test_a_run_is_resumed_where_its_folder_holds_a_configuration(stage: Stage) -> None:
    run = stage.study.runs[0]
    RunFolder.create(stage.folder.run(run).path, dump_config(run.config))
    stage.run()
    assert "resume scope-seed1" in stage.called()
