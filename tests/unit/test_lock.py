"""The lock on a folder, in one process: who has it, and what happens where there can be none."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.lock import locked


def test_a_second_lock_is_refused_with_the_holder_and_leaves_the_first(tmp_path: Path) -> None:
    with locked(tmp_path):
        for _ in range(2):
            with (
                pytest.raises(UserError, match=f"is being written by process {os.getpid()} on .*, since 2"),
                locked(tmp_path),
            ):
                pass
    with locked(tmp_path):
        pass


def test_an_error_in_the_block_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_has_not_said_who_it_is_yet(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is being written by another process; wait"), locked(tmp_path):
            pass


def test_what_a_killed_process_left_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"pid": 1, "host": "gone", "since": "2026-01-01 00:00:00"}')
    with locked(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / ".lock").read_text()


def test_a_file_system_without_locks_is_said_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        assert (tmp_path / ".lock").is_file()
    assert f"{tmp_path}: no locks on this file system" in caplog.text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(UserError, match=r"the folder .*file/below cannot be written: Not a directory"),
        locked(tmp_path / "file" / "below"),
    ):
        pass
