"""Going on with a run: with what it began with, alone, and to its very end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.store.journal import read_records
from scope_rlvr.store.lock import locked
from scope_rlvr.store.rollouts import Rollouts
from tests.journals import rollout_bytes
from tests.surface.test_cli import assert_refused, contents, start, steps_of_growing
from tests.waiting import PATIENCE_SECONDS, wait_until

Scope = Callable[..., Any]
Small = Callable[..., list[str]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps with checkpoints at two and four."""
    from tests.surface.conftest import run_scope, settings

    folder = tmp_path_factory.mktemp("runs") / "whole"
    ended = run_scope("train", "--steps", "4", "--out", folder, *settings("run.checkpoint_every=2"))
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def half(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same run as it was after two steps, in the folder ``run``."""
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    shutil.rmtree(run / "model")
    for name in ("summary.json", "report.html"):
        (run / name).unlink()
    return run


def edit(run: Path, before: str, after: str) -> None:
    file = run / "config.toml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


# --- the configuration ------------------------------------------------------------------------------------------------


def test_every_changed_key_is_listed_and_refused(half: Path, scope: Scope) -> None:
    edit(half, "learning_rate = 0.00015", "learning_rate = 0.01")
    edit(half, "steps = 4", "steps = 8")
    before = contents(half)
    ended = scope("train", "--resume", "run")
    assert_refused(
        ended,
        "optimizer.learning_rate was 0.00015 when the run began and is 0.01 now",
        "run.steps was 4 when the run began and is 8 now",
        "run/config.toml",
    )
    assert ended.err.count("when the run began") == 2
    assert contents(half) == before


def test_a_key_that_is_taken_out_or_put_in_has_changed(half: Path, scope: Scope) -> None:
    with (half / "config.toml").open("a") as file:
        file.write("\n[model.lora]\nrank = 4\n")
    assert_refused(scope("train", "--resume", "run"), "model.lora.rank was not set when the run began and is 4 now")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--set", "run.steps=9"], "run.steps was 4 when the run began and is 9 now"),
        (["--steps", "9"], "run.steps was 4 when the run began and is 9 now"),
        (["--eval-every", "1"], "evaluation.every was 0 when the run began and is 1 now"),
        (["--method", "grpo"], "method.name was 'scope' when the run began and is 'grpo' now"),
        (["--set", "run.num_threads=2"], "run.num_threads was 1"),
        (["other.toml"], "run.seed was 0 when the run began and is 3 now"),
        (["--out", "other"], "--out is for a new run"),
    ],
)
def test_other_arguments_are_compared_with_what_the_run_began_with(
    arguments: list[str], part: str, half: Path, scope: Scope
) -> None:
    edited = (half / "config.toml").read_text().replace("seed = 0", "seed = 3")
    (half.parent / "other.toml").write_text(edited)
    before = contents(half)
    assert_refused(scope("train", "--resume", "run", *arguments), "no other argument", part)
    assert contents(half) == before


def test_what_only_says_where_and_how_may_change_and_is_said(half: Path, whole: Path, scope: Scope) -> None:
    edit(half, "flat_steps_limit = 30", "flat_steps_limit = 31")
    (half.parent / "same.toml").write_text((half / "config.toml").read_text())
    ended = scope("train", "same.toml", "--resume", "run", "--set", "run.checkpoint_every=1")
    assert ended.code == 0, ended.err
    assert "changed   run.checkpoint_every was 2 when the run began and is 1 now" in ended.out
    assert "changed   run.flat_steps_limit was 30 when the run began and is 31 now" in ended.out
    assert {path.parent.name for path in (half / "checkpoints").glob("*/COMPLETE")} == {"checkpoint-3", "checkpoint-4"}
    # It computes what it would have computed without the changes.
    assert (half / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert rollout_bytes(half) == rollout_bytes(whole)


def test_with_smaller_micro_batches_the_same_problems_follow(half: Path, whole: Path, scope: Scope) -> None:
    ended = scope("train", "--resume", "run", "--set", "run.micro_batch_rows=4")
    assert ended.code == 0, ended.err

    def problems(run: Path) -> list[tuple[int, str]]:
        return sorted({(record["step"], record["problem"]) for record in Rollouts.of(run)})

    assert problems(half) == problems(whole)


def test_a_served_teacher_may_move(
    tmp_path: Path, scope: Scope, served_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.faulty_server import FaultyServer

    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(served_run, tmp_path / "run")
    (run / "summary.json").unlink()
    with FaultyServer("500", rate=0.0) as server:
        ended = scope("train", "--resume", "run", "--set", f"teacher.model={server.url}")
    assert ended.code == 0, ended.err
    assert f"and is {server.url!r} now" in ended.out
    assert_refused(scope("train", "--resume", "run", "--set", "teacher.name=another"), "teacher.name was")


def test_other_problems_are_refused(
    tmp_path: Path, scope: Scope, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"reduce {i} {i + 1} 3\n\n", "answer": str((2 * i + 4) % 13)} for i in range(9)]
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = small("problems.source=mine.jsonl", "evaluation.before=false", "method.name=grpo")
    assert scope("train", "--steps", "1", "--out", "run", *overrides).code == 0
    (tmp_path / "run" / "summary.json").unlink()
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    assert_refused(scope("train", "--resume", "run"), "the problems that run trains on", "not those that it began with")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert scope("train", "--resume", "run").code == 0


def test_another_version_is_said(half: Path, scope: Scope) -> None:
    file = half / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"torch": "1.0"}))
    ended = scope("train", "--resume", "run")
    assert ended.code == 0, ended.err
    assert "warning   torch was 1.0 when the run began and is " in ended.out


# --- damaged checkpoints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "method.json"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    half: Path, whole: Path, name: str, scope: Scope
) -> None:
    shutil.copytree(whole / "checkpoints" / "checkpoint-4", half / "checkpoints" / "checkpoint-4")
    (half / "checkpoints" / "checkpoint-4" / name).unlink()
    ended = scope("train", "--resume", "run")
    assert ended.code == 0, ended.err
    assert f"warning   checkpoint-4 is damaged: {name} is missing; an earlier one is used" in ended.out
    assert "resume    from step 2" in ended.out
    assert (half / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()
    assert rollout_bytes(half) == rollout_bytes(whole)
    assert (half / "checkpoints" / "damaged-checkpoint-4").is_dir()


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(half: Path, scope: Scope) -> None:
    with (half / "checkpoints" / "checkpoint-2" / "optimizer.pt").open("r+b") as file:
        file.truncate(100)
    before = contents(half)
    assert_refused(scope("train", "--resume", "run"), "checkpoint-2 is damaged: optimizer.pt has 100 bytes")
    assert contents(half) == before


# --- one process at a time --------------------------------------------------------------------------------------------


def test_a_folder_that_is_being_written_is_left_alone_until_its_process_is_gone(
    tmp_path: Path, scope: Scope, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    process = start("train", "--steps", "40", "--out", "run", *small("run.checkpoint_every=2"), cwd=tmp_path)
    try:
        wait_until(lambda: len(steps_of_growing(run)) >= 2, "the run gets going", process)
        holder = f"run is being written by process {process.pid} on {socket.gethostname()}, since 2"
        assert_refused(scope("train", "--resume", "run"), holder, f"kill {process.pid}")
        process.send_signal(signal.SIGSTOP)
        before = contents(run)
        assert_refused(scope("train", "--resume", "run"), holder)
        assert contents(run) == before
    finally:
        process.kill()
    process.wait()
    # Nobody cleans up after a process that is killed; the system gives the lock back.
    assert (run / ".lock").is_file()
    ended = scope("train", "--resume", "run")
    assert ended.code == 0, ended.err
    assert [record["step"] for record in read_records(run / "metrics.jsonl")] == list(range(1, 41))
    assert not (run / ".lock").exists()


def test_of_processes_that_want_a_lock_at_once_one_has_it_at_a_time(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from scope_rlvr.core.errors import UserError
from scope_rlvr.store.lock import locked
folder, done = Path(sys.argv[1]), 0
while done < 20:
    try:
        with locked(folder):
            (folder / "inside").mkdir()
            time.sleep(0.001)
            (folder / "inside").rmdir()
            done += 1
    except UserError as error:
        assert "is being written by" in str(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, err
    assert list((tmp_path / "run").iterdir()) == []


def test_a_new_run_takes_a_folder_where_another_was_killed_before_it_began(
    tmp_path: Path, scope: Scope, small: Small
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").write_text('{"pid": 1}')
    (run / ".config.toml.5f0c93a1.tmp").write_text("[run]\nste")
    assert scope("train", "--steps", "1", "--out", run, *small("method.name=grpo")).code == 0


def test_a_new_run_leaves_a_folder_alone_that_another_process_makes(tmp_path: Path, scope: Scope, small: Small) -> None:
    run = tmp_path / "run"
    with locked(run):
        assert_refused(scope("train", "--steps", "1", "--out", run, *small()), f"process {os.getpid()}")
        assert [path.name for path in run.iterdir()] == [".lock"]


# --- to the very end --------------------------------------------------------------------------------------------------


def test_a_run_killed_before_its_report_is_completed(tmp_path: Path, scope: Scope, small: Small) -> None:
    program = """
import os, signal
import scope_rlvr.report
scope_rlvr.report.write_report = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from scope_rlvr.cli.main import main
main()
"""
    run = tmp_path / "run"
    command = [sys.executable, "-c", program, "train", "--steps", "1", "--out", str(run), *small("method.name=grpo")]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (run / "report.html").exists()
    before = contents(run / "model") | contents(run / "checkpoints")
    summary = (run / "summary.json").read_bytes()
    ended = scope("train", "--resume", run)
    assert ended.code == 0, ended.err
    assert "everything is done but the report" in ended.out
    assert (run / "report.html").is_file()
    assert contents(run / "model") | contents(run / "checkpoints") == before
    assert (run / "summary.json").read_bytes() == summary
    assert_refused(scope("train", "--resume", run), "nothing left to resume")


def test_the_report_of_an_earlier_part_of_a_run_is_no_report_of_its_end(
    whole: Path, tmp_path: Path, scope: Scope
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / "report.html").write_text("what an interrupted part of the run wrote")
    os.utime(run / "report.html", (1, 1))
    assert scope("train", "--resume", run).code == 0
    assert "<html" in (run / "report.html").read_text()
