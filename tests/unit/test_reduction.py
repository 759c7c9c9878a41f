"""The family "reduction": problems, splits, the exact checker, the registry."""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement
from random import Random

import pytest

from scope_rlvr.core.types import Problem
from scope_rlvr.problems import families
from scope_rlvr.problems.reduction import MODULUS, Reduction, identity, make_problem, numbers_of

FAMILY = Reduction()
PROBLEM = make_problem([0, 3, 5, 7])
STEPS = ["3 + 7 = 10 : 0 5 10", "0 + 10 = 10 : 5 10", "5 + 10 = 2 : 2", "answer 2"]


def test_the_worked_example_is_right():
    assert PROBLEM.prompt == "reduce 0 3 5 7\n\n"
    assert PROBLEM.reference == "2"
    assert PROBLEM.level == 4
    assert FAMILY.first_wrong_step(PROBLEM, STEPS) is None


@pytest.mark.parametrize("num_steps", range(4))
def test_a_right_beginning_has_no_wrong_step(num_steps):
    assert FAMILY.first_wrong_step(PROBLEM, STEPS[:num_steps]) is None


@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        (0, "3 + 7 = 11 : 0 5 11"),
        (0, "3 + 7 = 10 : 0 5"),
        (0, "3 + 7 = 10 : 5 0 10"),
        (0, "3 + 3 = 6 : 0 5 6 7"),
        (0, "3 + 7 = 10 : 0 5 10 answer 2"),
        (0, "3 + 7 = 10"),
        (0, "03 + 7 = 10 : 0 5 10"),
        (0, ""),
        (1, "3 + 5 = 8 : 8"),
        (1, "answer 2"),
        (2, "5 + 10 = 15 : 15"),
        (3, "answer 3"),
        (3, "answer 15"),
        (3, "answer 02"),
        (3, "the answer is 2"),
    ],
)
def test_the_first_wrong_step_is_found(at, wrong):
    steps = [*STEPS[:at], wrong, *STEPS[at + 1 :]]
    assert FAMILY.first_wrong_step(PROBLEM, steps) == at


def test_whatever_follows_the_answer_is_wrong():
    assert FAMILY.first_wrong_step(PROBLEM, [*STEPS, "answer 2"]) == 4


def test_spaces_around_a_step_do_not_matter():
    assert FAMILY.first_wrong_step(PROBLEM, [f"{step}\n\n" for step in STEPS]) is None


def test_a_problem_of_another_family_is_refused():
    with pytest.raises(ValueError, match="not of the family 'reduction'"):
        FAMILY.first_wrong_step(Problem(id="q", prompt="What is 1 + 1?", reference="2"), ["answer 2"])


def test_sampling_is_deterministic_and_without_repeats():
    problems = FAMILY.sample(6, 200, seed=3)
    assert problems == FAMILY.sample(6, 200, seed=3)
    assert problems != FAMILY.sample(6, 200, seed=4)
    assert problems[:50] == FAMILY.sample(6, 50, seed=3)
    assert len({problem.id for problem in problems}) == 200
    assert all(len(numbers_of(problem)) == problem.level == 6 for problem in problems)


@pytest.mark.parametrize("level", [2, 3, 6])
def test_no_problem_is_in_two_splits(level):
    splits = [{p.id for p in FAMILY.sample(level, 80, 0, split=split)} for split in ("train", "dev", "test")]
    assert all(not one & other for one, other in combinations(splits, 2))


def test_a_split_that_is_used_up_starts_over():
    ids = [problem.id for problem in FAMILY.sample(2, 200, seed=0)]
    num_problems = len(list(combinations_with_replacement(range(MODULUS), 2)))
    num_different = len(set(ids))
    assert num_different < num_problems
    assert len(set(ids[:num_different])) == num_different


@pytest.mark.parametrize(("arguments", "message"), [((1, 1, 0), "from 2 to 1000; got 1"), ((0, 1, 0), "got 0")])
def test_impossible_levels_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        FAMILY.sample(*arguments)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="train, dev, test"):
        FAMILY.sample(4, 1, 0, split="validation")  # type: ignore[arg-type]


def test_ids_name_the_numbers_whatever_their_order():
    assert identity([5, 3]) == identity([3, 5]) != identity([3, 5, 5])
    assert identity([1, 12]) != identity([11, 2])


def test_solutions_differ_in_order_but_not_in_answer():
    problem = make_problem([1, 2, 3, 4, 5, 6])
    solutions = {FAMILY.random_solution(problem, Random(seed)) for seed in range(20)}
    assert len(solutions) > 15
    assert {solution.split("\n\n")[-1] for solution in solutions} == {f"answer {problem.reference}"}
    assert FAMILY.canonical_solution(problem).startswith("1 + 2 = 3 : 3 3 4 5 6\n\n3 + 3 = 6 : 4 5 6 6\n\n")


def test_the_registry_knows_the_family_and_names_it_in_its_error():
    assert families.get("reduction").name == "reduction"
    with pytest.raises(ValueError, match="no embedded problem family 'countdwn'; known families: reduction"):
        families.get("countdwn")
