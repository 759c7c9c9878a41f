"""Which rows of files are problems, and what is wrong with those that are none."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.problems.files import read_file
from scope_rlvr.problems.rows import MAX_CHARS, AnswerForm, BadRows, Columns, ProblemTable, normalised, read_table

GOOD = {"prompt": "1+1?", "reference": "2"}


def write_lines(folder: Path, *lines: str | bytes | dict[str, Any]) -> Path:
    """A JSONL file of objects, or of lines as they are."""
    file = folder / "set.jsonl"
    texts = (line if isinstance(line, str | bytes) else json.dumps(line, ensure_ascii=False) for line in lines)
    encoded = (t if isinstance(t, bytes) else t.encode("utf-8", "surrogatepass") for t in texts)
    file.write_bytes(b"\n".join(encoded))
    return file


def table(file: Path, **options: Any) -> ProblemTable:
    return read_table(read_file(file), file.stem, **options)


def read(folder: Path, *lines: str | bytes | dict[str, Any], **options: Any) -> list[Problem]:
    return list(table(write_lines(folder, *lines), **options).problems)


def complaint(folder: Path, *lines: str | bytes | dict[str, Any], **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, *lines, **options)
    return str(caught.value)


def test_a_full_row(tmp_path):
    row = {"id": "x", "prompt": "1+1?", "reference": "2", "source": "me", "level": 3, "solution": "so", "more": None}
    assert read(tmp_path, row) == [Problem("x", "1+1?", "2", "me", 3, "so")]


def test_other_names_and_defaults(tmp_path):
    rows = [{"problem": "1+1?", "answer": 2}, "", {"question": "0?", "final_answer": 0}]
    assert read(tmp_path, *rows) == [Problem("set-1", "1+1?", "2", "set"), Problem("set-3", "0?", "0", "set")]


def test_an_id_of_zero_is_an_id(tmp_path):
    rows = [{"id": i, "prompt": f"{i}?", "reference": "1"} for i in range(2)]
    assert [problem.id for problem in read(tmp_path, *rows)] == ["0", "1"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b"])
def test_line_separators_inside_a_text_are_text(tmp_path, separator):
    (problem,) = read(tmp_path, {"prompt": f"a{separator}b", "reference": "1"})
    assert problem.prompt == f"a{separator}b"


def test_windows_line_ends_and_a_byte_order_mark(tmp_path):
    rows = [b'\xef\xbb\xbf{"prompt": "a", "reference": "1"}\r', b'{"prompt": "b", "reference": "2"}\r', b""]
    assert [problem.prompt for problem in read(tmp_path, *rows)] == ["a", "b"]


BAD: dict[str, tuple[str | bytes | dict[str, Any], str]] = {
    "no JSON": ("{", "not JSON"),
    "nested too deeply": ("[" * 100_000, "not JSON"),
    "no object": ("[1]", "expected an object, got list"),
    "other encoding": ('{"prompt": "caf\xe9", "reference": "1"}'.encode("latin-1"), "not UTF-8 at byte 16"),
    "no problem": ({"reference": "1"}, "no problem text in prompt, problem, question; the row has reference"),
    "an empty problem": ({"prompt": " ", "reference": "1"}, "no problem text"),
    "a problem that is no text": ({"prompt": 3, "reference": "1"}, "no problem text"),
    "no answer": ({"prompt": "?"}, "no answer in reference, answer, final_answer; the row has prompt"),
    "an empty answer": ({"prompt": "?", "reference": " "}, "no answer"),
    "an answer of null": ({"prompt": "?", "answer": None}, "no answer"),
    "several answers": (
        {"prompt": "?", "answer": ["1", "2"]},
        "no answer in reference, answer, final_answer, found ['1', '2']; the row has answer, prompt",
    ),
    "an answer that is no answer": ({"prompt": "?", "answer": {"x": 1}}, "no answer"),
    "true": ({"prompt": "?", "answer": True}, "no answer"),
    "not a number": ('{"prompt": "?", "answer": NaN}', "no answer in reference, answer, final_answer, found nan"),
    "a number of 5,000 digits": (f'{{"prompt": "?", "answer": {"9" * 5000}}}', "not JSON: Exceeds the limit"),
    "a level that is none": (
        {"prompt": "?", "reference": "1", "level": "hard"},
        "level must be a whole number, got 'hard'",
    ),
    "half a level": ({"prompt": "?", "reference": "1", "level": 1.5}, "level must be a whole number, got 1.5"),
    "a null byte": ({"prompt": "a\x00b", "reference": "1"}, "the problem holds a null byte at character 2"),
    "a null byte in the answer": ({"prompt": "?", "reference": "1\x00"}, "the answer holds a null byte"),
    "half a character": ('{"prompt": "a\\ud800", "reference": "1"}', "the problem holds half of a character"),
    "five megabytes": ({"prompt": "a" * 5_000_000, "reference": "1"}, "the problem has 5,000,000 characters"),
    "a huge answer": ({"prompt": "?", "reference": "9" * (MAX_CHARS + 1)}, "the answer has 100,001 characters"),
    "a huge solution": ({**GOOD, "prompt": "?", "solution": "a" * (MAX_CHARS + 1)}, "the solution has 100,001"),
    "the same problem": ({"prompt": "1 + 1?", "reference": "2"}, "the same problem as line 1"),
    "another answer": (
        {"prompt": "$1+1$?", "reference": "3"},
        "the same problem as line 1, and another answer: '3' here",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_is_no_problem_is_named_and_left_out_only_on_demand(tmp_path, name):
    line, reason = BAD[name]
    message = complaint(tmp_path, GOOD, line)
    assert "1 row(s) of 2 that are no problems" in message
    assert f"  line 2: {reason}" in message
    assert "bad_rows = 'skip'" in message
    assert len(message) < 1000
    left = table(write_lines(tmp_path, GOOD, line), bad_rows=BadRows.SKIP)
    assert [problem.prompt for problem in left.problems] == ["1+1?"]
    assert left.left_out[0].startswith(f"line 2: {reason}")


def test_an_id_is_used_once(tmp_path):
    rows = [{"id": "x", "prompt": f"{i}?", "reference": "1"} for i in range(2)]
    assert "line 2: the id 'x' was already used" in complaint(tmp_path, *rows)


def test_many_mistakes_are_counted_and_the_first_ones_shown(tmp_path):
    message = complaint(tmp_path, *["{"] * 8)
    assert "8 row(s)" in message
    assert "line 5" in message
    assert "line 6" not in message
    assert "and 3 more" in message


def test_files_without_problems(tmp_path):
    assert "holds no problem" in complaint(tmp_path, "", "  ")
    assert "none is one" in complaint(tmp_path, "{", bad_rows=BadRows.SKIP)
    with pytest.raises(UserError, match=r"missing\.jsonl cannot be read: No such file"):
        table(tmp_path / "missing.jsonl")
    with pytest.raises(UserError, match=r"must end in \.jsonl, \.parquet, \.csv"):
        table(tmp_path / "set.txt")


def test_columns_by_name_by_path_and_from_conversations(tmp_path):
    row = {
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "1+1?"}],
        "target": [{"role": "assistant", "content": "It is 2."}],
        "reward_model": {"ground_truth": "2", "style": "rule"},
        "extra.index": 7,
        "difficulty": "Level 3",
    }
    columns = Columns(
        problem="prompt", answer="reward_model.ground_truth", solution="target", id="extra.index", level="difficulty"
    )
    assert read(tmp_path, row, columns=columns) == [Problem("7", "1+1?", "2", "set", 3, "It is 2.")]
    missing = complaint(tmp_path, row, columns=columns.model_copy(update={"answer": "reward_model.gold"}))
    assert "no answer in 'reward_model.gold'; the row has difficulty, extra.index, prompt" in missing


@pytest.mark.parametrize(
    ("answer", "form", "expected"),
    [
        ("48/2 = 24\n#### 1,024", AnswerForm.AFTER_HASHES, "1024"),
        (r"So $\boxed{1}$, no, \boxed{\frac{1}{2}}.", AnswerForm.LAST_BOX, r"\frac{1}{2}"),
        (["  x+1 "], AnswerForm.WHOLE, "x+1"),
        (4.0, AnswerForm.WHOLE, "4"),
        (0.5, AnswerForm.WHOLE, "0.5"),
    ],
)
def test_where_the_answer_stands(tmp_path, answer, form, expected):
    (problem,) = read(tmp_path, {"problem": "?", "answer": answer}, answer_form=form)
    assert problem.reference == expected


@pytest.mark.parametrize("form", [AnswerForm.AFTER_HASHES, AnswerForm.LAST_BOX])
def test_an_answer_that_does_not_stand_there_is_none(tmp_path, form):
    message = complaint(tmp_path, {"problem": "?", "answer": "just 5"}, answer_form=form)
    assert f"no answer in reference, answer, final_answer, read by answer_form = '{form.value}'" in message


def test_parquet(tmp_path):
    file = tmp_path / "set.parquet"
    rows = [{"problem": "1?", "answer": "1", "level": 2}, {"problem": "2?", "answer": None, "level": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    with pytest.raises(UserError, match="row 2: no answer"):
        table(file)
    assert table(file, bad_rows=BadRows.SKIP).problems == (Problem("set-1", "1?", "1", "set", 2),)
    columns = {"problem": ["1?", "2?", "3?"], "answer": [1.0, float("nan"), float("inf")]}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    assert [problem.reference for problem in table(file, bad_rows=BadRows.SKIP).problems] == ["1"]
    pyarrow.parquet.write_table(pyarrow.table(columns | {"answer": [b"1", b"2", b"3"]}), file)
    with pytest.raises(UserError, match=r"row 1: no answer .*, found b'1'"):
        table(file)
    file.write_bytes(b"PAR1 not")
    with pytest.raises(UserError, match="is not Parquet"):
        table(file)


def test_csv(tmp_path):
    file = tmp_path / "set.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerows([["problem", "answer", "level"], ['two\nlines, and "quotes"', "1", ""], ["b?", "", "1"]])
        writer.writerow(["c?", "3", "1", "too", "many"])
        writer.writerow(["d?", "4"])
    with pytest.raises(UserError) as caught:
        table(file)
    assert "line 4: no answer" in str(caught.value)
    assert "line 5: 2 value(s) more than the header has" in str(caught.value)
    left = table(file, bad_rows=BadRows.SKIP)
    assert [p.prompt for p in left.problems] == ['two\nlines, and "quotes"', "d?"]
    assert [p.id for p in left.problems] == ["set-3", "set-6"]
    file.write_bytes(b"problem,answer\ncaf\xe9,1\n")
    with pytest.raises(UserError, match="cannot be read"):
        table(file)
    file.write_text('problem,answer\n"open,1\n', encoding="utf-8")
    with pytest.raises(UserError, match="not CSV"):
        table(file)


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        ("What is  $2+3$ ?", "what is 2+3?", True),
        (r"Let \(x\,=\,1\).", "let x=1", True),
        (r"\left( \tfrac12 \right)", r"(\frac12)", True),
        ("2+3", "2-3", False),
        ("2.5", "25", False),
        ("x_1", "x_2", False),
    ],
)
def test_two_writings_of_one_problem(one, other, are_equal):
    assert (normalised(one) == normalised(other)) is are_equal
