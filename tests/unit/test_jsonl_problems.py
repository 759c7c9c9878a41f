"""Problems from JSONL files, and what is wrong with a file that holds none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scope_rlvr.errors import UserError
from scope_rlvr.problems.jsonl import read_problems
from scope_rlvr.types import Problem


def read(folder: Path, *lines: str | dict) -> list[Problem]:
    file = folder / "set.jsonl"
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    file.write_text(text, encoding="utf-8")
    return read_problems(file)


def test_a_full_row(tmp_path):
    row = {"id": "x", "prompt": "1+1?", "reference": "2", "source": "me", "level": 3, "more": None}
    assert read(tmp_path, row) == [Problem("x", "1+1?", "2", "me", 3)]


def test_other_names_and_defaults(tmp_path):
    rows = [{"problem": "1+1?", "answer": 2}, "", {"prompt": "0?", "reference": 0}]
    assert read(tmp_path, *rows) == [Problem("set-1", "1+1?", "2", "set"), Problem("set-3", "0?", "0", "set")]


def test_an_id_of_zero_is_an_id(tmp_path):
    rows = [{"id": i, "prompt": "?", "reference": "1"} for i in range(2)]
    assert [problem.id for problem in read(tmp_path, *rows)] == ["0", "1"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b"])
def test_line_separators_inside_a_text_are_text(tmp_path, separator):
    (problem,) = read(tmp_path, {"prompt": f"a{separator}b", "reference": "1"})
    assert problem.prompt == f"a{separator}b"


def test_windows_line_ends(tmp_path):
    file = tmp_path / "set.jsonl"
    file.write_bytes(b'{"prompt": "a", "reference": "1"}\r\n{"prompt": "b", "reference": "2"}\r\n')
    assert [problem.prompt for problem in read_problems(file)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object, got list"),
        ({"reference": "1"}, "no prompt"),
        ({"prompt": " ", "reference": "1"}, "no prompt"),
        ({"prompt": 3, "reference": "1"}, "no prompt"),
        ({"prompt": "?"}, "no reference"),
        ({"prompt": "?", "reference": " "}, "no reference"),
        ({"prompt": "?", "reference": "1", "level": "hard"}, "level must be a whole number, got 'hard'"),
    ],
)
def test_a_row_that_is_no_problem_is_named(tmp_path, line, complaint):
    with pytest.raises(UserError) as caught:
        read(tmp_path, {"prompt": "?", "reference": "1"}, line)
    assert "line 2: " in str(caught.value)
    assert complaint in str(caught.value)
    assert "1 row(s)" in str(caught.value)


def test_an_id_is_used_once(tmp_path):
    row = {"id": "x", "prompt": "?", "reference": "1"}
    with pytest.raises(UserError, match="line 2: the id 'x' was already used"):
        read(tmp_path, row, row)


def test_many_mistakes_are_counted_and_the_first_ones_shown(tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path, *["{"] * 8)
    message = str(caught.value)
    assert "8 row(s)" in message
    assert "line 5" in message
    assert "line 6" not in message
    assert "and 3 more" in message


def test_files_without_problems(tmp_path):
    with pytest.raises(UserError, match="holds no problem"):
        read(tmp_path, "", "  ")
    with pytest.raises(UserError, match="cannot be read"):
        read_problems(tmp_path / "missing.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        read_problems(tmp_path / "bytes.jsonl")
