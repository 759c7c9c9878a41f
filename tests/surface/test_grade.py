"""``scope grade``: verdicts on responses in a file, and the second opinion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from scope_rlvr.measure.responses import GRADES_SCHEMA
from scope_rlvr.store.rollouts import Rollouts, rollout_files
from tests.surface.test_docs import doc, rows_of

Scope = Callable[..., Any]
ROWS: list[dict[str, Any]] = [
    {"problem": "1/2 + 0?", "gold": r"\frac{1}{2}", "response": r"\boxed{0.5}"},
    {"problem": "2(x+1)?", "gold": "2x+2", "response": r"\boxed{2(x+1)}"},
    {"problem": "5?", "gold": 5, "response": r"\boxed{4=5}"},
    {"problem": "5?", "gold": "5", "response": "it is 5"},
    {"problem": "8?", "gold": "8", "response": r"\boxed{9^{9^{9^{9}}}}"},
]
EXPECTED = [
    ("right", "equal", "right"),
    ("right", "equal", "wrong"),
    ("wrong", "unequal_chain", "wrong"),
    ("wrong", "no_box", "wrong"),
    ("unknown", "time_out", "wrong"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_verdicts_reasons_and_disputes(here: Path, scope: Scope) -> None:
    written(here / "rows.jsonl", ROWS)
    ended = scope("grade", "rows.jsonl", "--set", "verifier.deadline=1.5", "--out", "verdicts.json")
    assert ended.code == 0, ended.err
    record = json.loads((here / "verdicts.json").read_text())
    found = [(row["outcome"], row["reason"].split(":")[0], row["second"]) for row in record["rows"]]
    assert found == EXPECTED
    assert record["schema"] == GRADES_SCHEMA
    assert record["num_disputed"] == 1
    assert record["outcomes"] == {
        "right": {"equal": 2},
        "wrong": {"no_box": 1, "unequal_chain": 1},
        "unknown": {"time_out": 1},
    }
    assert record["verifier"] == {"kind": "math", "workers": 2, "deadline": 1.5, "memory_mib": 1024}
    assert "5 responses" in ended.out
    assert "the second grader disagrees on 1 (20.0%)" in ended.out
    assert "2(x+1)" in ended.out
    assert "2(x+1)" not in scope("grade", "rows.jsonl", "--set", "verifier.deadline=1.5", "--show", "0").out


def test_the_file_is_documented(here: Path, scope: Scope) -> None:
    written(here / "rows.jsonl", ROWS[:1])
    assert scope("grade", "rows.jsonl", "--verifier", "numeric", "--out", "verdicts.json").code == 0
    record = json.loads((here / "verdicts.json").read_text())
    fields = rows_of(doc("formats.md"), "## The file of scope grade")
    assert set(record) <= set(fields)
    assert all(f"`{key}`" in fields["rows"] for key in record["rows"][0])
    assert f"| the file of `scope grade` | `schema` | {GRADES_SCHEMA} |" in doc("formats.md")


def test_parquet_and_other_names_of_columns(here: Path, scope: Scope) -> None:
    rows = [{"prompt": "?", "answer": "B", "completion": "The answer is (B)."}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), here / "rows.parquet")
    ended = scope("grade", "rows.parquet", "--verifier", "choice", "--out", "verdicts.json")
    assert ended.code == 0, ended.err
    [row] = json.loads((here / "verdicts.json").read_text())["rows"]
    assert (row["outcome"], row["answer"], row["id"]) == ("right", "B", "rows-1")


def test_the_rollouts_of_a_run_can_be_judged_again(here: Path, scope: Scope, plain_run: Path) -> None:
    (file,) = rollout_files(plain_run)
    ended = scope("grade", file, "--verifier", "pattern", "--out", "verdicts.json")
    assert ended.code == 0, ended.err
    lines = list(Rollouts.of(plain_run))
    rows = json.loads((here / "verdicts.json").read_text())["rows"]
    ended_ones = [(line, row) for line, row in zip(lines, rows, strict=True) if not line["is_truncated"]]
    assert ended_ones
    assert all(line["verdict"]["outcome"] == row["outcome"] for line, row in ended_ones)


@pytest.mark.parametrize(
    ("rows", "options", "parts"),
    [
        (
            [{"gold": "1"}, {"response": "2"}, ROWS[0]],
            [],
            ["2 row(s)", "line 1", "no response", "line 2", "no reference"],
        ),
        ([], [], ["holds no row"]),
        (ROWS, ["--verifier", "maths"], ["verifier", "maths", "math"]),
        (ROWS, ["--verifier", "function"], ["verifier.path"]),
        (ROWS, ["--verifier", "function", "--set", "verifier.path=nothing_here:f"], ["nothing_here"]),
        (ROWS, ["--set", "verifier.deadlin=1"], ["did you mean 'deadline'?"]),
        (ROWS, ["--out", "rows.jsonl"], ["rows.jsonl exists"]),
    ],
)
def test_mistakes_are_told_before_any_work(
    rows: list[dict[str, Any]], options: list[str], parts: list[str], here: Path, scope: Scope
) -> None:
    written(here / "rows.jsonl", rows)
    ended = scope("grade", "rows.jsonl", *options)
    assert ended.code == 2, ended
    for part in parts:
        assert part in ended.err
