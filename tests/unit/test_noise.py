"""Helpers that are wrong as often as they are told to be, the exact scorer, and what a teacher is shown."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.ports import TeacherReply, TeacherRequest
from scope_rlvr.core.types import Problem
from scope_rlvr.problems.reduction import Reduction, make_problem
from scope_rlvr.scorers.exact import ExactScorer
from scope_rlvr.scorers.noisy import NoisyScorer
from scope_rlvr.teachers.noisy import NoisyTeacher
from tests.doubles import PROBLEM, CharCodec, ScriptedTeacher, TableScorer

STEPS = ("good", "bad", "bad", "end")


def first_wrong(scorer, steps=STEPS, problem=PROBLEM):
    return scorer.rule.first_wrong(scorer.score([(problem, steps)])[0])


def test_without_noise_nothing_moves():
    assert NoisyScorer(TableScorer(), 0.0, seed=0).score([(PROBLEM, STEPS)]) == [(0.9, 0.1, 0.1, 0.9)]


def test_with_full_noise_every_first_wrong_step_is_another_one():
    found = {first_wrong(NoisyScorer(TableScorer(), 1.0, seed)) for seed in range(60)}
    assert found == {0, 2, 3}


def test_the_share_of_moved_solutions_is_the_share_asked_for():
    scorer = NoisyScorer(TableScorer(), 0.3, seed=0)
    moved = sum(first_wrong(scorer, (*STEPS, str(i))) != 1 for i in range(1000))
    # Five standard deviations of a binomial count of 1000 at 0.3.
    assert abs(moved - 300) < 5 * (1000 * 0.3 * 0.7) ** 0.5


def test_the_same_solution_is_judged_the_same_way_every_time_whatever_it_comes_with():
    scorer = NoisyScorer(TableScorer(), 0.5, seed=3)
    solutions = [(PROBLEM, (*STEPS, str(i))) for i in range(20)]
    assert scorer.score(solutions) == scorer.score(solutions[::-1])[::-1]


def test_what_could_not_be_scored_stays_so_and_one_step_has_no_other():
    noisy = NoisyScorer(TableScorer(distort=lambda scores: None), 1.0, seed=0)
    assert noisy.score([(PROBLEM, STEPS)]) == [None]
    assert NoisyScorer(TableScorer(), 1.0, seed=0).score([(PROBLEM, ("bad",))]) == [(0.1,)]


@given(st.lists(st.integers(0, 12), min_size=3, max_size=8), st.integers(0, 99))
def test_the_exact_scorer_agrees_with_the_family(numbers, seed):
    problem, family = make_problem(numbers), Reduction()
    rng = Random(seed)
    solution = family.random_solution(problem, rng, write_sum=lambda a, b: (a + b + (rng.random() < 0.2)) % 13)
    steps = solution.split(family.separator)
    assert first_wrong(ExactScorer(family), steps, problem) == family.first_wrong_step(problem, steps)


def asked(teacher, problem=PROBLEM, stop_text="\n\n", seed=0):
    return teacher.continue_from([TeacherRequest(problem, (), (), "", 50, stop_text=stop_text)], seed=seed)[0]


NUMBERS = Problem("n", "reduce 3 5", "8")


def test_a_noisy_teacher_changes_one_number_into_another_that_is_there():
    teacher = NoisyTeacher(ScriptedTeacher(["3 + 5 = 8\n\n"]), 1.0, CharCodec(), seed=0)
    texts = {asked(teacher, NUMBERS, seed=seed).text for seed in range(60)}
    changed = {t for a in ("3", "5", "8") for t in (f"{a} + 5 = 8\n\n", f"3 + {a} = 8\n\n", f"3 + 5 = {a}\n\n")}
    assert texts == changed - {"3 + 5 = 8\n\n"}


def test_a_noisy_teacher_is_wrong_as_often_as_it_is_told():
    teacher = NoisyTeacher(ScriptedTeacher(["3 + 5 = 8\n\n"]), 0.3, CharCodec(), seed=0)
    altered = sum(asked(teacher, NUMBERS, seed=seed).text is not None for seed in range(1000))
    assert abs(altered - 300) < 5 * (1000 * 0.3 * 0.7) ** 0.5


@pytest.mark.parametrize("reply", [TeacherReply(error="down"), TeacherReply(text="no numbers"), TeacherReply(text="")])
def test_what_cannot_be_altered_is_left_alone(reply):
    assert asked(NoisyTeacher(ScriptedTeacher([reply]), 1.0, CharCodec(), seed=0)) == reply


def test_how_a_reply_ended_is_kept():
    for script, finished, cut_off in (("3|", True, False), ("3\n\n", False, False), ("3", False, True)):
        reply = asked(NoisyTeacher(ScriptedTeacher([script]), 1.0, CharCodec(), seed=0), NUMBERS)
        assert (reply.token_ids, reply.finished, reply.is_cut_off) == (None, finished, cut_off)
