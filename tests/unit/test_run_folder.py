"""The run folder: nothing finished is lost or overwritten, nothing torn is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.checkpoints import CHECKPOINT_MARKER, mark_complete
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.journal import read_records


def new(path: Path) -> RunFolder:
    return RunFolder.create(path / "run", "run.steps = 3\n")


def checkpoint(folder: RunFolder, step: int, *, complete: bool = True) -> Path:
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    if complete:
        (path / CHECKPOINT_MARKER).touch()
    return path


def test_a_new_folder_holds_its_configuration_and_environment(tmp_path):
    folder = new(tmp_path)
    assert (folder.path / "config.toml").read_text() == "run.steps = 3\n"
    environment = folder.read_json("environment.json")
    assert environment is not None
    assert {"python", "torch", "trl", "platform"} <= set(environment)
    assert RunFolder.open(folder.path) == folder


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "run").mkdir()
    assert new(tmp_path).path.is_dir()


def test_a_folder_that_holds_anything_is_refused_and_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes").write_text("mine")
    with pytest.raises(UserError, match=r"not empty.*--resume"):
        new(tmp_path)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["notes"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        new(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder.create(tmp_path / "run" / "below", "")


def test_only_a_run_can_be_opened(tmp_path):
    with pytest.raises(UserError, match=r"no config\.toml"):
        RunFolder.open(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    folder = new(tmp_path)
    folder.write("summary.json", "first")
    with pytest.raises(UnicodeEncodeError):
        folder.write("summary.json", "second \ud800")
    assert (folder.path / "summary.json").read_text() == "first"


def test_a_missing_file_reads_as_nothing(tmp_path):
    assert new(tmp_path).read_json("summary.json") is None


def test_journals_are_appended_line_by_line(tmp_path):
    folder = new(tmp_path)
    folder.append(folder.metrics, [{"step": 1, "text": "é\u2028\n"}])
    folder.append(folder.metrics, [{"step": 2}, {"step": 3}])
    assert list(read_records(folder.metrics)) == [{"step": 1, "text": "é\u2028\n"}, {"step": 2}, {"step": 3}]


@pytest.mark.parametrize("torn", ['{"st', '{"step": 3, "text": "é', '{"step": 3'])
def test_a_torn_last_line_is_left_out(tmp_path, torn):
    folder = new(tmp_path)
    folder.append(folder.metrics, [{"step": 1}, {"step": 2}])
    with folder.metrics.open("ab") as file:
        file.write(torn.encode()[: -1 if torn.endswith("é") else None])
    assert list(read_records(folder.metrics)) == [{"step": 1}, {"step": 2}]


def test_steps_that_will_be_done_again_are_forgotten_with_the_torn_line(tmp_path):
    folder = new(tmp_path)
    for step in (1, 2, 3):
        folder.append(folder.metrics, [{"step": step, "row": row} for row in (0, 1)])
        folder.append_rollouts(step, [{"step": step, "problem": "a", "segments": []}])
    for journal in (folder.metrics, folder.rollouts.files[-1]):
        with journal.open("a") as file:
            file.write('{"step": 4, "ro')
    folder.forget_after(2)
    folder.append(folder.metrics, [{"step": 3, "row": 9}])
    expected = [{"step": step, "row": row} for step in (1, 2) for row in (0, 1)]
    assert list(read_records(folder.metrics)) == [*expected, {"step": 3, "row": 9}]
    assert [record["step"] for record in folder.rollouts] == [1, 2]
    folder.forget_after(0)
    assert folder.rollouts.files == ()


def test_a_folder_for_reading_is_not_written(tmp_path):
    folder = replace(new(tmp_path), is_read_only=True)
    before = sorted(folder.path.iterdir())
    folder.append(folder.metrics, [{"step": 1}])
    folder.append_rollouts(1, [{"step": 1, "problem": "a", "segments": []}])
    folder.forget_after(0)
    assert sorted(folder.path.iterdir()) == before


def test_a_last_line_that_lacks_only_its_line_break_is_kept_apart_from_the_next(tmp_path):
    folder = new(tmp_path)
    folder.metrics.write_text('{"step": 1}\n{"step": 2}')
    folder.forget_after(2)
    folder.append(folder.metrics, [{"step": 3}])
    assert [record["step"] for record in read_records(folder.metrics)] == [1, 2, 3]


def test_forgetting_without_journals_does_nothing(tmp_path):
    folder = new(tmp_path)
    folder.forget_after(0)
    assert not folder.metrics.exists()


def test_the_last_checkpoint_is_the_newest_that_was_written_to_its_end(tmp_path):
    folder = new(tmp_path)
    assert folder.last_checkpoint() is None
    checkpoint(folder, 9)
    newest = checkpoint(folder, 10)
    checkpoint(folder, 11, complete=False)
    assert folder.last_checkpoint() == newest


def test_json_files_are_readable_by_others(tmp_path):
    folder = new(tmp_path)
    folder.write_json("summary.json", {"b": 1, "a": [1.5]})
    assert json.loads((folder.path / "summary.json").read_text()) == {"a": [1.5], "b": 1}


def test_the_two_newest_checkpoints_are_kept_and_a_kill_leaves_no_half_one(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("whole")
        if step == 4:
            # As a kill in the middle of a removal leaves one: without its marker.
            (tmp_path / "checkpoint-2" / "COMPLETE").unlink()
        mark_complete(tmp_path / f"checkpoint-{step}")
        complete = sorted(marker.parent.name for marker in tmp_path.glob("*/COMPLETE"))
        assert complete[-1] == f"checkpoint-{step}"
        assert len(complete) <= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-4"]
