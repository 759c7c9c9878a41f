"""Worked solutions brought into the form that a verifier reads."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from scope_rlvr.problems.rows import AnswerForm, Columns, Row, read_table
from scope_rlvr.problems.solutions import SolutionForm

GSM8K = "Half is 1000/2 = <<1000/2=500>>500.\nSo 500+1000 = <<500+1000=1500>>1,500.\n#### 1,500"


@pytest.mark.parametrize(
    ("solution", "answer", "line", "expected"),
    [
        ("3+4 = 7\n#### 7", "7", r"\boxed{{answer}}", "3+4 = 7\n\\boxed{7}"),
        ("3+4 = 7\n\nso\n\n#### 7 \n", "7", "Answer: {answer}", "3+4 = 7\n\nso\n\nAnswer: 7"),
        ("3+4 = 7\n", "7", "Answer: {answer}", "3+4 = 7\nAnswer: 7"),
        ("3+4 = 7\nAnswer: 7", "7", "Answer: {answer}", "3+4 = 7\nAnswer: 7"),
        # The solution comes to something else: that is for the verifier to find.
        ("3+5 = 8\n#### 8", "7", r"\boxed{{answer}}", "3+5 = 8\n#### 8"),
        ("#### 7", "7", r"\boxed{{answer}}", "\\boxed{7}"),
        ("so 1/2", r"\frac{1}{2}", r"\boxed{{answer}}", "so 1/2\n\\boxed{\\frac{1}{2}}"),
        ("3+4 = 7\n#### 7", "7", None, "3+4 = 7\n#### 7"),
    ],
)
def test_the_last_line(solution: str, answer: str, line: str | None, expected: str) -> None:
    assert SolutionForm(final_line=line).apply(solution, answer) == expected


def test_annotations_stay_unless_they_are_to_go() -> None:
    assert SolutionForm().apply(GSM8K, "1500") == GSM8K
    assert SolutionForm(strip_annotations=True).apply(GSM8K, "1500") == (
        "Half is 1000/2 = 500.\nSo 500+1000 = 1,500.\n#### 1,500"
    )


def test_rows_of_gsm8k_as_it_is_published() -> None:
    table = read_table(
        [Row("line 1", {"question": "Half of 1000 and 1000?", "answer": GSM8K})],
        "gsm8k",
        columns=Columns(solution="answer"),
        answer_form=AnswerForm.AFTER_HASHES,
        solution_form=SolutionForm(strip_annotations=True, final_line=r"The answer is \boxed{{answer}}."),
    )
    assert (table.problems[0].reference, table.problems[0].solution) == (
        "1500",
        "Half is 1000/2 = 500.\nSo 500+1000 = 1,500.\nThe answer is \\boxed{1500}.",
    )


@pytest.mark.parametrize("line", ["", "no place", "{answer} {answer}", "Answer:\n{answer}"])
def test_a_last_line_without_one_place_for_the_answer_is_refused(line: str) -> None:
    with pytest.raises(ValidationError, match=r"one line with \{answer\} in it once"):
        SolutionForm(final_line=line)
