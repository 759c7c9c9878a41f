"""The verifier that reads the last line."""

from __future__ import annotations

import pytest

from scope_rlvr.core.ports import Verifier
from scope_rlvr.core.types import Outcome, Problem
from scope_rlvr.grading.final_answer import FinalAnswerVerifier


def verdict(response: str, reference: str = "7", pattern: str = r"answer (\d+)"):
    problem = Problem(id="p", prompt="reduce 3 4\n\n", reference=reference)
    verifier: Verifier = FinalAnswerVerifier(pattern)
    return verifier.verify([(problem, response)])[0]


@pytest.mark.parametrize(
    "response", ["answer 7", "3 + 4 = 7 : 7\n\nanswer 7", "answer 7\n\n \n", "  answer 7 ", "answer 07"]
)
def test_right(response):
    assert verdict(response).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    "response",
    [
        *("", "\n\n", "7", "answer", "answer seven", "answer 8", "answer 77", "answer 7.", "answer -7", "answer  7"),
        *("answer 7\n\n3 + 4 = 7 : 7", "the answer 7", "answer 7 answer 7", "answer 3 + 4", "Answer 7"),
    ],
)
def test_wrong(response):
    found = verdict(response)
    assert found.outcome is Outcome.WRONG
    assert found.reason


def test_the_answer_and_the_reason_are_told():
    found = verdict("answer 8")
    assert found.answer == "8"
    assert found.reason == "the final answer is '8', the reference '7'"
    assert verdict("nothing").answer is None


@pytest.mark.parametrize("reference", ["", "  "])
def test_without_a_reference_nothing_is_known(reference):
    found = verdict("answer 7", reference)
    assert found.outcome is Outcome.UNKNOWN
    assert found.answer == "7"


@pytest.mark.parametrize(
    ("answer", "reference", "is_right"),
    [
        *(("+7", "7", True), ("-0", "0", True), ("1/2", "1/2", True), ("0.5", "1/2", False), ("x", " x ", True)),
        *(("7.0", "7", False), ("9" * 5000, "7", False), ("__import__('os')", "7", False)),
    ],
)
def test_integers_compare_as_integers_and_the_rest_as_text(answer, reference, is_right):
    assert verdict(f"answer {answer}", reference, r"answer (.+)").is_right is is_right


@pytest.mark.parametrize(
    ("pattern", "message"), [("answer", "0 groups"), ("(a)(b)", "2 groups"), ("(", "regular expr")]
)
def test_a_pattern_without_exactly_one_group_is_refused(pattern, message):
    with pytest.raises(ValueError, match=message):
        FinalAnswerVerifier(pattern)


def test_a_group_that_took_no_part_is_no_answer():
    assert verdict("none", pattern=r"none|answer (\d+)").outcome is Outcome.WRONG


def test_verdicts_come_in_order():
    problem = Problem(id="p", prompt="", reference="7")
    verdicts = FinalAnswerVerifier().verify([(problem, "answer 7"), (problem, "answer 8"), (problem, "answer 7")])
    assert [v.is_right for v in verdicts] == [True, False, True]
    assert FinalAnswerVerifier().verify([]) == []
