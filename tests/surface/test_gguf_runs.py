"""A GGUF file as the policy of the commands, from the check to the measured model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.surface.test_stories_runs import EXACT, stories
from tests.tiny_gguf import make_llama, write_gguf

pytest.importorskip("gguf")

Scope = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_gguf(tmp_path / "tiny.gguf", make_llama(), quantisation="Q8_0")


def test_a_file_is_trained_and_what_comes_of_it_is_a_folder_like_any_other(file: Path, scope: Scope) -> None:
    upper = ("--set", "model.train_layers=1", "--set", "run.steps=1", "--set", "run.num_threads=auto")
    ended = scope("train", *stories(file, *EXACT), *upper, "--out", "run")
    assert ended.code == 0, ended.err
    assert f"policy {file} (the upper 1 layers train)" in " ".join(ended.out.split())
    assert "threads   1 thread(s): the same small work took 1 " in ended.out or "threads   2" in ended.out
    measured = scope("eval", "run", "--num-problems", "2", "--samples", "1", "--max-tokens", "8", "--show", "1")
    assert measured.code == 0, measured.err
    said = " ".join(measured.out.split())
    assert "stories.test.6" in said or "stories.test.4" in said
    assert "wrong (truncated)" in said


def test_a_truncated_file_ends_the_command_before_anything_is_written(file: Path, scope: Scope) -> None:
    file.write_bytes(file.read_bytes()[:5000])
    ended = scope("train", *stories(file, *EXACT), "--out", "run")
    assert ended.code == 2
    assert "tiny.gguf is no whole GGUF file" in " ".join(ended.err.split())
    assert not Path("run").exists()
