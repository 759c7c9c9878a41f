"""References that tell nothing right from wrong are found."""

from __future__ import annotations

import pytest

from scope_rlvr.core.findings import Severity
from scope_rlvr.core.types import Problem
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.grading.gold import SHOWN_GOLDS, reference_findings, spread, unverifiable
from scope_rlvr.grading.math_answer import MathVerifier


def problems(*references: str) -> list[Problem]:
    return [Problem(f"p{i}", "?", reference) for i, reference in enumerate(references)]


def test_references_that_cannot_be_read():
    with MathVerifier() as verifier:
        found = unverifiable(verifier, problems("7", r"\frac{1}{2}", "x^", r"\frac{1", "987654321"), None)
    assert found == {
        "p2": "'x^' against 987654321 is unknown (gold_unparsable)",
        "p3": "'\\\\frac{1' as its own answer is wrong (malformed_box)",
    }


def test_references_that_no_box_gives_back_are_all_named():
    with MathVerifier() as verifier:
        found = unverifiable(verifier, problems("<think>hm</think> 7", "so " * 200), None)
    assert found is not None
    assert [reason.rpartition("(")[2] for reason in found.values()] == ["no_box)", "too_long)"]


def test_a_pattern_of_plain_text():
    verifier = FinalAnswerVerifier(r"answer (\d+)")
    assert unverifiable(verifier, problems("7", "12"), r"answer (\d+)") == {}
    found = unverifiable(verifier, problems("7", "x"), r"answer (\d+)")
    assert found is not None
    assert list(found) == ["p1"]
    assert found["p1"].startswith("'x' as its own answer is wrong")


def test_a_verifier_that_reads_nothing_that_is_known():
    pattern = r"the (?:final )?answer is (\d+)!"
    assert unverifiable(FinalAnswerVerifier(pattern), problems("7"), pattern) is None


@pytest.mark.parametrize(("size", "count", "expected"), [(3, 5, [0, 1, 2]), (10, 2, [0, 5]), (0, 2, [])])
def test_a_spread(size, count, expected):
    assert spread(range(size), count) == expected


def test_a_finding_counts_the_references_that_nobody_can_read_and_shows_ten():
    readable = [str(number) for number in range(200)]
    unreadable = [rf"\frac{{{number}}}{{}}" for number in range(12)]
    with MathVerifier() as verifier:
        [found] = reference_findings("set", problems(*readable, *unreadable), verifier, None, in_boxes=True)
    assert found.severity is Severity.WARNING
    assert found.message.startswith("set: 12 of 212 references cannot be graded; p200: '\\\\frac{0}{}' against")
    assert found.message.count("gold_unparsable") == SHOWN_GOLDS == 10
    assert found.message.endswith("and 2 more; 12 cannot be read, so that any answer but the same text is unknown")


def test_a_list_with_an_entry_that_nobody_can_read_is_found():
    with MathVerifier() as verifier:
        found = unverifiable(verifier, problems("1, x^", "(1, x^)", "1, 2"), None)
    assert list(found or ()) == ["p0", "p1"]
