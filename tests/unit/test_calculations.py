"""What is read out of the sentences that people and models write, and what is left alone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_rlvr.problems.calculations import numbers_in, read_calculations


def found(text: str) -> list[tuple[str, bool | None]]:
    return [(str(c.result), c.is_true) for c in read_calculations(text).found]


@pytest.mark.parametrize(
    ("text", "results"),
    [
        ("12 + 5 = 17 apples", [("17", True)]),
        ("12 + 5 = 18 apples", [("18", False)]),
        ("She sold 48/2 = <<48/2=24>>24 clips in May.", [("24", True)]),
        ("She sold <<48/2=24>>24 clips in May.", [("24", True)]),
        ("She sold 48/2 = <<48/2=24>>25 clips.", [("25", False), ("24", True)]),
        ("He earned 0.2 x 50 = $10.", [("10", True)]),
        ("That is $1,200 - $200 = $1,000", [("1000", True)]),
        (".25 x 32 = 8 because 3*4=12", [("8", True), ("12", True)]),
        ("3*4=12+5=17", [("12", True), ("17", True)]),
        ("3*4=12+5=18", [("12", True), ("18", False)]),
        ("4 + 15 - 7 = 19 - 7 = 12", [("12", True), ("12", True)]),
        ("10/3 = 3.33", [("333/100", True)]),
        ("10/3 = 3.34", [("167/50", True)]),
        ("10/3 = 3.4", [("17/5", True)]),
        ("10/3 = 3.5", [("7/2", False)]),
        ("10/4 = 2.4", [("12/5", False)]),
        ("10/3 = 3", [("3", None)]),
        ("12/4 = 4", [("4", False)]),
        ("5/20 x 100 = 25%", [("25", True)]),
        ("20% of 40 = 8", [("8", True)]),
        ("On Day 1 = 4 + 3 = 7", [("7", True)]),
        (r"\(\frac{1}{3} \times 18 = 6\) flamingos", [("6", True)]),
        (r"\[ 8 \text{ pounds} + 4 \text{ pounds} = 13 \text{ pounds} \]", [("13", False)]),
        (r"The total is \$3 + \$4 = \boxed{7}.", [("7", True)]),
        ("He runs 3 1/2 x 2 = 7 miles", [("7", True)]),
        ("It takes 2 miles / 1/6 hour = 12", [("12", True)]),
        ("4(350+750)=4400", [("4400", True)]),
        ("He pays 15 gallons * 8 pints / gallon = 120 pints", [("120", True)]),
        ("Half of the book means 500 / 2 = 250 pages.", [("250", True)]),
        ("He makes 12 = 3*4 cups", [("12", True)]),
        ("Total cost = boxes * price per box = 20 * $40 = $800", [("800", True)]),
        ("16 guests x 3 egg halves = 47 egg halves", [("47", False)]),
        ("18 books (already there) + 20 = 38", [("38", True)]),
        (r"\[ 44 + 4 \] \[ \text{Bananas} = 44 + 4 = 48 \]", [("48", True)]),
        ("3 + 4 = the sum = 8", [("8", False)]),
        ("(2)(-2) - (7)(13) = -4 - 91 = -95", [("-95", True), ("-95", True)]),
        ("The product is $-63 * 63 = -3969$", [("-3969", True)]),
        ("(2-4) + (6-8) = -2 -2 = -4", [("-4", True), ("-4", True)]),
        (r"the slope is $-\frac{4}{2} = -2$", [("-2", True)]),
        (r"\[ \frac{1}{13} = \frac{4}{52} \] \[ \frac{1}{4} = \frac{13}{52} \]", [("1/13", True), ("1/4", True)]),
        ("5 / 0 = 0", []),
    ],
)
def test_what_a_sentence_calculates(text: str, results: list[tuple[str, bool | None]]) -> None:
    assert found(text) == results


@pytest.mark.parametrize(
    "text",
    [
        "49 - 3ab = 6",
        "10a - 21 = 5",
        r"$\left(\frac{5+7}{2},\frac{3+4}{2}\right) = (6, \frac{7}{2})$",
        r"$2 + 2(a \cdot b + 3) = 0$",
        "|7 - 9| = 2",
        "C(4, 2) = 6",
        "f (3) + 1 = 9",
        "4R + 1 = 33",
        "x + 4 = 7",
        "B - 12 = B - 31",
        r"\sqrt{9} + 1 = 4",
        "x_1 = 3 + 4",
        "2^3 = 8",
        "2 dozen = 24",
        "1=" * 3000,
    ],
)
def test_what_is_no_plain_calculation_is_left_alone_and_told(text: str) -> None:
    reading = read_calculations(text)
    assert (reading.found, reading.is_complete) == ((), False)


def test_inputs_are_the_numbers_in_the_order_in_which_they_stand() -> None:
    (calculation,) = read_calculations("(4 + 3) x 2 - 1 = 13").found
    assert calculation.inputs == (4, 3, 2, 1)


def test_numbers_of_a_text() -> None:
    assert numbers_in("Three bags of 1,200, and 4.50; no v1.2") == {3, 1200, Fraction(9, 2)}


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 999), st.sampled_from("+-*/"), st.integers(-2, 2))
def test_an_equation_is_true_exactly_where_arithmetic_says_so(a: int, b: int, operation: str, slip: int) -> None:
    value = {"+": Fraction(a + b), "-": Fraction(a - b), "*": Fraction(a * b), "/": Fraction(a, b)}[operation]
    if value.denominator == 1:
        (calculation,) = read_calculations(f"So {a} {operation} {b} = {value + slip} eggs.").found
        assert (calculation.result, calculation.is_true) == (value + slip, slip == 0)


@settings(deadline=None)
@given(st.text(max_size=200) | st.text("0123456789+-*/=().$%<> xX\\{}frac,", max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    assert all(c.is_true in (True, False, None) for c in read_calculations(text).found)
