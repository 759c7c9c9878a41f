"""What the reader of equations takes from a step, and what it refuses to read."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest

from scope_rlvr.problems.equations import MAX_CHARS, Number, UnreadableError, is_true, read_equations, value_of
from scope_rlvr.problems.stories.checker import unfinished_result


def sides(text: str) -> list[list[Fraction]]:
    return [[value_of(side) for side in equation.sides] for equation in read_equations(text)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4 + 3 = 7", [7, 7]),
        ("Mia now has 4 apples + 3 apples = 7 apples.", [7, 7]),
        ("On day 3 she picked 12 - 5 = 7 apples", [7, 7]),
        ("3 x $4 = $12", [12, 12]),
        ("3*4=12", [12, 12]),
        ("3 × 4 = 12", [12, 12]),
        ("3x4=12", [12, 12]),
        ("12 ÷ 4 = 3", [3, 3]),
        ("5 bags x 6 marbles/bag = 30 marbles", [30, 30]),
        ("1,200 - 200 = 1000", [1000, 1000]),
        ("4.50 + 0.5 = 5", [5, 5]),
        ("(4 + 3) x 2 = 14", [14, 14]),
        ("(So 4 + 3 = 7.)", [7, 7]),
        ("7 = 4 + 3", [7, 7]),
        ("Total = 4 + 3 = 7", [7, 7]),
        ("4 + 3 + 5 = 7 + 5 = 12", [12, 12, 12]),
        ("20% of 40 = 8", [8, 8]),
        ("1/2 of 12 = 6", [6, 6]),
        ("half of 12 = 6", [6, 6]),
        ("A third of the muffins was 39 / 3 = 13", [13, 13]),
        ("twice 6 - 2 = 10", [10, 10]),
        ("4 plus 3 equals 7", [7, 7]),
        ("12 divided by 4 = 3", [3, 3]),
        ("- 4 + 3 = 7", [7, 7]),
        ("1) 4 + 3 = 7", [7, 7]),
        ("the 3-page letter: 3 - 2 = 1", [1, 1]),
        ("4 − 7 = -3", [-3, -3]),
        ("4 + 3 = 8", [7, 8]),
        ("2 + 3 x 4 = 14", [14, 14]),
        ("20 - 8 - 2 = 10", [10, 10]),
        ("24 / 4 / 2 = 3", [3, 3]),
    ],
)
def test_an_equation_is_read(text: str, values: list[int]) -> None:
    assert sides(text) == [[Fraction(value) for value in values]]


def test_several_equations_are_read_one_by_one() -> None:
    assert sides("Now 4 + 3 = 7, and 7 - 2 = 5. Then 5 x 2 = 10") == [[7, 7], [5, 5], [10, 10]]
    assert sides("4 + 3 = 7 and then 7 - 2 = 5") == [[7, 7], [5, 5]]


@pytest.mark.parametrize(
    "text", ["", "Mia buys 4 apples.", "4 + 3", "7 - 2 makes 5", "Mia and Tom have equal shares", "7 = 7"]
)
def test_without_a_calculation_there_is_no_equation(text: str) -> None:
    assert [one for one in read_equations(text) if not all(isinstance(side, Number) for side in one.sides)] == []


@pytest.mark.parametrize(
    "text",
    [
        "x + 4 = 7",
        "4 + y = 7",
        "4 + = 7",
        "4 + 3 = seven",
        "four + three = seven",
        "2^3 = 8",
        "√16 = 4",
        "5! = 120",
        "5 = 6",
        "4(3) = 12",
        "two thirds of 12 = 8",
        "1234567890123456789 + 1 = 2",
        "1 + 1 = 2 = = 2",
        " + ".join(["1"] * 25) + " = 25",
        "(" * 9 + "1 + 1" + ")" * 9 + " = 2",
        "1 + 1 = 2" + " " * MAX_CHARS,
    ],
)
def test_what_is_no_equation_of_numbers_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableError):
        read_equations(text)


def test_truth_is_exact() -> None:
    assert [is_true(read_equations(text)[0]) for text in ("10 / 4 = 2.5", "10 / 3 = 3.33", "1/3 + 1/3 = 2/3")] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("text", "result"), [("so 4 + 8 =", 12), ("so 4 + 8 = 1", 12), ("4 + 8", 12), ("7 / 2", None), ("seven", None)]
)
def test_the_result_of_a_calculation_that_has_none_yet(text: str, result: int | None) -> None:
    assert unfinished_result(text) == result


@pytest.mark.parametrize("text", ["=" * 4000, "1 + " * 900 + "= 1", "(" * 3000 + "=", "9" * 3000 + "=1", "1=1=" * 900])
def test_long_nonsense_is_refused_or_read(text: str) -> None:
    with suppress(UnreadableError):
        assert read_equations(text) is not None
