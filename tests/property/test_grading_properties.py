r"""Answers in any way that keeps the meaning of a reference are right, and in any way that changes it wrong, never unknown."""

from __future__ import annotations

import json
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.grader_agreement import CASES, PAGE, RESULTS, read_cases, renewed
from benchmarks.rewritings import CHANGING, PRESERVING, Rewriting, is_listed, is_value
from scope_rlvr.grading.math_judge import judge

small = st.integers(-99, 99)
digits = st.integers(2, 9)
square_free = st.sampled_from([2, 3, 5, 6, 7, 10, 11, 13])
decimals = st.builds(lambda whole, part: f"{whole}.{part:02d}", small, st.integers(1, 99))
fractions = st.builds(lambda a, b: rf"\frac{{{a}}}{{{b}}}", st.integers(1, 99), st.integers(2, 99))
roots = st.builds(lambda a, b: rf"{a}\sqrt{{{b}}}", digits, square_free)
angles = st.builds(lambda a, b: rf"\frac{{{a}\pi}}{{{b}}}", digits, digits)
values = st.one_of(
    st.integers(-(10**7), 10**7).map(str),
    decimals,
    fractions,
    fractions.map(lambda text: f"-{text}"),
    roots,
    angles,
    st.builds(lambda a, b: rf"{a}+\sqrt{{{b}}}", small, square_free),
    st.builds(lambda a, b: f"{a}+{b}i", small, digits),
    st.builds(lambda a, b: f"{a}x+{b}", digits, digits),
    st.builds(lambda a, b: f"x^{a}-{b}y", digits, digits),
    st.builds(lambda a, b: rf"{a}^{b}", digits, digits),
)
"""References of one formula, as data sets write them."""
lists = st.lists(values, min_size=2, max_size=4, unique_by=lambda text: text.strip("-+")).map(", ".join)
points = st.builds(lambda entries: f"({', '.join(entries)})", st.lists(values, min_size=2, max_size=4, unique=True))
references = st.one_of(values, lists, points)
preserving = st.sampled_from(list(chain.from_iterable(named.values() for named in PRESERVING.values())))
changing = st.sampled_from(list(CHANGING.values()))
outermost = [PRESERVING["typesetting"][name] for name in ("in dollar signs", "in LaTeX's brackets", "full stop")]


def rewritten_is_right(gold: str, write: Rewriting, set_as: Rewriting) -> None:
    answer = write(gold)
    if answer is not None:
        answer = (None if write in outermost else set_as(answer)) or answer
        assert judge(gold, answer)[0] == "right", (gold, answer, judge(gold, answer))


def changed_is_wrong(gold: str, write: Rewriting) -> None:
    answer = write(gold)
    if answer is not None:
        assert judge(gold, answer)[0] == "wrong", (gold, answer, judge(gold, answer))


@settings(max_examples=150, deadline=None)
@given(references, preserving, st.sampled_from(outermost))
def test_a_reference_that_is_written_anew_is_right(gold: str, write: Rewriting, set_as: Rewriting) -> None:
    rewritten_is_right(gold, write, set_as)


@settings(max_examples=100, deadline=None)
@given(references, changing)
def test_a_reference_whose_meaning_is_changed_is_wrong(gold: str, write: Rewriting) -> None:
    changed_is_wrong(gold, write)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(references, preserving, st.sampled_from(outermost))
def test_thousands_of_references_that_are_written_anew_are_right(
    gold: str, write: Rewriting, set_as: Rewriting
) -> None:
    rewritten_is_right(gold, write, set_as)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(references, changing)
def test_thousands_of_references_whose_meaning_is_changed_are_wrong(gold: str, write: Rewriting) -> None:
    changed_is_wrong(gold, write)


@settings(max_examples=60, deadline=None)
@given(values, values)
def test_either_side_may_be_the_reference(one: str, other: str) -> None:
    assert judge(one, other)[0] == judge(other, one)[0]


def test_every_rewriting_applies_to_some_reference() -> None:
    golds = [
        "-3",
        "12345",
        r"\frac{1}{2}",
        r"2\sqrt{3}",
        r"2\pi",
        "x^2+1",
        "(x+1)(x-1)",
        "1, 2",
        "(1, 2)",
        r"\text{even}",
        "2.5",
    ]
    ways = {name: write for named in [*PRESERVING.values(), CHANGING] for name, write in named.items()}
    assert {name for name, write in ways.items() if not any(write(gold) for gold in golds)} == set()
    assert is_value("x^2+1")
    assert is_listed("1, 2")
    assert not is_value("2.5e-7")


# --- what others expect ---------------------------------------------------------------------------------------------


def test_the_cases_of_others_get_their_verdict_or_there_is_a_reason() -> None:
    cases = read_cases([CASES])
    assert len(cases) > 400
    said = [judge(case.gold, case.answer)[0] for case in cases]
    disputed = [case for case, outcome in zip(cases, said, strict=True) if outcome != case.expected]
    assert [case for case in disputed if not case.ruling] == []
    assert [case for case in cases if case.ruling and case not in disputed] == []
    known = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert {(d["gold"], d["answer"]) for d in known["disputes"] if d["ruling"]} == {
        (c.gold, c.answer) for c in disputed
    }


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == renewed(), "run: python benchmarks/grader_agreement.py"
