"""The truth about steps, on stories whose numbers were worked out by hand."""

from __future__ import annotations

import pytest

from scope_rlvr.problems.stories.algebra import essential_symbols, justified_by
from scope_rlvr.problems.stories.checker import StepTruth, truths
from scope_rlvr.problems.stories.plan import MisfitError, Plan, PlanBuilder

R, W, N, U = StepTruth.RIGHT, StepTruth.WRONG, StepTruth.NEUTRAL, StepTruth.UNREADABLE


def eggs() -> Plan:
    """Mia has 4 eggs, gets 3 baskets of 5, loses 7, and shares what is left among 2: 4 + 3 x 5 - 7 = 12, and 12 / 2 = 6."""
    build = PlanBuilder(largest=100)
    first, baskets, each, lost, friends = (build.given(n) for n in (4, 3, 5, 7, 2))
    total = build.add(first, build.multiply(baskets, each))
    return build.finished(build.divide(build.subtract(total, lost), friends))


def shop() -> Plan:
    """2 pens at 6 dollars, 5 caps at the same 6 plus 3 dollars, paid with 100: 12 + 5 x 9 = 57, and 100 - 57 = 43."""
    build = PlanBuilder(largest=100)
    price, pens, dearer, caps, purse = (build.given(n) for n in (6, 2, 3, 5, 100))
    bill = build.add(build.multiply(pens, price), build.multiply(caps, build.add(price, dearer)))
    return build.finished(build.subtract(purse, bill))


def gift() -> Plan:
    """Tom has twice Mia's 20, then gives her 6: he is ahead by (40 - 6) - (20 + 6) = 8."""
    build = PlanBuilder(largest=100)
    mia = build.given(20)
    tom = build.multiply(mia, build.word(2))
    present = build.given(6)
    return build.finished(build.subtract(build.subtract(tom, present), build.add(mia, present)))


def percent() -> Plan:
    """Of 45 cards 20% are lost, and of the others a third: 45 - 9 = 36, and 36 - 12 = 24."""
    build = PlanBuilder(largest=100)
    cards = build.given(45)
    left = build.subtract(cards, build.percent(cards, build.word(20)))
    return build.finished(build.subtract(left, build.divide(left, build.word(3))))


def truth(plan: Plan, *steps: str) -> list[StepTruth]:
    return list(truths(justified_by(plan), plan.answer, steps))


@pytest.mark.parametrize(("plan", "answer"), [(eggs(), 6), (shop(), 43), (gift(), 8), (percent(), 24)])
def test_answers_by_hand(plan: Plan, answer: int) -> None:
    assert plan.answer == answer
    assert truth(plan, f"Answer: {answer}") == [R]
    assert truth(plan, f"Answer: {answer + 1}") == [W]


@pytest.mark.parametrize(
    ("plan", "step"),
    [
        (eggs(), "The baskets hold 3 x 5 = 15 eggs."),
        (eggs(), "5 * 3 = 15"),
        (eggs(), "5 + 5 + 5 = 15"),
        (eggs(), "That makes 4 + 15 = 19."),
        (eggs(), "4 + 3 x 5 = 19"),
        (eggs(), "15 - 7 = 8"),
        (eggs(), "(4 + 3 x 5 - 7) / 2 = 6"),
        (eggs(), "4 + 15 - 7 = 19 - 7 = 12"),
        (eggs(), "Half of 12 = 6"),
        (eggs(), "7 - 4 = 3"),
        (shop(), "6 + 3 = 9"),
        (shop(), "2 x 6 + 5 x 9 = 57"),
        (shop(), "100 - 12 = 88"),
        (gift(), "20 + 20 = 40"),
        (gift(), "6 + 6 = 12"),
        (gift(), "2 x 6 = 12"),
        (gift(), "34 - 26 = 8"),
        (percent(), "45 x 20 / 100 = 9"),
        (percent(), "20% of 45 = 9"),
        (percent(), "45 / 5 = 9"),
        (percent(), "100 - 20 = 80"),
        (percent(), "45 x 0.8 = 36"),
        (percent(), "45 x 80 / 100 = 36"),
        (percent(), "45 x 20 = 900"),
        (percent(), "1 - 1/3 = 2/3"),
        (percent(), "36 x 2/3 = 24"),
        (percent(), "36 / 3 x 2 = 24"),
    ],
)
def test_calculations_that_the_story_justifies(plan: Plan, step: str) -> None:
    assert truth(plan, step) == [R]


@pytest.mark.parametrize(
    ("plan", "step"),
    [
        (eggs(), "3 x 5 = 16"),
        (eggs(), "4 + 3 = 7"),
        (eggs(), "4 x 3 = 12"),
        (eggs(), "4 + 5 = 9"),
        (eggs(), "19 + 7 = 26"),
        (eggs(), "12 - 7 = 5"),
        (eggs(), "12 x 2 = 24"),
        (eggs(), "12 - 2 = 10"),
        (eggs(), "(4 + 3) x 5 = 35"),
        (eggs(), "3 x 5 = 15, so 15 + 3 = 18"),
        (eggs(), "19 - 7 = 12 / 2 = 6"),
        (eggs(), "15 + 1 = 16"),
        (eggs(), "4 - 7 = -3"),
        (eggs(), "19 - 15 = 4"),
        (gift(), "20 - 40 = -20"),
        (gift(), "40 - 20 = 20"),
        (eggs(), "4 + 8 = 12"),
        (shop(), "2 + 6 = 8"),
        (shop(), "6 x 3 = 18"),
        (shop(), "5 x 6 = 31"),
        (shop(), "100 + 57 = 157"),
        (shop(), "6 - 3 = 3"),
        (gift(), "40 + 6 = 46"),
        (gift(), "20 - 6 = 14"),
        (gift(), "40 + 20 = 60"),
        (gift(), "34 - 20 = 14"),
        (percent(), "45 - 20 = 25"),
        (percent(), "100 - 30 = 70"),
        (percent(), "36 / 2 = 18"),
        (percent(), "1 - 1/4 = 3/4"),
        (percent(), "45 + 9 = 54"),
    ],
)
def test_calculations_that_are_false_or_lead_nowhere(plan: Plan, step: str) -> None:
    assert truth(plan, step) == [W]


def test_an_unusual_grouping_is_known_once_it_was_calculated() -> None:
    assert truth(eggs(), "4 + 8 = 12") == [W]
    assert truth(eggs(), "15 - 7 = 8", "4 + 8 = 12") == [R, R]
    # The 7 pens and caps at the lower price: 2 x 6 + 5 x (6 + 3) is also 7 x 6 + 5 x 3.
    assert truth(shop(), "7 x 6 = 42") == [W]
    assert truth(shop(), "2 + 5 = 7", "7 x 6 = 42", "5 x 3 = 15", "42 + 15 = 57") == [R, R, R, R]


def test_words_are_neutral_and_what_cannot_be_read_is_unreadable() -> None:
    assert truth(eggs(), "First we look at the baskets.", "x + 4 = 19", "4 + y = 19", "8 / 0 = 4") == [N, U, U, U]


def test_nothing_may_follow_the_answer() -> None:
    assert truth(eggs(), "3 x 5 = 15", "Answer: 6", "", "Answer: 6") == [R, R, N, W]
    assert truth(eggs(), "4 + 15 = 19\nAnswer: 6", "More") == [R, W]
    assert truth(eggs(), "4 + 15 = 20\nAnswer: 6") == [W]


@pytest.mark.parametrize("line", ["Answer: six", "Answer: 6 eggs", "answer: 6", "Answer: $6", "Answer: " + "6" * 30])
def test_an_answer_in_another_form_is_wrong_because_no_verifier_reads_it(line: str) -> None:
    assert truth(eggs(), line) == [W]


def test_an_answer_may_have_zeros_in_front_as_for_the_verifier() -> None:
    assert truth(eggs(), "Answer: 06") == [R]


def test_a_number_that_cancels_out_is_no_part_of_the_answer() -> None:
    build = PlanBuilder(largest=100)
    mine, yours, present = build.given(9), build.given(5), build.given(3)
    together = build.add(build.subtract(mine, present), build.add(yours, present))
    plan = build.finished(together)
    assert essential_symbols(plan) == {mine, yours}


def test_plans_refuse_numbers_that_no_story_should_have() -> None:
    build = PlanBuilder(largest=50)
    seven, nine = build.given(7), build.given(9)
    for calculate in (lambda: build.divide(nine, seven), lambda: build.subtract(seven, nine), lambda: build.given(1)):
        with pytest.raises(MisfitError):
            calculate()
    with pytest.raises(MisfitError, match="between 2 and 50"):
        build.multiply(seven, nine)
    with pytest.raises(MisfitError, match="not a whole number"):
        build.percent(seven, build.word(20))
    with pytest.raises(MisfitError, match="not needed"):
        build.finished(build.add(seven, seven))


def test_a_step_with_very_many_readings_is_unreadable_and_not_slow() -> None:
    build = PlanBuilder(largest=10**6)
    total = build.given(2)
    for _ in range(9):
        total = build.add(total, build.given(2))
    plan = build.finished(total)
    assert truth(plan, " x ".join(["2"] * 20) + " = 1048576")[0] in (W, U)
