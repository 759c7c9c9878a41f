"""Other verifiers than the family's own in real runs: training, evaluation, and what is written about them."""

from __future__ import annotations

import gc
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from scope_rlvr.store.rollouts import Rollouts

Scope = Callable[..., Any]
Small = Callable[..., list[str]]
FUNCTION = "tests.unit.grading_functions:last_line_is_right"


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_a_run_is_paid_by_a_function_of_ones_own(tmp_path: Path, scope: Scope, small: Small) -> None:
    overrides = small(
        "verifier.kind=function", f"verifier.path={FUNCTION}", "verifier.workers=1", "evaluation.before=false"
    )
    before = children()
    ended = scope("train", "--out", tmp_path / "run", "--steps", "2", "--method", "grpo", *overrides)
    assert ended.code == 0, ended.err
    gc.collect()
    assert children() <= before, "a run that is forgotten leaves no process"
    written = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["verifier"]
    assert written["path"] == FUNCTION
    lines = list(Rollouts.of(tmp_path / "run"))
    judged = [line for line in lines if not line["is_truncated"]]
    assert judged
    for line in judged:
        response = "".join(segment["text"] for segment in line["segments"])
        last = response.strip().splitlines()[-1]
        expected = "unknown" if last.endswith("4") else "right" if last == f"answer {line['reference']}" else "wrong"
        assert line["verdict"]["outcome"] == expected
        assert line["verdict"]["reason"].startswith("function_")


def test_an_evaluation_takes_the_kind_it_is_given(tmp_path: Path, scope: Scope) -> None:
    few = ("embedded:policy", "--problems", "reduction:4", "--num-problems", "4", "--samples", "4", "--metrics", "avg")
    found = {}
    for kind, options in {"pattern": (), "numeric": ("--answer-pattern", r"answer (\d+)\s*$"), "math": ()}.items():
        ended = scope("eval", *few, "--verifier", kind, *options, "--out", tmp_path / f"{kind}.json")
        assert ended.code == 0, ended.err
        found[kind] = json.loads((tmp_path / f"{kind}.json").read_text())
        assert found[kind]["verifier"]["kind"] == kind
    accuracy = {kind: record["sets"][0]["figures"]["avg@4"]["value"] for kind, record in found.items()}
    assert accuracy["pattern"] == accuracy["numeric"] > accuracy["math"] == 0, "these responses have no box"
    assert found["math"]["answer_pattern"] is None


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--verifier", "maths"], ["--verifier 'maths'", "math", "numeric"]),
        (["--verifier", "function"], ["--verifier 'function'", "--config"]),
        (["--verifier", "math", "--answer-pattern", "(x)"], ["--answer-pattern", "'math' reads no pattern"]),
    ],
)
def test_what_an_evaluation_cannot_judge_by(options: list[str], parts: list[str], scope: Scope) -> None:
    ended = scope("eval", "embedded:policy", "--problems", "reduction:4", *options)
    assert ended.code == 2, ended
    for part in parts:
        assert part in ended.err


def test_a_function_that_is_not_there_is_told_before_any_work(tmp_path: Path, scope: Scope, small: Small) -> None:
    overrides = small("verifier.kind=function", "verifier.path=nowhere.to_be_found:f")
    ended = scope("train", "--out", tmp_path / "run", "--steps", "1", *overrides)
    assert ended.code == 2, ended
    assert "nowhere" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ("scorer.model=function", 'scorer.family={kind="function", path="nowhere.to_be_found:f"}'),
        ("teacher.model=function", 'teacher.function={path="nowhere.to_be_found:f"}'),
    ],
)
def test_a_helper_that_is_not_there_is_told_before_any_work(
    tmp_path: Path, scope: Scope, small: Small, overrides: tuple[str, ...]
) -> None:
    ended = scope("train", "--out", tmp_path / "run", "--steps", "1", *small(*overrides))
    assert ended.code == 2
    assert "nowhere" in " ".join(ended.err.split())
    assert not (tmp_path / "run").exists()


def test_functions_of_ones_own_salvage(tmp_path: Path, scope: Scope, small: Small) -> None:
    overrides = small(
        *(
            "scorer.model=function",
            'scorer.family={kind="function", path="tests.unit.scorers.functions:half_right", workers=1}',
        ),
        *(
            "teacher.model=function",
            'teacher.function={path="tests.unit.teacher_functions:says_the_answer", workers=1}',
        ),
        *(
            "evaluation.before=false",
            "method.guards.low_score=false",
            "method.guards.answer_leak=false",
            "scorer.rule={kind='threshold', threshold=0.4}",
        ),
    )
    ended = scope("train", "--out", tmp_path / "run", "--steps", "2", *overrides)
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["salvage"]["admitted"] > 0
