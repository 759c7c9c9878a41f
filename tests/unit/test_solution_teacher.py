"""Worked solutions as a teacher: which step comes next after a beginning that somebody else wrote."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_rlvr.core.accounting import TeacherLog
from scope_rlvr.core.ports import Fault, TeacherReply, TeacherRequest
from scope_rlvr.core.types import Problem
from scope_rlvr.problems import families
from scope_rlvr.teachers.alignment import WorkedSolution
from scope_rlvr.teachers.solutions import SolutionTeacher

SOLUTION = """\
Let us count the boxes.
2 boxes hold 2 x 6 = 12 eggs.
3 + 1 = 4 eggs are eaten.
12 - 4 = 8 eggs are left.
8 x 5 = 40 cents
#### 40"""
PROBLEM = Problem(
    "eggs", "2 boxes of 6 eggs. Mia eats 3 and then 1. The others cost 5 cents each.", "40", solution=SOLUTION
)
BOXES, EATEN, LEFT, CENTS, ANSWER = (
    "Let us count the boxes. 2 boxes hold 2 x 6 = 12 eggs.",
    "3 + 1 = 4 eggs are eaten.",
    "12 - 4 = 8 eggs are left.",
    "8 x 5 = 40 cents",
    "#### 40",
)


def ask(prefix: str, *, problem: Problem = PROBLEM, stop_text: str | None = "\n\n") -> TeacherReply:
    request = TeacherRequest(problem, (), (1,) if prefix else (), prefix, max_tokens=99, stop_text=stop_text)
    (reply,) = SolutionTeacher().continue_from([request], seed=0)
    return reply


@pytest.mark.parametrize(
    ("prefix", "step"),
    [
        ("", BOXES),
        ("She wonders.\n\n", BOXES),
        ("There are 6 * 2 = 12 eggs.\n\n", EATEN),
        # Another order of steps.
        ("3 + 1 = 4 are gone.\n\n", BOXES),
        # Two steps in one, and a step that is not needed any more.
        ("2 x 6 - 3 - 1 = 8 eggs\n\n", CENTS),
        ("2 x 6 = 12\n\n12 - 3 - 1 = 8 eggs\n\n", CENTS),
        # A result without its calculation.
        ("The boxes hold 12 eggs.\n\n", EATEN),
        ("2 x 6 = 12; 3 + 1 = 4; 12 - 4 = 8\n\nSo 8 x 5 = 40\n\n", ANSWER),
        # The 6 and the 2 are given: nothing was worked out.
        ("2 boxes of 6 eggs.\n\n", BOXES),
        ("Step 4: 6 x 2 = 12\n\n", EATEN),
    ],
)
def test_the_next_step_is_the_first_that_is_missing_and_needed(prefix: str, step: str) -> None:
    reply = ask(prefix)
    is_last = step == ANSWER
    assert (reply.text, reply.finished) == (step + ("" if is_last else "\n\n"), is_last)
    assert reply.is_aligned


def test_the_rest_has_every_step_that_is_missing() -> None:
    reply = ask("3 + 1 = 4\n\n", stop_text=None)
    assert (reply.text, reply.finished) == ("\n\n".join([BOXES, LEFT, CENTS, ANSWER]), True)


def test_the_whole_solution_is_the_solution_as_it_is() -> None:
    assert ask("", stop_text=None).text == SOLUTION


def test_equal_results_of_different_calculations_are_told_apart() -> None:
    problem = Problem("sevens", "3, 4 and 10", "14", solution="3 + 4 = 7\n\n10 - 3 = 7\n\n7 + 7 = 14")
    assert ask("10 - 3 = 7\n\n", problem=problem).text == "3 + 4 = 7\n\n"
    assert ask("4 + 3 = 7\n\n", problem=problem).text == "10 - 3 = 7\n\n"


@pytest.mark.parametrize(
    ("prefix", "why"),
    [
        ("6 - 5 = 1\n\n", "none of the results"),
        ("2 x 6 = 12 eg", "inside a step"),
        (f"{BOXES}\n\n{EATEN}\n\n{LEFT}\n\n{CENTS}\n\n40 eggs cost 12 x 40 = 480\n\n{ANSWER}", "inside a step"),
    ],
)
def test_a_solution_that_does_not_go_on_from_the_prefix_is_refused(prefix: str, why: str) -> None:
    reply = ask(prefix)
    assert (reply.text, reply.fault, reply.is_aligned) == (None, Fault.UNALIGNED, False)
    assert reply.error is not None
    assert "eggs" in reply.error
    assert why in reply.error


def test_a_problem_without_a_solution_is_refused() -> None:
    for stop_text in (None, "\n\n"):
        reply = ask("", problem=Problem("p", "1 + 1?", "2"), stop_text=stop_text)
        assert (reply.fault, reply.is_aligned, reply.text) == (Fault.NO_SOLUTION, None, None)


PROOF = "Every even number is twice a number.\n\nSo the sum of two is twice a sum.\n\nThat is even."


def test_where_nothing_is_calculated_words_tell_the_place() -> None:
    problem = Problem("even", "Is the sum of two even numbers even?", "yes", solution=PROOF)
    assert ask("An even number is always twice a number.\n\n", problem=problem).text == (
        "So the sum of two is twice a sum.\n\n"
    )
    last = ask("Hm.\n\nThe sum of two is so twice a sum.\n\n", problem=problem)
    assert (last.text, last.finished) == ("That is even.", True)
    assert ask("Let us look for counterexamples.\n\n", problem=problem).fault is Fault.UNALIGNED
    assert "nothing that is not there" in (ask("That is even.\n\n", problem=problem).error or "")


ALGEBRA = """\
Let S be the price.
Then 30 + 46 + 38 = 114 is the rest.
So S + 114 = 184.
S = 184 - 114 = 70
Answer: 70"""


@pytest.mark.parametrize(
    ("prefix", "step"),
    [
        ("46 + 30 + 38 = 114\n\n", "So S + 114 = 184."),
        ("46 + 30 + 38 = 114\n\nSo x + 114 = 184.\n\n", "S = 184 - 114 = 70"),
        ("The rest costs 114.\n\n184 - 114 = 70\n\n", "Answer: 70"),
    ],
)
def test_equations_with_letters_have_a_place_and_no_result(prefix: str, step: str) -> None:
    problem = Problem("price", "30, 46, 38 and one more come to 184.", "70", solution=ALGEBRA)
    assert (ask(prefix, problem=problem).text or "").strip() == step


def test_a_number_inside_a_calculation_is_no_result_of_its_own() -> None:
    problem = Problem("half", "Half of 10, and a fifth of it.", "7", solution="10/2 = 5\n10/5 = 2\n5 + 2 = 7")
    assert ask("10/2 = 5\n\n", problem=problem).text == "10/5 = 2\n\n"


def test_steps_are_cut_at_the_separator_and_else_at_lines() -> None:
    assert WorkedSolution.read("1 + 1 = 2\nsee?\n\n2 + 2 = 4", "\n\n").steps == ("1 + 1 = 2\nsee?", "2 + 2 = 4")
    assert WorkedSolution.read("1 + 1 = 2\n2 + 2 = 4", "\n\n").steps == ("1 + 1 = 2", "2 + 2 = 4")


def test_many_equal_results_take_no_time() -> None:
    text = "\n".join(["1 * 1 = 1"] * 400)
    assert WorkedSolution.read(text, "\n\n").rest("one", "1 * 1 = 1\n\n", "\n\n")


def test_the_share_that_aligned_is_counted() -> None:
    log = TeacherLog()
    log.add(
        [ask("6 x 2 = 12\n\n"), ask("6 - 5 = 1\n\n"), ask("", problem=Problem("p", "?", "1")), TeacherReply(text="7")]
    )
    assert (log.num_aligned, log.num_to_align) == (1, 2)
    assert log.counts["teacher/errors/unaligned"] == log.counts["teacher/errors/no_solution"] == 1


@settings(deadline=None)
@given(st.sampled_from(["stories", "stories-percent", "stories-distractors"]), st.integers(2, 8), st.integers(0, 10**6))
def test_any_right_beginning_of_a_story_is_led_to_a_right_end(name: str, level: int, seed: int) -> None:
    """Whatever the order of the beginning, whatever it merges: the checker finds no wrong step, and the answer is there."""
    family, rng = families.get(name), Random(seed)
    (problem,) = family.sample(level, 1, seed)
    steps = family.random_solution(problem, rng).split(family.separator)
    text = "".join(step + family.separator for step in steps[: rng.randrange(len(steps))])
    for _ in range(level + 1):
        reply = ask(text, problem=problem)
        text += reply.text or ""
        if reply.finished:
            break
    assert reply.finished
    assert family.first_wrong_step(problem, text.split(family.separator)) is None
    assert text.endswith(f"Answer: {problem.reference}")


def test_a_long_beginning_is_read_step_by_step() -> None:
    wordy = "So she thinks about it once more. " * 60 + "\n\n"
    assert ask(wordy * 3 + "6 x 2 = 12\n\n").text == f"{EATEN}\n\n"
