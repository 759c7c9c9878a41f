"""Checkpoints: only one that is complete and as it was written is gone on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.checkpoints import (
    CHECKPOINT_MARKER,
    damage_of,
    last_sound_checkpoint,
    mark_complete,
    set_aside_after,
)


def checkpoint(folder: Path, step: int, *, complete: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "shards").mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(b"momentum" * 100)
    (path / "rng_state.pth").write_bytes(b"dice")
    (path / "shards" / "part-1").write_bytes(b"weights")
    if complete:
        mark_complete(path)
    return path


def ignore(_: str) -> None:
    pass


def test_the_marker_names_every_file_with_its_size_and_its_digest(tmp_path: Path) -> None:
    marker = json.loads((checkpoint(tmp_path, 1) / CHECKPOINT_MARKER).read_text())
    assert marker["schema"] == 1
    assert {name: file["bytes"] for name, file in marker["files"].items()} == {
        "optimizer.pt": 800,
        "rng_state.pth": 4,
        "shards/part-1": 7,
    }
    # sha256sum of "dice"
    assert marker["files"]["rng_state.pth"]["sha256"].startswith("e1e025805cd6")


@pytest.mark.parametrize(
    ("name", "content", "damage"),
    [
        ("optimizer.pt", None, "optimizer.pt is missing"),
        ("shards/part-1", None, "shards/part-1 is missing"),
        ("optimizer.pt", b"momentum" * 99, "optimizer.pt has 792 bytes, and had 800"),
        ("rng_state.pth", b"Dice", "rng_state.pth has changed since it was written"),
        (CHECKPOINT_MARKER, b'{"files": ', "COMPLETE cannot be read"),
        (CHECKPOINT_MARKER, b'{"files": {"optimizer.pt": 3}}', "COMPLETE cannot be read"),
        (CHECKPOINT_MARKER, b"", ""),
        (CHECKPOINT_MARKER, b'{"schema": 1, "files": {}}', ""),
    ],
)
def test_damage_is_found_and_named(tmp_path: Path, name: str, content: bytes | None, damage: str) -> None:
    path = checkpoint(tmp_path, 1)
    assert damage_of(path) == ""
    if content is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(content)
    assert damage_of(path) == damage


def test_the_one_before_a_damaged_checkpoint_is_used_and_that_is_said(tmp_path: Path) -> None:
    sound, damaged = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 11, complete=False)
    assert last_sound_checkpoint(tmp_path, pytest.fail) == damaged
    (damaged / "rng_state.pth").unlink()
    said: list[str] = []
    assert last_sound_checkpoint(tmp_path, said.append) == sound
    assert said == ["checkpoint-10 is damaged: rng_state.pth is missing"]


def test_where_all_are_damaged_nothing_is_begun_again_unasked(tmp_path: Path) -> None:
    assert last_sound_checkpoint(tmp_path, pytest.fail) is None
    checkpoint(tmp_path, 1, complete=False)
    assert last_sound_checkpoint(tmp_path, pytest.fail) is None
    for step in (2, 4):
        (checkpoint(tmp_path, step) / "optimizer.pt").unlink()
    with pytest.raises(UserError, match=r"no checkpoint in .* can be used: checkpoint-4 is damaged: .*checkpoint-2"):
        last_sound_checkpoint(tmp_path, ignore)


def test_what_is_done_again_finds_no_checkpoint_in_its_way(tmp_path: Path) -> None:
    checkpoint(tmp_path, 2)
    damaged = checkpoint(tmp_path, 4)
    (damaged / "optimizer.pt").unlink()
    checkpoint(tmp_path, 6, complete=False)
    set_aside_after(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", "damaged-checkpoint-4"}
    assert (tmp_path / "damaged-checkpoint-4" / "shards" / "part-1").read_bytes() == b"weights"
    # A second one of the same step takes the place of the first.
    checkpoint(tmp_path, 4)
    set_aside_after(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", "damaged-checkpoint-4"}
