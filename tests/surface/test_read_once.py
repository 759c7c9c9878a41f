"""Every problem of a run is read once, however many parts of the run look at it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.types import Problem
from scope_rlvr.problems import sources
from scope_rlvr.problems.reduction import Reduction
from tests.surface.conftest import settings

Scope = Callable[..., Any]
Small = Callable[..., list[str]]

TWO_SETS = "evaluation.sets=[{role='trained', level=6}, {role='out of distribution', level=9}]"
TEST_SETS = {(level, "test"): 1 for level in (6, 9)}
DEV_SETS = {(level, "dev"): 1 for level in (6, 9)}


@pytest.fixture
def small() -> Small:
    return lambda *overrides: settings(TWO_SETS, *overrides)


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, str]]:
    """How often problems of a level and a split were drawn from the family."""
    drawn: Counter[tuple[int, str]] = Counter()
    original = Reduction.sample

    def sample(self: Reduction, level: int, *args: Any, **kwargs: Any) -> list[Problem]:
        drawn[level, kwargs.get("split", "train")] += 1
        return original(self, level, *args, **kwargs)

    monkeypatch.setattr(Reduction, "sample", sample)
    return drawn


def test_a_run_reads_each_set_once(
    samples: Counter[tuple[int, str]], tmp_path: Path, scope: Scope, small: Small
) -> None:
    ended = scope("train", "--steps", "2", "--out", tmp_path / "run", *small())
    assert ended.code == 0, ended.err
    assert samples == {(5, "train"): 1} | TEST_SETS


def test_a_run_that_measures_on_the_way_reads_its_dev_sets_once_as_well(
    samples: Counter[tuple[int, str]], tmp_path: Path, scope: Scope, small: Small
) -> None:
    overrides = small("evaluation.before=false", "method.name=grpo")
    ended = scope("train", "--steps", "2", "--eval-every", "1", "--out", tmp_path / "run", *overrides)
    assert ended.code == 0, ended.err
    assert samples == {(5, "train"): 1} | TEST_SETS | DEV_SETS


def test_a_resumed_run_reads_each_set_once(
    samples: Counter[tuple[int, str]], tmp_path: Path, scope: Scope, small: Small
) -> None:
    run = tmp_path / "run"
    overrides = small("evaluation.before=false", "method.name=grpo")
    assert scope("train", "--steps", "2", "--out", run, *overrides).code == 0
    (run / "summary.json").unlink()
    samples.clear()
    ended = scope("train", "--resume", run)
    assert ended.code == 0, ended.err
    assert samples == {(5, "train"): 1} | TEST_SETS


def test_a_check_reads_each_set_once(samples: Counter[tuple[int, str]], scope: Scope, small: Small) -> None:
    ended = scope("check", *small())
    assert ended.code == 0, ended.out
    assert samples == {(5, "train"): 1} | TEST_SETS


def test_a_file_is_looked_at_once(tmp_path: Path, scope: Scope, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"reduce {i} {i + 1} 3\n\n", "answer": str((2 * i + 4) % 13)} for i in range(9)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    looked_at: list[Path] = []
    original = sources._fingerprint
    monkeypatch.setattr(sources, "_fingerprint", lambda path: looked_at.append(path) or original(path))
    ended = scope("train", "--steps", "1", "--out", tmp_path / "run", *small(f"problems.source='{file}'"))
    assert ended.code == 0, ended.err
    assert looked_at == [file]
