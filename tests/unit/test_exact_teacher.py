"""The exact solver: any beginning of a right solution is continued rightly, any other not at all."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.ports import TeacherRequest
from scope_rlvr.core.teacher_text import read_reply
from scope_rlvr.core.types import Problem
from scope_rlvr.problems.reduction import Reduction, make_problem
from scope_rlvr.teachers.exact import ExactTeacher
from tests.doubles import toolbox

FAMILY = Reduction()
NUMBERS = st.lists(st.integers(0, 12), min_size=2, max_size=7)


def is_right(problem: Problem, text: str) -> bool:
    steps = text.split(FAMILY.separator)
    return FAMILY.first_wrong_step(problem, steps) is None and steps[-1] == f"answer {problem.reference}"


@given(numbers=NUMBERS, seed=st.integers(0, 99), share=st.floats(0, 1))
def test_any_beginning_of_a_right_solution_is_finished_rightly(numbers: list[int], seed: int, share: float) -> None:
    problem = make_problem(numbers)
    text = FAMILY.random_solution(problem, Random(seed))
    prefix = text[: int(share * len(text))]
    rest = FAMILY.canonical_rest(problem, prefix)
    assert rest is not None
    assert is_right(problem, prefix + rest)


@given(numbers=NUMBERS)
def test_from_nothing_it_is_the_canonical_solution(numbers: list[int]) -> None:
    problem = make_problem(numbers)
    assert FAMILY.canonical_rest(problem, "") == FAMILY.canonical_solution(problem)


@given(numbers=st.lists(st.integers(0, 12), min_size=3, max_size=6), seed=st.integers(0, 99))
def test_after_a_wrong_step_there_is_nothing_to_say(numbers: list[int], seed: int) -> None:
    problem = make_problem(numbers)
    text = FAMILY.random_solution(problem, Random(seed), write_sum=lambda a, b: (a + b + 1) % 13)
    first, separator, _ = text.partition(FAMILY.separator)
    assert FAMILY.canonical_rest(problem, first + separator) is None


@pytest.mark.parametrize("prefix", ["answer 2", "nonsense", "3 + 3", "0 + 3 = 3 : 3 5 7\n\nanswer 3\n\n", "0 + 3 = 4"])
def test_what_begins_no_right_solution_has_no_rest(prefix: str) -> None:
    assert FAMILY.canonical_rest(make_problem([0, 3, 5, 7]), prefix) is None


@pytest.mark.parametrize("end", ["", "\n\n"])
def test_a_finished_solution_has_an_empty_rest(end: str) -> None:
    problem = make_problem([5, 9])
    assert FAMILY.canonical_rest(problem, FAMILY.canonical_solution(problem) + end) == ""


@given(numbers=NUMBERS, seed=st.integers(0, 99))
def test_step_by_step_it_ends_with_the_answer(numbers: list[int], seed: int) -> None:
    problem, text = make_problem(numbers), ""
    for number in range(len(numbers)):
        request = TeacherRequest(problem, (), (), text, max_tokens=200, stop_text="\n\n")
        (reply,) = ExactTeacher(FAMILY).continue_from([request], seed=seed)
        written = read_reply(reply, toolbox(), step_tokens=200)
        text += "".join(toolbox().codec.pieces(written.segment.token_ids))
        assert written.ended
        assert written.finished is (number == len(numbers) - 1)
    assert is_right(problem, text)


def test_asked_for_the_rest_it_writes_it_all() -> None:
    problem = make_problem([0, 3, 5])
    request = TeacherRequest(problem, (), (), "0 + 3 = 3 : 3 5\n\n", max_tokens=200)
    (reply,) = ExactTeacher(FAMILY).continue_from([request], seed=0)
    assert (reply.text, reply.finished) == ("3 + 5 = 8 : 8\n\nanswer 8", True)
