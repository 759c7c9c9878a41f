"""The rollouts of a run: in blocks or as lines, any of them at once, and whatever happened to the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import scope_rlvr.store.rollouts
from scope_rlvr.store import blocks
from scope_rlvr.store.blocks import Block, Gap, read_blocks
from scope_rlvr.store.journal import append_records, encoded
from scope_rlvr.store.packing import JoinedText
from scope_rlvr.store.rollouts import Rollouts, append_rollouts, cut_rollouts_after, rollout_files

Write = Callable[[Path, int, list[dict[str, Any]]], None]


def record(step: int, problem: str, row: int) -> dict[str, Any]:
    pieces = ["take ", str(row), "\ud83d", "\n\n"] * (row + 1)
    return {
        "schema": 1,
        "step": step,
        "group": 0,
        "group_class": "all wrong",
        "problem": problem,
        "level": None,
        "prompt": "\u2028 add",
        "reference": "7",
        "role": "sampled",
        "verdict": {"outcome": "wrong", "answer": None, "reason": "no answer"},
        "segments": [{"origin": "policy", "text": JoinedText.of(pieces), "token_ids": list(range(len(pieces)))}],
        "salvage": None,
    }


def of_step(step: int) -> list[dict[str, Any]]:
    """Two rollouts of a problem that comes in every step, and three of one of its own."""
    return [record(step, "often", row) for row in range(2)] + [record(step, f'own "{step}"', row) for row in range(3)]


def append_plain(run: Path, step: int, records: list[dict[str, Any]]) -> None:
    append_records(run / "rollouts.jsonl", records)


@pytest.fixture(params=[append_rollouts, append_plain], ids=["blocks", "lines"])
def write(request: pytest.FixtureRequest) -> Write:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def run(tmp_path: Path, write: Write) -> Path:
    for step in (1, 2, 3):
        write(tmp_path, step, of_step(step))
    return tmp_path


def lines(records: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> list[bytes]:
    return [encoded(one) for one in records]


ALL = [one for step in (1, 2, 3) for one in of_step(step)]


def test_what_was_written_is_read_in_its_order(run: Path) -> None:
    rollouts = Rollouts.of(run)
    assert lines(iter(rollouts)) == lines(ALL)
    assert len(rollouts) == 15
    assert rollouts.notes() == []


def test_heads_have_everything_but_tokens(run: Path) -> None:
    heads = list(Rollouts.of(run).heads())
    assert [number for number, _ in heads] == list(range(15))
    assert [{**head, "segments": None} for _, head in heads] == [{**one, "segments": None} for one in ALL]


def test_any_rollout_step_or_problem_is_read_at_once(run: Path) -> None:
    rollouts = Rollouts.of(run)
    assert rollouts.steps == [1, 2, 3]
    assert [number for number, _ in rollouts.records(2)] == [5, 6, 7, 8, 9]
    assert lines([one for _, one in rollouts.records(2)]) == lines(of_step(2))
    assert lines([rollouts.record(14), rollouts.record(0)]) == lines([ALL[14], ALL[0]])
    assert [number for number, _ in rollouts.of_problem("often")] == [0, 1, 5, 6, 10, 11]
    assert [number for number, _ in rollouts.of_problem('own "3"')] == [12, 13, 14]
    assert list(rollouts.of_problem("none")) == []
    for number in (-1, 15):
        with pytest.raises(IndexError, match="there are 15"):
            rollouts.record(number)


def test_a_reader_looks_at_one_block_to_find_a_rollout(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        append_rollouts(tmp_path, step, of_step(step))
    rollouts = Rollouts.of(tmp_path)
    with patch.object(Block, "read", autospec=True, side_effect=Block.read) as read:
        rollouts.record(7)
        rollouts.record(9)
        assert [call.args[0].step for call in read.call_args_list] == [2]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 9])
def test_steps_that_are_done_again_are_cut_off(run: Path, step: int, write: Write) -> None:
    before = [file.stat().st_ino for file in rollout_files(run)]
    cut_rollouts_after(run, step)
    assert lines(iter(Rollouts.of(run))) == lines([one for one in ALL if one["step"] <= step])
    if step:
        assert [file.stat().st_ino for file in rollout_files(run)] == before
    write(run, step + 1, of_step(step + 1))
    assert Rollouts.of(run).steps == [*range(1, min(step, 3) + 1), step + 1]


def test_a_run_that_is_cut_and_goes_on_leaves_the_same_bytes(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder in (whole, resumed):
        folder.mkdir()
    with patch.object(scope_rlvr.store.rollouts, "_MAX_FILE_BYTES", 900):
        for step in range(1, 7):
            append_rollouts(whole, step, of_step(step))
            append_rollouts(resumed, step, of_step(step))
        for last in (0, 2, 4):
            cut_rollouts_after(resumed, last)
            for step in range(last + 1, 7):
                append_rollouts(resumed, step, of_step(step))
    assert len(rollout_files(whole)) > 2
    assert [(f.name, f.read_bytes()) for f in rollout_files(whole)] == [
        (f.name, f.read_bytes()) for f in rollout_files(resumed)
    ]


def test_a_run_that_was_begun_in_lines_goes_on_in_blocks(tmp_path: Path) -> None:
    append_plain(tmp_path, 1, of_step(1))
    append_plain(tmp_path, 2, of_step(2)[:2])
    cut_rollouts_after(tmp_path, 1)
    append_rollouts(tmp_path, 2, of_step(2))
    rollouts = Rollouts.of(tmp_path)
    assert lines(iter(rollouts)) == lines([*of_step(1), *of_step(2)])
    assert lines([rollouts.record(4), rollouts.record(5)]) == lines([of_step(1)[4], of_step(2)[0]])


def test_a_large_step_is_several_blocks(tmp_path: Path) -> None:
    with patch.object(scope_rlvr.store.rollouts, "_MAX_BLOCK_TOKENS", 8):
        append_rollouts(tmp_path, 1, iter(of_step(1)))
    rollouts = Rollouts.of(tmp_path)
    assert [block.num_rollouts for block in rollouts.blocks] == [2, 2, 1]
    assert lines(iter(rollouts)) == lines(of_step(1))


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_file_that_was_cut_off_anywhere_reads_as_its_whole_blocks(tmp_path: Path) -> None:
    ends = []
    for step in (1, 2, 3):
        append_rollouts(tmp_path, step, of_step(step))
        (file,) = rollout_files(tmp_path)
        ends.append(file.stat().st_size)
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        rollouts = Rollouts.of(tmp_path)
        assert rollouts.steps == [step for step, end in zip((1, 2, 3), ends, strict=True) if end <= size]
        assert bool(rollouts.notes()) == (size not in (0, *ends))
    file.write_bytes(whole[: ends[1] + 30])
    assert Rollouts.of(tmp_path).notes() == [
        "The last rollouts of 00000001.zst were not written to their end; they are left out."
    ]
    cut_rollouts_after(tmp_path, 3)
    assert file.read_bytes() == whole[: ends[1]]


def test_damage_in_the_middle_costs_its_block_alone(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        append_rollouts(tmp_path, step, of_step(step))
    (file,) = rollout_files(tmp_path)
    second = Rollouts.of(tmp_path).blocks[1]
    whole = file.read_bytes()
    for at in range(second.offset, second.end):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        rollouts = Rollouts.of(tmp_path)
        read = list(rollouts)
        assert lines([one for one in read if one["step"] != 2]) == lines([*of_step(1), *of_step(3)])
        # A header has no checksum, so one that is still JSON may say another step; no rollout is ever another one.
        assert all(one["step"] != 2 or encoded(one) in lines(of_step(2)) for one in read)
        if at >= second.parts_offset:
            assert [one["step"] for one in read if one["step"] == 2] == []
            assert f"5 rollouts cannot be read and are left out: the block of step 2 at byte {second.offset}" in str(
                rollouts.notes()
            )


def test_a_block_in_the_place_of_another_thing_is_found_behind_it(tmp_path: Path) -> None:
    append_rollouts(tmp_path, 1, of_step(1))
    (file,) = rollout_files(tmp_path)
    first = file.read_bytes()
    file.write_bytes(b"what? " + blocks._MAGIC * 3 + first + b"end")
    found = list(read_blocks(file))
    assert [type(item) for item in found] == [Gap, Block, Gap]
    rollouts = Rollouts.of(tmp_path)
    assert lines(iter(rollouts)) == lines(of_step(1))
    assert rollouts.notes() == [
        "The last rollouts of 00000001.zst were not written to their end; they are left out.",
        "0 rollouts cannot be read and are left out: bytes 0 to 18 of 00000001.zst are no rollouts.",
    ]


def test_bad_lines_are_named_counted_and_left_out(tmp_path: Path) -> None:
    append_plain(tmp_path, 1, of_step(1))
    file = tmp_path / "rollouts.jsonl"
    good = file.read_bytes().splitlines(keepends=True)
    short = json.loads(good[1])
    del short["verdict"]
    file.write_bytes(
        b"".join(
            [b"no json\n", *good[:2], b"[1]\n\n", json.dumps(short).encode() + b"\n", *good[2:], b'{"schema": 99}\n']
        )
        + b'{"step": 2'
    )
    rollouts = Rollouts.of(tmp_path)
    assert lines([one for one in rollouts if one["schema"] == 1]) == lines(of_step(1))
    torn, notes = rollouts.notes()
    assert torn == "The last rollouts of rollouts.jsonl were not written to their end; they are left out."
    assert notes.startswith("3 rollouts cannot be read and are left out: line 1 of rollouts.jsonl: not JSON")
    assert "line 4 of rollouts.jsonl: expected an object, got list" in notes
    assert "verdict: field required" in notes


def test_a_run_without_rollouts_has_none(tmp_path: Path) -> None:
    rollouts = Rollouts.of(tmp_path)
    assert (list(rollouts), len(rollouts), rollouts.steps, rollouts.notes()) == ([], 0, [], [])
    cut_rollouts_after(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
