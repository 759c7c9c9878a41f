"""What must hold for every story, of every set, split and level, whatever the order and the words of its solution."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import combinations
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from scope_rlvr.core.types import Problem
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.problems.stories.algebra import Monomial, formulas_of
from scope_rlvr.problems.stories.checker import StepTruth
from scope_rlvr.problems.stories.family import MAX_LEVEL, MIN_LEVEL, VARIANTS, Stories
from scope_rlvr.problems.stories.plan import Operation, Plan

FAMILIES = {name: Stories(name) for name in VARIANTS}
NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
NUMBER_WORDS |= {"twice": 2, "half": 2, "third": 3, "quarter": 4}
RANDOM = st.integers(0, 2**32).map(Random)
MODERATE = settings(max_examples=100, deadline=None)


@st.composite
def problems(draw: st.DrawFn, name: str | None = None) -> tuple[Stories, Problem]:
    family = FAMILIES[name or draw(st.sampled_from(sorted(FAMILIES)))]
    split = draw(st.sampled_from(["train", "dev", "test"]))
    level, seed = draw(st.integers(MIN_LEVEL, MAX_LEVEL)), draw(st.integers(0, 10**6))
    return family, family.sample(level, 1, seed, split=split)[0]


def steps_of(family: Stories, solution: str) -> list[str]:
    return solution.split(family.separator)


@MODERATE
@given(problems(), RANDOM)
def test_every_solution_is_right_at_every_step(drawn, rng):
    family, problem = drawn
    verifier = FinalAnswerVerifier(family.answer_pattern)
    for solution in (problem.solution, family.canonical_solution(problem), family.random_solution(problem, rng)):
        steps = steps_of(family, solution)
        assert len(steps) == problem.level + 1
        assert family.step_truths(problem, steps) == [StepTruth.RIGHT] * len(steps)
        assert family.first_wrong_step(problem, steps) is None
        assert verifier.verify([(problem, solution)])[0].is_right


@MODERATE
@given(problems(), RANDOM)
def test_any_order_of_right_steps_is_right(drawn, rng):
    """Even one that goes against the plan: a number may be used before the step that calculates it."""
    family, problem = drawn
    *steps, answer = steps_of(family, family.random_solution(problem, rng))
    rng.shuffle(steps)
    assert family.first_wrong_step(problem, [*steps, answer]) is None


@MODERATE
@given(problems(), RANDOM, st.integers(1, 9))
def test_one_altered_number_is_found_in_its_step(drawn, rng, shift):
    family, problem = drawn
    steps = steps_of(family, family.random_solution(problem, rng))
    at = rng.randrange(len(steps))
    number = rng.choice(list(re.finditer(r"\d+", steps[at])))
    steps[at] = f"{steps[at][: number.start()]}{int(number[0]) + shift}{steps[at][number.end() :]}"
    assert family.first_wrong_step(problem, steps) == at


@MODERATE
@given(problems(), RANDOM)
def test_another_operation_is_found_unless_its_result_is_some_number_of_the_story(drawn, rng):
    family, problem = drawn
    steps = steps_of(family, family.random_solution(problem, rng))
    changed = [(at, step) for at, text in enumerate(steps[:-1]) if (step := with_another_operation(text, rng))]
    at, (text, result) = rng.choice(changed)
    found = family.first_wrong_step(problem, [*steps[:at], text, *steps[at + 1 :]])
    assert found == at or result in values_of_parts(family.story_of(problem).plan)


def with_another_operation(step: str, rng: Random) -> tuple[str, Fraction] | None:
    """The step with another sign and what is then true, and that result."""
    calculation = re.search(r"(\d+) ([-+x/]) (\d+) = \d+", step)
    if calculation is None:
        return None
    a, sign, b = int(calculation[1]), calculation[2], int(calculation[3])
    results = {"+": Fraction(a + b), "-": Fraction(a - b), "x": Fraction(a * b), "/": Fraction(a, b)}
    other = rng.choice(sorted(results.keys() - {sign}))
    return step.replace(calculation[0], f"{a} {other} {b} = {results[other]}"), results[other]


def values_of_parts(plan: Plan) -> set[Fraction]:
    """The values that parts of a plan can have at most: any sum of terms, divided by any of their factors."""
    found: set[Fraction] = set()
    for formula in formulas_of(plan):
        terms = [value(coefficient, monomial, plan) for monomial, coefficient in formula.items()]
        factors = {Fraction(1), *(Fraction(plan.quantities[s].value) for monomial in formula for s, _ in monomial)}
        factors |= {a * b for a in factors for b in factors} | {abs(coefficient) for coefficient in formula.values()}
        factors |= {1 / factor for factor in factors}
        sums = {sum(chosen) for size in range(1, len(terms) + 1) for chosen in combinations(terms, size)}
        found |= {sign * total / factor for total in sums for factor in factors for sign in (1, -1)}
    return found


def value(coefficient: Fraction, monomial: Monomial, plan: Plan) -> Fraction:
    total = coefficient
    for symbol, exponent in monomial:
        total *= Fraction(plan.quantities[symbol].value) ** exponent
    return total


@MODERATE
@given(problems(), RANDOM)
def test_a_wrong_answer_is_wrong_and_nothing_follows_the_answer(drawn, rng):
    family, problem = drawn
    *steps, answer = steps_of(family, family.random_solution(problem, rng))
    assert family.first_wrong_step(problem, [*steps, f"Answer: {int(problem.reference) + 1}"]) == len(steps)
    assert family.first_wrong_step(problem, [*steps, answer, steps[0]]) == len(steps) + 1


@MODERATE
@given(problems(), RANDOM, st.floats(0, 1))
def test_every_beginning_of_a_right_solution_is_finished_rightly(drawn, rng, share):
    family, problem = drawn
    text = family.random_solution(problem, rng)
    prefix = text[: int(share * len(text))]
    for rest in (family.canonical_rest(problem, prefix), family.random_rest(problem, prefix, rng)):
        assert rest is not None
        steps = steps_of(family, prefix + rest)
        assert family.step_truths(problem, steps) == [StepTruth.RIGHT] * len(steps)
        assert steps[-1] == f"Answer: {problem.reference}"


@MODERATE
@given(problems(), RANDOM)
def test_after_a_wrong_step_there_is_no_rest(drawn, rng):
    family, problem = drawn
    steps = steps_of(family, family.random_solution(problem, rng))
    at = rng.randrange(len(steps) - 1)
    number = re.search(r"= (\d+)", steps[at])
    wrong = steps[at].replace(number[0], f"= {int(number[1]) + 1}")
    assert family.canonical_rest(problem, family.separator.join([*steps[:at], wrong, ""])) is None


@MODERATE
@given(problems(), st.lists(st.text(), max_size=4), st.text(alphabet="0123456789+-*/x=(). \n$%,ofA:nswer", max_size=60))
def test_no_text_breaks_checker_and_solver(drawn, steps, formula):
    family, problem = drawn
    found = family.first_wrong_step(problem, [*steps, formula])
    assert found is None or 0 <= found <= len(steps)
    rest = family.canonical_rest(problem, family.separator.join([*steps, formula]))
    if rest is not None:
        whole = steps_of(family, family.separator.join([*steps, formula]) + rest)
        assert family.first_wrong_step(problem, whole) is None


@MODERATE
@given(problems())
def test_a_story_follows_from_the_id_of_its_problem(drawn):
    family, problem = drawn
    story = family.story_of(problem)
    assert story.text == problem.prompt.strip()
    assert story.plan.answer == int(problem.reference)
    assert len(story.plan.operations) == problem.level


@MODERATE
@given(problems())
def test_the_numbers_of_the_text_are_those_of_the_plan(drawn):
    family, problem = drawn
    text = re.sub(r"third (?:day|week)", "last time", problem.prompt.lower())
    written = [int(n) for n in re.findall(r"\d+", text)]
    written += [NUMBER_WORDS[word] for word in re.findall(r"[a-z]+", text) if word in NUMBER_WORDS]
    needed = [quantity.value for quantity in family.story_of(problem).plan.quantities if quantity.operation is None]
    spare = _without(written, needed)
    assert len(spare) in (range(1, 4) if family.name == "stories-distractors" else (0,))


def _without(numbers: list[int], taken: list[int]) -> list[int]:
    left = list(numbers)
    for number in taken:
        assert number in left, (numbers, taken)
        left.remove(number)
    return left


@MODERATE
@given(problems("stories-percent"))
def test_percentages_are_in_every_story_of_their_set(drawn):
    family, problem = drawn
    assert "%" in problem.prompt
    assert Operation.PERCENT in {quantity.operation for quantity in family.story_of(problem).plan.quantities}
